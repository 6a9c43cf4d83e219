from __future__ import annotations

import json
import re

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sft_diversity.fitting.config import FitConfig
from sft_diversity.fitting.table import fit_table
from tests.fitting.making import row, study

QUICK = FitConfig(draws=200)


def test_the_result_is_json_and_has_a_row_a_strategy_and_regime():
    found = fit_table(study(0), QUICK)
    json.dumps(found, allow_nan=False)
    assert [(r["regime"], r["strategy"]) for r in found["slopes"]] == [
        ("A", "macro-response"),
        ("A", "micro-response"),
        ("B", "macro-response"),
        ("B", "micro-response"),
    ]
    assert found["slopes"][1]["published"] == {"10000": 5.35, "20000": 6.68, "30000": 10.06}
    assert found["rows"] == {"in": 62, "used": 62, "no_score": 0, "repeated": 0}


@pytest.fixture(scope="module")
def in_order():
    frame = study(1, regimes=("B",))
    return frame, fit_table(frame, QUICK)


@settings(max_examples=10, deadline=None)
@given(order=st.permutations(range(31)), as_text=st.booleans())
def test_the_order_of_rows_does_not_matter(in_order, order, as_text):
    frame, expected = in_order
    other = frame[order]
    if as_text:
        other = other.with_columns(pl.all().cast(pl.String))
    assert fit_table(other, QUICK) == expected


@settings(max_examples=15, deadline=None)
@given(scale=st.floats(1e-3, 1e3), shift=st.floats(-100, 100), seed=st.integers(0, 20))
def test_unit_and_origin_of_the_score_change_nothing_else(scale, shift, seed):
    frame = study(seed, regimes=("B",), sd=1.0, slopes={"m": 0.02})
    moved = frame.with_columns(score=scale * pl.col("score") + shift)
    before, after = fit_table(frame, QUICK), fit_table(moved, QUICK)
    one, two = before["slopes"][0], after["slopes"][0]
    for name in ("slope", "ci_low", "ci_high"):
        assert two[name] == pytest.approx(scale * one[name], rel=1e-5, abs=1e-9 * scale)
    for name in ("p_adjusted", "pearson_r", "spearman_r"):
        assert two[name] == pytest.approx(one[name], rel=1e-5, abs=1e-9)
    assert two["best_level_share"] == pytest.approx(one["best_level_share"], abs=0.011)
    for old, new in zip(before["baselines"], after["baselines"], strict=True):
        assert new["difference"] == pytest.approx(
            scale * old["difference"], rel=1e-4, abs=1e-9 * scale
        )


def test_lower_is_better_turns_the_sign():
    frame = study(2).with_columns(loss=-pl.col("score"))
    lower = fit_table(frame, FitConfig(draws=200, score="loss", lower_is_better=True))
    assert lower["slopes"] == fit_table(frame, QUICK)["slopes"]


def test_training_seeds_are_no_draws():
    frame = study(3, regimes=("B",))
    again = pl.concat(
        [frame, *(frame.with_columns(train_seed=pl.lit(s, dtype=pl.Int64)) for s in (1, 2))]
    )
    found = fit_table(again, QUICK)
    assert [r["n"] for r in found["slopes"]] == [12, 12]
    assert [r["runs"] for r in found["slopes"]] == [36, 36]
    close = [r["slope"] for r in fit_table(frame, QUICK)["slopes"]]
    assert [r["slope"] for r in found["slopes"]] == pytest.approx(close)


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (study(4, levels=(50.0,)), "one level of diversity, so no slope"),
        (
            study(4).with_columns(score=pl.lit(-6.1)),
            "all levels have the same score; there is nothing to fit",
        ),
        (study(4, draws=1), "some level has one draw, whose spread is not known"),
        (study(4, draws=1, levels=(0.0, 100.0)), "too few draws for an interval"),
        (study(4).filter(pl.col("diversity").is_null()), "No strategy has levels of diversity"),
    ],
)
def test_a_degenerate_table_gets_a_clear_answer(frame, said):
    found = fit_table(frame, QUICK)
    json.dumps(found, allow_nan=False)
    assert any(said in sentence for sentence in found["verdict"])


def test_what_is_missing_is_named():
    frame = study(5, regimes=("B",)).filter(
        ~((pl.col("strategy") == "micro-response") & (pl.col("diversity") == 33))
    )
    frame = frame.with_columns(
        score=pl.when((pl.col("diversity") == 67) & (pl.col("seed") == 1))
        .then(float("nan"))
        .otherwise(pl.col("score"))
    ).filter(pl.col("strategy").is_in(["random", "base"]).not_())
    notes = fit_table(frame, QUICK)["notes"]
    assert notes == [
        "2 rows without a finite score left out.",
        "Regime B, N = 10,000: cells without a run: micro-response 33 %.",
        "Regime B, N = 10,000: cells with fewer than 3 draws: macro-response 67 % (2), "
        "micro-response 67 % (2).",
        "Regime B, N = 10,000: no random subset: whether any selection beats random cannot be "
        "said.",
        "Regime B, N = 10,000: no base model: what fine-tuning itself brought cannot be said.",
    ]


def test_shares_in_place_of_percent_are_noticed():
    frame = pl.DataFrame([row(None, "m", at, s, float(s)) for at in (0.0, 1.0) for s in range(3)])
    assert any("is it a share" in note for note in fit_table(frame, QUICK)["notes"])


def test_a_table_without_regimes_has_none():
    frame = study(6, regimes=("B",)).drop("regime", "train_seed")
    found = fit_table(frame, QUICK)
    assert {r["regime"] for r in found["slopes"] + found["baselines"]} == {None}
    assert found["verdict"][0].startswith("N = 10,000: ")


def verdict_sentences(found):
    return " ".join(found["verdict"])


def test_a_steep_slope_is_found_and_a_peak_within_the_dial_is_said():
    frame = study(7, slopes={"m": 1e-3}, regimes=("B",), levels=(0, 17, 33, 50, 67, 83, 100))
    found = verdict_sentences(fit_table(frame, QUICK))
    assert (
        "the diversity of m pays: the score (column score, of a kind not given) rises by +0.0"
        in (found)
    )
    bent = frame.with_columns(
        score=pl.col("score") - 0.04 * (pl.col("diversity").fill_null(0) > 80).cast(pl.Float64)
    )
    said = verdict_sentences(fit_table(bent, QUICK))
    assert "m departs from a line (lack of fit" in said
    assert "the line of m points to 100 %, but the best level measured is 67 %" in said


def test_a_difference_without_an_interval_is_not_called_indistinguishable():
    frame = study(4, draws=1).filter(pl.col("strategy").is_in(["micro-response", "base"]))
    said = verdict_sentences(fit_table(frame, QUICK))
    assert re.search(r"micro-response \(\+0\.\d+\) is compared with base without an interval", said)


def test_regime_b_speaks_first_and_a_is_qualified():
    said = fit_table(study(8), QUICK)["verdict"]
    assert said[0].startswith("Regime B")
    assert said[-2].startswith("Regime A does not hold length")


@pytest.mark.slow
def test_families_of_null_studies_hold_their_error_rate():
    wrong = 0
    rng = np.random.default_rng(0)
    for _ in range(400):
        frame = study(int(rng.integers(1 << 30)), slopes={"a": 0, "b": 0, "c": 0}, regimes=("B",))
        found = fit_table(frame, QUICK)
        wrong += any(r["p_adjusted"] < 0.05 for r in found["slopes"])
    assert wrong / 400 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 400)
