"""README's board: how it is read from what benchmarks wrote, and that README shows it."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"


@pytest.fixture(scope="module")
def board() -> ModuleType:
    """The script, loaded as a module."""
    spec = importlib.util.spec_from_file_location(
        "leaderboard", ROOT / "benchmarks" / "leaderboard.py"
    )
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = made  # dataclasses look their module up
    spec.loader.exec_module(made)
    return made


def test_every_entry_reads_what_its_benchmark_writes(board):
    for entry in board.BOARD:
        found = json.loads((RESULTS / f"{entry.name}.json").read_text("utf-8"))
        if entry.name == "finetune_vs_trl":  # the board asks for runs of these two sides alone
            found["runs"] = {k: v for k, v in found["runs"].items() if "trl" in v.get("sides", {})}
        rows = list(entry.read(found))
        assert rows, entry.name
        for row in rows:
            assert row.ours > 0
            assert row.theirs > 0
            assert row.same


def test_readme_shows_the_board_as_it_was_measured(board):
    shown = board.table(json.loads((RESULTS / "leaderboard.json").read_text("utf-8")))
    page = (ROOT / "README.md").read_text("utf-8")
    assert board.into(page, shown) == page


def test_a_benchmark_that_fails_is_named_with_its_reason(board, tmp_path):
    copy = tmp_path / "benchmarks"
    (copy / "results").mkdir(parents=True)
    (copy / "broken.py").write_text("raise SystemExit('no peer here')", "utf-8")
    entry = board.Entry("broken", ("{corpus}",), board.ingest)
    assert board.measure(entry, {"corpus": "x"}, tmp_path) == "no peer here"
    with pytest.raises(ValueError, match="has no"):
        board.into("a page without marks", "table")
