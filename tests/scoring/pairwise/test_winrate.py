"""Win rates from verdicts, against hand counts and another library's logistic regression."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft_diversity.core.numbers import draw
from sft_diversity.scoring.pairwise import winrate


def row(number, first="model", second="model", status="judged", chars=(100, 100), name="s"):
    return {
        "set": name, "record": str(number), "prompt": f"p{number}", "status": status,
        "model_chars": chars[0], "baseline_chars": chars[1],
        "first": first if status == "judged" else None,
        "second": second if status == "judged" else None,
        "first_text": None, "second_text": None,
    }  # fmt: skip


def summary(rows, draws=200):
    return winrate.summarise_judgments(pa.Table.from_pylist(rows, winrate.JUDGMENTS), draws, 0)


def test_both_orders_ties_and_missing_verdicts_enter_as_stated():
    rows = [
        row(0),
        row(1, "model", "baseline"),
        row(2, "tie", "baseline"),
        row(3, "malformed", "model"),
        row(4, "baseline", "baseline"),
        row(5, status="same"),
        row(6, status="model-empty"),
        row(7, status="baseline-empty"),
        row(8, status="over-length"),
    ]
    found = summary(rows)
    expected = [1, 0.5, 0.25, 0.75, 0, 0.5, 0, 1]
    head = found["headline"]
    assert head["prompts"] == 8
    assert head["win_rate"] == pytest.approx(100 * np.mean(expected))
    assert (head["wins"], head["ties"], head["losses"]) == (3, 2, 3)
    assert head["both_verdicts"] == {
        "prompts": 4, "win_rate": pytest.approx(100 * np.mean([1, 0.5, 0.25, 0])),
    }  # fmt: skip
    assert found["verdicts"] == {"baseline": 4, "malformed": 1, "model": 4, "tie": 1}
    assert found["skipped"] == {"over-length": 1}
    assert head["order"]["consistent"] == pytest.approx(50)
    assert head["order"]["first_wins"] == pytest.approx(100 * np.mean([0.5, 1, 0.75, 0.5]))


@given(st.lists(st.sampled_from(["model", "baseline", "tie"]), min_size=1, max_size=12))
def test_a_judge_that_only_sees_the_order_gives_half(verdicts):
    swapped = {"model": "baseline", "baseline": "model", "tie": "tie"}
    found = summary([row(i, v, swapped[v]) for i, v in enumerate(verdicts)], draws=100)
    assert found["headline"]["win_rate"] == pytest.approx(50)
    firsts = np.mean([winrate.WORTH[v] for v in verdicts])
    assert found["headline"]["order"]["first_wins"] == pytest.approx(100 * firsts)


@given(st.integers(0, 1000))
def test_swapping_model_and_baseline_mirrors_every_rate(seed):
    rng = np.random.default_rng(seed)
    names = np.array(["model", "baseline", "tie", "refused"])
    other = {"model": "baseline", "baseline": "model", "tie": "tie", "refused": "refused"}
    rows = [
        row(i, *rng.choice(names, 2).tolist(), chars=tuple(rng.integers(1, 500, 2).tolist()))
        for i in range(30)
    ]
    mirrored = [
        r | {
            "first": other[r["second"]], "second": other[r["first"]],
            "model_chars": r["baseline_chars"], "baseline_chars": r["model_chars"],
        }
        for r in rows
    ]  # fmt: skip
    one, two = (summary(r, 100)["headline"] for r in (rows, mirrored))
    for name in ("win_rate", "length_controlled"):
        assert one[name] == pytest.approx(100 - two[name], abs=1e-6)
        assert one[f"{name}_low"] == pytest.approx(100 - two[f"{name}_high"], abs=1e-6)
    assert one["order"] == two["order"]


def case(seed, n=300, slope=1.5, intercept=-0.4):
    rng = np.random.default_rng(seed)
    delta = rng.normal(30, 200, n).round()
    x = np.tanh(delta / delta.std())
    p = 1 / (1 + np.exp(-(intercept + slope * x)))
    return rng.binomial(2, p) / 2, delta, x


@pytest.mark.parametrize("seed", range(5))
def test_the_fit_equals_scikit_learns(seed):
    from sklearn.linear_model import LogisticRegression

    share, _, x = case(seed)
    weights = np.random.default_rng(seed).integers(0, 4, len(x)).astype(float)
    design = np.column_stack([np.ones_like(x), x])
    model = LogisticRegression(
        C=1 / winrate.RIDGE, fit_intercept=False, tol=1e-12, max_iter=10_000, solver="newton-cg"
    ).fit(
        np.vstack([design, design]),
        np.repeat([1, 0], len(x)),
        sample_weight=np.concatenate([weights * share, weights * (1 - share)]),
    )
    assert winrate.fit_logistic(share, x, weights[None])[0] == pytest.approx(
        model.coef_[0], abs=1e-6
    )


def test_the_fit_equals_statsmodels_but_for_the_ridge():
    api = pytest.importorskip("statsmodels.api")
    share, _, x = case(7)
    found = api.GLM(share, api.add_constant(x), family=api.families.Binomial()).fit()
    assert winrate.fit_logistic(share, x, np.ones((1, len(x))))[0] == pytest.approx(
        found.params, abs=1e-4
    )


def test_length_enters_as_the_tanh_of_its_difference_over_the_standard_deviation():
    share, delta, _ = case(3)
    drawn = draw([str(i) for i in range(len(share))], 200, np.random.default_rng(0))
    found = winrate.length_controlled(share, delta, drawn)[0]
    intercept = winrate.fit_logistic(
        share, np.tanh(delta / np.std(delta)), np.ones((1, len(share)))
    )[0, 0]
    assert found == pytest.approx(1 / (1 + np.exp(-intercept)), abs=1e-12)


def test_a_judge_that_only_likes_length_is_seen_through():
    rng = np.random.default_rng(0)
    covered, rates = 0, []
    for seed in range(40):
        share, delta, _ = case(seed, n=200, slope=2.5, intercept=0.0)
        drawn = draw(
            [str(i) for i in range(len(share))], 200, np.random.default_rng(rng.integers(1000))
        )
        value, low, high = winrate.length_controlled(share, delta, drawn)
        rates.append(value)
        covered += low <= 0.5 <= high
    assert np.mean(rates) == pytest.approx(0.5, abs=0.02)
    assert covered >= 33


def test_all_wins_stay_finite_and_equal_lengths_give_the_plain_rate():
    always = summary([row(i, chars=(100 + i, 90)) for i in range(20)])["headline"]
    assert 95 < always["length_controlled"] <= 100
    even = summary([row(i, "model", "baseline" if i % 4 else "model") for i in range(20)])
    head = even["headline"]
    assert head["length_controlled"] == pytest.approx(head["win_rate"], abs=0.01)


def test_a_constant_difference_of_lengths_cannot_be_controlled_for():
    rows = [row(i, chars=(120, 100)) for i in range(5)]
    assert summary(rows)["headline"]["length_controlled"] is None


def test_the_interval_covers_a_known_rate_at_about_its_level():
    rng = np.random.default_rng(1)
    covered = 0
    for trial in range(100):
        wins = rng.random(120) < 0.7
        names = ["model" if w else "baseline" for w in wins]
        rows = [row(i, v, v, chars=(100 + i, 100)) for i, v in enumerate(names)]
        table = pa.Table.from_pylist(rows, winrate.JUDGMENTS)
        head = winrate.summarise_judgments(table, 200, trial)["headline"]
        covered += head["win_rate_low"] <= 70 <= head["win_rate_high"]
    assert covered >= 88


def test_prompts_of_two_sets_are_drawn_together():
    rows = [row(i, name=name) for i in range(4) for name in ("a", "b")]
    found = summary(rows)
    assert set(found["sets"]) == {"a", "b"}
    assert found["sets"]["a"]["prompts"] == 4
