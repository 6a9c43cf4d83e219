"""The notebooks run from top to bottom, in their own kernel, as a reader runs them.

Their outputs are committed, made by `make notebooks`: a reader sees pictures, the site shows them.
They are not compared: scores of training differ in late digits from processor to processor.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
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


def reader(place: Path, home: Path) -> dict[str, str]:
    """Put what notebooks read into a folder; return the variables of who has no cache."""
    for name in ("configs", "data/sample", "data/models", "docs/notebooks"):
        shutil.copytree(BOOKS.parents[1] / name, place / name)
    home.mkdir()
    left = ("PYTHONPATH", "HF_HOME", "XDG_CACHE_HOME", "NUMBA_CACHE_DIR", "SFTDIV_DATA")
    kept = {name: value for name, value in os.environ.items() if name not in left}
    return kept | {"HOME": str(home), "TMPDIR": str(home), "HF_HUB_OFFLINE": "1"}


def executes(python: Path, name: str, place: Path, env: dict[str, str]) -> None:
    """Run a notebook by nbclient's own command, in the kernel of that interpreter."""
    code = "from nbclient.cli import main; main()"
    command = [str(python), "-c", code, "--timeout", "900", "--inplace", f"{name}.ipynb"]
    book = place / "docs/notebooks"
    done = subprocess.run(command, cwd=book, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(shown(nbformat.read(book / f"{name}.ipynb", 4))) >= SHOWN[name]


@pytest.mark.slow
def test_a_notebook_runs_from_nothing_but_the_packages(tmp_path):
    """No cache, no home, no folder of before: what a first reader has."""
    env = reader(tmp_path / "place", tmp_path / "home")
    env["PYTHONPATH"] = str(BOOKS.parents[1])
    executes(Path(sys.executable), "which-diversity-pays", tmp_path / "place", env)


@pytest.mark.slow
@pytest.mark.network
def test_the_first_notebook_runs_in_a_fresh_environment_of_the_base(tmp_path):
    """Downloads the base's packages and a kernel from the index that pip is set to: 300 MB."""
    pip = [sys.executable, "-m", "pip", "-q"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", tmp_path, BOOKS.parents[1]], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv/bin/python"
    install = [python, "-m", "pip", "install", "-q", wheel, "ipykernel", "nbclient"]
    subprocess.run(install, check=True)
    env = reader(tmp_path / "place", tmp_path / "home")
    executes(python, "pick-a-subset", tmp_path / "place", env)


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
