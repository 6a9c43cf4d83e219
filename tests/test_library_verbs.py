"""`ingest`, `clean`, `measure` and `fit` in memory: what the commands say of a file of the rows."""

from __future__ import annotations

import json

import datasets
import polars as pl
import pytest

import sft_diversity as sd
from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.verbs import data as verbs
from sft_diversity.verbs.measuring import measure as measure_files
from sft_diversity.verbs.training import fit as fit_files
from tests.embedding import make
from tests.fitting.making import study

SHAPES = [list, datasets.Dataset.from_list, pl.DataFrame]


@pytest.fixture(scope="module")
def rows():
    """Sixty exchanges; one is there twice, one nearly, one quotes an evaluation."""
    made = [{"instruction": asked, "output": f"{said} of it"} for asked, said in make.pairs(57)]
    long = " ".join(make.WORDS)
    near = [{"instruction": long, "output": f"{long} {end}"} for end in ("so", "so then")]
    return [*made[:9], made[3], *made[9:], *near]


@pytest.fixture(scope="module")
def file(rows, tmp_path_factory):
    path = tmp_path_factory.mktemp("verbs") / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    return path


@pytest.mark.parametrize("shape", SHAPES)
def test_a_corpus_of_rows_is_that_of_their_file(rows, file, shape, tmp_path):
    told = verbs.ingest(file, out=tmp_path / "corpus")
    corpus = sd.ingest(shape(rows))
    assert corpus.figures["accounting"] == told["accounting"]
    assert told["accounting"]["dropped"] == {"duplicate": 1}
    assert corpus.ids == sd.Corpus(tmp_path / "corpus").ids
    places = corpus.to_polars()
    assert [rows[row]["output"] for row in places["source_row"]] == places["response"].to_list()
    picked = sd.select(corpus, size=9, strategy="random")
    assert picked.ids == sd.select(shape(rows), size=9, strategy="random").ids


@pytest.mark.parametrize("shape", SHAPES)
def test_what_stays_after_cleaning_are_rows_in_their_order(rows, file, shape, tmp_path):
    against = [{"prompt": rows[20]["instruction"], "reference": rows[20]["output"]}]
    (tmp_path / "eval.jsonl").write_text(json.dumps(against[0]), "utf-8")
    options = {"ngram": 4, "min_words": 4, "jaccard": 0.7, "common": 0}
    told = verbs.clean(
        file, out=tmp_path / "clean", against=[str(tmp_path / "eval.jsonl")], **options
    )
    for given in (against, str(tmp_path / "eval.jsonl"), [tmp_path / "eval.jsonl"]):
        stays = sd.clean(shape(rows), against=given, **options)
        assert sorted(stays.ids) == list(sd.Corpus(tmp_path / "clean").ids)
    assert stays.figures["accounting"] == told["accounting"]
    assert stays.rows.tolist() == sorted(stays.rows.tolist())
    assert not {20, 58} & set(stays.rows.tolist())
    assert stays.to_polars()["output"].to_list() == [rows[row]["output"] for row in stays.rows]
    assert stays.to_dataset()["output"][:] == [rows[row]["output"] for row in stays.rows]
    gone = dict(stays.removed.select("source_row", "reason").rows())
    assert gone[20] == "contaminated"
    assert gone[58] == "near_duplicate"
    assert len(gone) + len(stays) == told["accounting"]["in"]
    of_path = sd.clean(file, jaccard=0.7, report_only=True)
    assert "contaminated" not in set(of_path.removed["reason"])


def test_measures_are_those_of_the_files_and_of_a_selection(rows, file, tiny, tokenizer, tmp_path):
    options = {"tokenizer": str(tokenizer), "encoder": str(tiny), "self_bleu_sample": 10}
    told = measure_files(file, work=tmp_path / "work", **options)["datasets"][0]
    data = datasets.Dataset.from_list(rows)
    picked = sd.select(data, size=20, strategy="random", tokenizer=str(tokenizer))
    found = sd.measure(rows, picked, names=("all", "some"), **options)
    whole, some = found.figures["datasets"]
    assert {**whole, "name": told["name"]} == told
    assert (some["name"], some["rows"]) == ("some", 20)
    table = found.to_polars()
    assert table.columns[:4] == ["name", "component", "rows", "tokens_mean"]
    assert table["name"].to_list() == ["all", "all", "some", "some"]
    row = table.row(by_predicate=(pl.col("name") == "some") & (pl.col("component") == "response"))
    said = [rows[i]["output"] for i in picked.rows]
    assert row[table.columns.index("characters_mean")] == pytest.approx(sum(map(len, said)) / 20)
    assert sd.measure(rows, **options).figures["datasets"][0]["name"] == "data 1"


@pytest.mark.parametrize(
    "shape", [pl.DataFrame.to_dicts, pl.DataFrame.clone, pl.DataFrame.to_pandas]
)
def test_scores_in_memory_are_fitted_as_their_csv(shape, tmp_path):
    study(0).write_csv(tmp_path / "results.csv")
    told = fit_files(tmp_path / "results.csv", draws=200)
    found = sd.fit(shape(study(0)), draws=200)
    assert found.figures == told
    assert found.as_dict() == told
    slopes = found.to_polars()
    assert slopes["strategy"].to_list() == [row["strategy"] for row in told["slopes"]]
    assert slopes["slope"].to_list() == [row["slope"] for row in told["slopes"]]
    assert found.verdict == tuple(told["verdict"])


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: sd.ingest(3), "data is a builtins.int; give a datasets.Dataset"),
        (lambda: sd.clean([{"output": "a"}], size=3), "unknown key `size`"),
        (lambda: sd.measure([{"output": "a"}], names=("a", "b")), "2 names for 1 data sets"),
        (lambda: sd.fit([{"strategy": "m", "size": 1}]), "lacks the column diversity, seed, score"),
        (lambda: sd.fit([]), "is empty|no rows"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said_in_one_line(call, said):
    with pytest.raises((UsageError, DataError), match=said) as fault:
        call()
    assert "\n" not in str(fault.value)
