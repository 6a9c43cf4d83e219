"""The verb `clean`: plan, figures, and a corpus that later stages take."""

from __future__ import annotations

import json

import pytest

from sft_diversity.cleaning.show import cleaned
from sft_diversity.core import corpus as corpora
from sft_diversity.core.errors import UsageError
from sft_diversity.core.show import plan_text
from sft_diversity.verbs import data
from tests.cleaning import making
from tests.cleaning.test_stage import pool


@pytest.fixture
def source(tmp_path):
    plain, twins, _, asked, leaks = pool()
    sheet = "\n".join(json.dumps({"question": question}) for question in asked)
    (tmp_path / "eval.jsonl").write_text(sheet)
    return making.corpus(tmp_path / "corpus", [*plain, *twins, *leaks])


def test_a_dry_run_touches_nothing_and_tells_how_long_cosines_take(source, tmp_path):
    options = {"against": [str(tmp_path / "eval.jsonl")], "work": tmp_path / "work"}
    plain = data.clean(source, out=tmp_path / "out", dry_run=True, **options)
    [step] = plain["plan"]
    assert (step["stage"], step["state"], step["rows"]) == ("clean", "to do", 75)
    assert step["cosine_seconds"] == 0
    costly = data.clean(source, out=tmp_path / "out", dry_run=True, cosine=0.95, **options)
    assert [step["stage"] for step in costly["plan"]] == ["embed", "embed", "clean"]
    assert costly["plan"][-1]["seconds"] >= step["seconds"]
    assert "clean" in plan_text(costly)
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "work").exists()


def test_a_clean_corpus_is_a_corpus_for_all_later_stages(source, tmp_path):
    against = [str(tmp_path / "eval.jsonl")]
    result = data.clean(source, out=tmp_path / "out", against=against)
    assert result["accounting"]["dropped"] == {"contaminated": 5, "near_duplicate": 10}
    text = cleaned(result)
    assert "5 contaminated, 10 near duplicate" in text
    assert "eval.jsonl: 5 of 8 rows overlap with 5 samples" in text
    assert corpora.licences(tmp_path / "out") == {"made": "MIT"}
    exported = data.export(tmp_path / "out", to=str(tmp_path / "shared"))
    assert exported["rows"] == 60
    assert "sftdiv clean" in (tmp_path / "shared" / "README.md").read_text()
    assert data.verify(tmp_path / "out")["faults"] == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"jaccard": 1.5}, "jaccard"),
        ({"jacard": 0.5}, "did you mean `jaccard`"),
        ({"against": ["nowhere.json"]}, "nowhere.json is not there"),
    ],
)
def test_wrong_options_are_named(source, tmp_path, options, said):
    with pytest.raises(UsageError, match=said):
        data.clean(source, out=tmp_path / "out", **options)
