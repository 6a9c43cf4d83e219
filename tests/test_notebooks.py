"""The notebooks run from top to bottom, in their own kernel, as a reader runs them.

Their outputs are committed, made by `make notebooks`: a reader sees pictures, the site shows them.
They are not compared: scores of training differ in late digits from processor to processor.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

BOOKS = Path(__file__).resolve().parents[1] / "docs/notebooks"
#: Cells that must print or draw something, by notebook.
SHOWN = {"pick-a-subset": 6, "which-diversity-pays": 6}


def executed(name: str) -> nbformat.NotebookNode:
    book = nbformat.read(BOOKS / f"{name}.ipynb", 4)
    for cell in book.cells:
        cell.pop("outputs", None)
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    os.environ.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    place = {"metadata": {"path": str(BOOKS)}}
    NotebookClient(book, timeout=900, record_timing=False, resources=place).execute()
    for cell in book.cells:  # talk goes to stderr: progress, and what libraries say of the kernel
        if cell.cell_type == "code":
            cell.outputs = [one for one in cell.outputs if one.get("name") != "stderr"]
    return book


def shown(book: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in book.cells if cell.cell_type == "code" and cell.outputs]


@pytest.mark.parametrize(
    "name", ["pick-a-subset", pytest.param("which-diversity-pays", marks=pytest.mark.slow)]
)
def test_a_notebook_runs_and_shows_what_it_promises(name, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    book = executed(name)
    assert len(shown(book)) >= SHOWN[name]
    kinds = {key for cell in shown(book) for out in cell.outputs for key in out.get("data", {})}
    assert "image/png" in kinds
    assert not any(out.output_type == "error" for cell in shown(book) for out in cell.outputs)


@pytest.mark.parametrize("path", sorted(BOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_committed_outputs_are_whole_and_name_no_place_of_the_machine(path):
    book = nbformat.read(path, 4)
    nbformat.validate(book)
    assert path.stem in SHOWN
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert len(shown(book)) >= SHOWN[path.stem]
    assert not re.search("/tmp/|/home/|site-packages", path.read_text("utf-8"))


if __name__ == "__main__":
    for each in sorted(BOOKS.glob("*.ipynb")):
        nbformat.write(executed(each.stem), each)
