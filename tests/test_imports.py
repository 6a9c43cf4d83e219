"""Imports point recipes -> cli -> workflow -> stages -> core, never back and never sideways."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "sft_diversity"
HEAVY = {"torch", "transformers", "trl", "peft", "datasets", "sentence_transformers", "faiss"}
SHARED = {"core", "endpoint"}  # ground that every stage may stand on
TOP = {
    "__main__",
    "describe",
    "selection",
    "__init__",
    "cli",
    "options",
    "printing",
    "printing_fit",
    "workflow",
    "work",
    "doctor",
}
ABOVE = {"__init__", "cli", "study", "cluster"}  # chain verbs: they stand on workflow


def imported_rooms(path: Path) -> set[str]:
    """Return the names directly under `sft_diversity` that a file imports, at any depth."""
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            rooms |= {
                a.name.split(".")[1] for a in node.names if a.name.startswith("sft_diversity.")
            }
        elif isinstance(node, ast.ImportFrom) and node.module == "sft_diversity":
            rooms |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sft_diversity."):
            rooms.add((node.module or "").split(".")[1])
    return rooms


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: p.stem)
def test_a_stage_imports_only_itself_and_shared_ground(path):
    room = room_of(path)
    if room in {*TOP, *ABOVE} or room == "_files":
        return
    allowed = {"core", room} if room in SHARED else {*SHARED, room}
    assert imported_rooms(path) <= allowed


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: p.stem)
def test_only_the_command_line_stands_on_study(path):
    assert room_of(path) in ABOVE or "study" not in imported_rooms(path)


@pytest.mark.parametrize("path", sorted((PACKAGE / "study").glob("*.py")), ids=lambda p: p.stem)
def test_study_knows_nothing_of_the_command_line(path):
    assert not imported_rooms(path) & {"cli", "options", "printing", "printing_fit"}


@pytest.mark.parametrize("path", sorted((PACKAGE / "core").glob("*.py")), ids=lambda p: p.stem)
def test_core_loads_no_heavy_library_at_import(path):
    tops = [
        n
        for n in ast.parse(path.read_text("utf-8")).body
        if isinstance(n, ast.Import | ast.ImportFrom)
    ]
    names = {a.name.split(".")[0] for n in tops if isinstance(n, ast.Import) for a in n.names}
    names |= {(n.module or "").split(".")[0] for n in tops if isinstance(n, ast.ImportFrom)}
    assert not names & HEAVY


def test_help_loads_no_heavy_library():
    code = (
        "import sys; import sft_diversity.cli, sft_diversity.workflow; "
        f"print(sorted(set(sys.modules) & {HEAVY!r}))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
