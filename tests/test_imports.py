"""Imports point recipes -> cli -> verbs -> stages -> core, never back and never sideways."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "sft_diversity"
HEAVY = {
    "torch", "transformers", "trl", "peft", "datasets", "sentence_transformers", "faiss", "openai",
    "matplotlib", "statsmodels",
}  # fmt: skip
ARRAYS = {"numba", "polars", "pyarrow", "scipy", "sklearn", "pandas"}
SHARED = {"core", "endpoint", "maps"}  # ground that every stage may stand on
ABOVE = {
    "studies",
    "cluster",
    "exploring",
    "verbs",
}  # they stand on stages: verbs, and what chains verbs
ROOMS = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name[0] not in "_."}


def modules(room: str = "**") -> Iterator[tuple[str, Path, ast.Module]]:
    for path in sorted(PACKAGE.glob(f"{room}/*.py")):
        yield path.relative_to(PACKAGE).parts[0], path, ast.parse(path.read_text("utf-8"))


def rooms_imported(tree: ast.Module) -> set[str]:
    """Return the names directly under `sft_diversity` that a module imports, at any depth."""
    rooms = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "sft_diversity":
            names = [f"sft_diversity.{a.name}" for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        else:
            continue
        rooms |= {name.split(".")[1] for name in names if name.startswith("sft_diversity.")}
    return rooms


def test_a_stage_imports_only_its_own_room_and_shared_ground():
    faults = []
    for room, path, tree in modules():
        if room not in ROOMS - ABOVE:
            continue
        allowed = {"core", room} if room in SHARED else {*SHARED, room}
        if sideways := rooms_imported(tree) - allowed:
            faults.append(f"{path.relative_to(ROOT)} imports {', '.join(sorted(sideways))}")
    assert not faults, "\n".join(faults)


def test_studies_stand_on_the_verbs_and_only_the_command_line_on_studies():
    for room, path, tree in modules():
        if room == "studies":
            assert "cli" not in rooms_imported(tree), path
        elif room not in {*ABOVE, "__init__.py"}:
            assert "studies" not in rooms_imported(tree), path


def test_core_loads_no_heavy_library_at_import():
    for _, path, tree in modules("core"):
        tops = [n for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)]
        names = {a.name.split(".")[0] for n in tops if isinstance(n, ast.Import) for a in n.names}
        names |= {(n.module or "").split(".")[0] for n in tops if isinstance(n, ast.ImportFrom)}
        assert not names & HEAVY, path


def loaded(code: str) -> set[str]:
    code = f"import sys; {code}; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def test_help_loads_no_heavy_library():
    assert not loaded("import sft_diversity.cli") & {*HEAVY, *ARRAYS, "pydantic"}
    every = "from sft_diversity.verbs import VERBS; [v.function() for v in VERBS.values()]"
    assert not loaded(every) & HEAVY


def test_the_package_loads_nothing_until_a_name_is_asked_for():
    assert not loaded("import sft_diversity") & {*HEAVY, *ARRAYS, "pydantic", "typer"}
    assert "sft_diversity.training.uba" in loaded("from sft_diversity import uba_factor")


def test_who_finds_a_subset_finished_loads_no_kernel(topical, tokenizer, tmp_path):
    options = f"{str(topical)!r}, out={str(tmp_path / 'out')!r}, work={str(tmp_path / 'work')!r}"
    options += f", tokenizer={str(tokenizer)!r}, strategy='micro-response', size=9"
    code = f"from sft_diversity.verbs.selecting import select; select({options})"
    assert "numba" in loaded(code)
    assert not loaded(code) & {*HEAVY, *ARRAYS - {"pyarrow"}}
