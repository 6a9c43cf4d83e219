"""`report` as Python users and the command line call it."""

from __future__ import annotations

import json

import pytest

import sft_diversity
from sft_diversity.core import folder
from sft_diversity.core.errors import SftdivError
from tests.command import sftdiv


@pytest.fixture
def options(made):
    return {"work": made["work"], "layout": "none", "measure": False, "samples": 1}


def test_a_page_is_written_where_asked_and_its_folder_kept_in_the_work_folder(
    made, options, tmp_path
):
    out = tmp_path / "page.html"
    first = sft_diversity.report(made["one"], made["two"], out=out, **options)
    assert first["kind"] == "comparison"
    assert first["bytes"] == out.stat().st_size
    kept = [path for path in (made["work"] / "report").iterdir() if path.is_dir()]
    assert folder.verify(kept[0])["faults"] == []
    before = out.read_bytes()
    out.unlink()
    sft_diversity.report(made["one"], made["two"], out=out, **options)
    assert out.read_bytes() == before


def test_a_folder_has_the_page_and_its_data(made, options, tmp_path):
    sft_diversity.report(made["study"], out=tmp_path / "out", **options)
    again = sft_diversity.report(made["study"], out=tmp_path / "out", dry_run=True, **options)
    assert again["plan"][0]["state"] == "cached"
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["manifest.json", "report.html", "report.json"]


def test_a_dry_run_plans_and_touches_nothing(made, options, tmp_path):
    planned = sft_diversity.report(
        made["one"], out=tmp_path / "page.html", dry_run=True, **(options | {"samples": 3})
    )["plan"]
    assert [(step["stage"], step["state"]) for step in planned] == [("report", "to do")]
    assert list(tmp_path.iterdir()) == []


def test_the_command_prints_one_object(made, tmp_path):
    words = ["report", made["one"], "--out", tmp_path / "p.html", "--no-measure",
             "--work", made["work"], "--layout", "none", "--json"]  # fmt: skip
    done = sftdiv(*words)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["kind"] == "subset"
    assert found["title"] == "one"


def test_figures_are_written_beside_the_page_also_of_one_that_is_there(made, options, tmp_path):
    for name in ("first", "second"):
        done = sft_diversity.report(
            made["one"], out=tmp_path / "page.html", figures=tmp_path / name,
            figure_format="svg", **options,
        )  # fmt: skip
        assert f"{tmp_path / name}/lengths.svg" in done["figures"]
    first, second = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}
        for name in ("first", "second")
    )
    assert first == second
    (tmp_path / "file").write_text("mine")
    for place in (made["one"], tmp_path / "file"):
        with pytest.raises(SftdivError, match="report: "):
            sft_diversity.report(made["one"], out=tmp_path / "other.html", figures=place, **options)
    assert not (tmp_path / "other.html").exists()
