from __future__ import annotations

import itertools
import json
from pathlib import Path

import polars as pl
import pytest

from sft_diversity.fitting.config import FitConfig
from sft_diversity.fitting.table import fit_table
from sft_diversity.fitting.worth import rests_on, score_class, worth_table
from tests.fitting.making import study

RUNS = Path(__file__).parents[2] / "data" / "runs" / "targeted_selection.csv"


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("minus held-out loss, nats a token; first 64 response tokens", "loss"),
        ("column val_loss, of a kind not given", "loss"),
        ("perplexity", "loss"),
        ("bits per byte", "loss"),
        ("log-likelihood of references", "loss"),
        ("GSM8K, share right", "metric"),
        ("glossary terms right", "metric"),
        ("column score, of a kind not given", "unknown"),
    ],
)
def test_words_tell_the_kind_of_a_score(words, kind):
    assert score_class(words) == kind


def test_sentences_name_the_score_and_how_often_such_chose_right():
    loss = rests_on("minus held-out loss, nats a token; of what")
    assert loss["right"] == [worth_table()[name]["right"] for name in ("test_loss", "dev_loss")]
    assert loss["sentence"] == (
        "This rests on minus held-out loss, nats a token: in public runs held-out loss picked the "
        "better of two subsets in 50 to 57 % of 5,566 pairs, by the task's metric (28 to 30 % for "
        "code; chance: 50 %)."
    )
    assert "in 80 % of 16,325 pairs" in rests_on("GSM8K, share right")["sentence"]
    assert rests_on("column score, of a kind not given")["right"] is None


def test_the_table_is_what_counting_pairs_one_by_one_gives():
    """Rows of the public table, without the script that counts them."""
    frame = pl.read_csv(RUNS).filter(pl.col("method") != "base", task="codex", samples=2500)
    means = frame.group_by("pool", "model", "method").agg(pl.col("score", "test_loss").mean())
    right, pairs = 0, 0
    for a, b in itertools.combinations(means.to_dicts(), 2):
        if (a["pool"], a["model"]) == (b["pool"], b["model"]) and a["score"] != b["score"]:
            pairs += a["test_loss"] != b["test_loss"]
            right += (a["score"] > b["score"]) == (a["test_loss"] < b["test_loss"])
    import importlib.util
    import sys

    place = RUNS.parents[2] / "benchmarks" / "score_worth.py"
    spec = importlib.util.spec_from_file_location("score_worth", place)
    script = sys.modules["score_worth"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    found = script.worth(frame)["test_loss"]
    assert (found["pairs"], found["right"]) == (pairs, round(right / pairs, 3))
    kept = json.loads(script.WORTH.read_text())
    assert kept == worth_table()
    assert 0.2 < kept["test_loss"]["tasks"]["codex"]["right"] < 0.35


def test_a_fit_says_on_what_it_rests():
    said = fit_table(study(0), FitConfig(draws=200, score_kind="GSM8K, share right"))
    assert said["verdict"][-1] == said["rests_on"]["sentence"]
    assert said["rests_on"]["kind"] == "metric"


def test_a_loss_does_not_carry_a_headline_where_answers_were_scored():
    frame = study(0).with_columns(transfer_first64=-pl.col("score"))
    alone = fit_table(frame, FitConfig(draws=200))
    assert "generated" not in alone["rests_on"]["sentence"]
    beside = frame.with_columns(instruction_strict=pl.lit(30.0), exact=pl.lit(None))
    said = fit_table(beside, FitConfig(draws=200))
    assert "scores of generated answers (instruction_strict)" in said["rests_on"]["sentence"]
    assert said["rests_on"]["sentence"] in said["verdict"]
    answers = fit_table(beside, FitConfig(draws=200, score="instruction_strict"))
    assert answers["rests_on"]["kind"] == "metric"
