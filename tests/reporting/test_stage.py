"""The path-level verb: sources in, one page and its data out."""

from __future__ import annotations

import json

import pytest

from sft_diversity.core import folder
from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.reporting import stage
from sft_diversity.reporting.config import ReportConfig
from sft_diversity.reporting.reading import csv_rows, locate
from sft_diversity.reporting.stage import DATA, PAGE, checked, put
from tests.making import left_behind, report
from tests.reporting import making

FAST = ReportConfig(layout="pca", map_points=100, samples=2)


def test_equal_inputs_give_equal_bytes(made, tmp_path):
    for config in (FAST, ReportConfig(map_points=120, samples=2)):
        written = []
        for name in ("a", "b"):
            out = tmp_path / f"{config.layout}-{name}"
            report([made["one"]], out, config, made["work"])
            written.append([(out / file).read_bytes() for file in (PAGE, DATA)])
        assert written[0] == written[1]


def test_a_second_call_reuses_and_a_changed_option_says_so(made, tmp_path):
    said = []
    for config in (FAST, FAST, FAST.model_copy(update={"seed": 1})):
        report([made["one"]], tmp_path / "out", config, made["work"], said.append)
    assert "up to date" in said[1]
    assert "seed changed: 0 -> 1" in said[2]
    assert folder.verify(tmp_path / "out")["faults"] == []


def test_a_page_of_another_style_sheet_is_made_anew(made, tmp_path, monkeypatch):
    said = []
    report([made["one"]], tmp_path / "out", FAST, made["work"])
    monkeypatch.setattr(stage, "page_look", lambda: "another")
    report([made["one"]], tmp_path / "out", FAST, made["work"], said.append)
    assert "input look changed" in said[0]


def test_a_page_is_resumed_after_its_data_were_gathered(made, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(stage, "page_html", lambda page: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            report([made["one"]], tmp_path / "out", FAST, made["work"])
    said = []
    report([made["one"]], tmp_path / "out", FAST, made["work"], said.append)
    report([made["one"]], tmp_path / "again", FAST, made["work"])
    assert "resumed" in said[0]
    assert left_behind(tmp_path) == []
    assert (tmp_path / "out" / PAGE).read_bytes() == (tmp_path / "again" / PAGE).read_bytes()


def test_what_a_subset_was_made_from_is_found_by_content(made):
    found = locate([made["one"]], made["work"])
    assert found.corpus == made["corpus"]
    assert set(found.indexes) == set(making.STRATEGIES)
    assert set(found.tokens) == set(found.embeddings) == {"instruction", "response"}


def test_without_its_corpus_a_subset_still_has_a_page(made, tmp_path):
    report([made["one"]], tmp_path / "out", FAST)
    page = json.loads((tmp_path / "out" / DATA).read_text())
    assert page["map"] is None
    assert page["lengths"]["response"]["unit"] == "characters"


def test_another_corpus_is_refused(made, topical):
    with pytest.raises(UsageError, match="is not the corpus"):
        locate([made["one"]], made["work"], topical)


@pytest.mark.parametrize("names", [[], ["one", "two", "one"], ["one", "study"], ["work"]])
def test_what_is_no_source_is_refused(made, names):
    with pytest.raises(UsageError, match="report: "):
        checked([made[name] for name in names])


def test_a_table_that_is_no_text_is_refused(made, tmp_path):
    place = tmp_path / "study"
    place.mkdir()
    (place / "results.csv").write_bytes(b"strategy,size\n\xff\xfe,1\n")
    with pytest.raises(DataError, match="is no table"):
        report([place], tmp_path / "out", FAST)


def test_a_table_without_a_column_has_no_rows(tmp_path):
    (tmp_path / "metrics.csv").write_text("\n")  # of a study that measures nothing
    assert csv_rows(tmp_path / "metrics.csv") == csv_rows(tmp_path / "nosuch.csv") == []


def test_a_study_without_fit_subsets_or_models_still_has_a_page(tmp_path):
    place = tmp_path / "study"
    place.mkdir()
    (place / "results.csv").write_text(
        "strategy,size,diversity,seed,score\nmacro-response,10,0,0,1.5\nmacro-response,10,100,0,2\n"
    )
    report([place], tmp_path / "out", FAST)
    assert "No fit is there yet" in (tmp_path / "out" / PAGE).read_text()


def test_the_page_is_copied_whole(pages, tmp_path):
    put(pages / "subset", tmp_path / "deep" / "page.html")
    copied = (tmp_path / "deep" / "page.html").read_bytes()
    assert copied == (pages / "subset" / PAGE).read_bytes()
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["page.html"]
