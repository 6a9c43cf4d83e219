from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from sft_diversity.core.spreads import pool
from sft_diversity.fitting.baselines import comparisons
from sft_diversity.fitting.config import FitConfig
from sft_diversity.fitting.levels import group_levels
from sft_diversity.fitting.reading import draws_of
from tests.fitting.making import study

CONFIG = FitConfig()


def compared(frame):
    draws, _ = draws_of(frame, "score")
    rows = comparisons(draws, group_levels(draws), CONFIG)
    return {(r["regime"], r["strategy"], r["baseline"], r["chosen"]): r for r in rows}


def scores(frame, strategy, level=None, regime="B"):
    rows = [r for r in frame.rows(named=True) if (r["regime"], r["strategy"]) == (regime, strategy)]
    return np.array([r["score"] for r in rows if r["diversity"] == level])


def cells(frame):
    """Return the scores of every cell of regime B that has draws."""
    own = frame.filter((frame["regime"] == "B") & (frame["strategy"] != "base"))
    return pool([g["score"].to_list() for _, g in own.group_by("strategy", "diversity")])


def test_the_highest_level_is_compared_by_a_contrast_whose_spreads_are_drawn_together():
    frame = study(1)
    row = compared(frame)["B", "micro-response", "random", "highest"]
    known, highest, random = (
        cells(frame),
        scores(frame, "micro-response", 100.0),
        scores(frame, "random"),
    )
    error, df = known.error([(known.cell(highest), 3), (known.cell(random), 5)])
    difference = highest.mean() - random.mean()
    reach = stats.t.ppf(0.975, df) * error
    assert row["difference"] == pytest.approx(difference)
    assert (row["low"], row["high"]) == pytest.approx((difference - reach, difference + reach))
    assert row["p"] == pytest.approx(2 * stats.t.sf(abs(difference) / error, df))


def test_the_best_level_pays_for_being_chosen():
    frame = study(2)
    row = compared(frame)["B", "macro-response", "random", "best"]
    groups = [scores(frame, "macro-response", at) for at in (0.0, 33.0, 67.0, 100.0)]
    best = int(np.argmax([g.mean() for g in groups]))
    assert row["level"] == (0.0, 33.0, 67.0, 100.0)[best]
    known = cells(frame)
    spreads, beside = [known.cell(g) for g in groups], known.cell(scores(frame, "random"))
    error, df = known.error([(spreads[best], 3), (beside, 5)])
    rng = np.random.default_rng(0)  # the law of the largest |t|, by simulation
    sd = np.sqrt([s.variance / 3 for s in spreads])
    beside_sd = np.sqrt(beside.variance / 5)
    t = rng.normal(size=(400_000, 4)) * sd - beside_sd * rng.normal(size=(400_000, 1))
    t /= np.sqrt(sd**2 + beside_sd**2) * np.sqrt(rng.chisquare(df, (400_000, 1)) / df)
    largest = np.abs(t).max(axis=1)
    assert row["p"] == pytest.approx((largest > abs(row["difference"]) / error).mean(), abs=4e-3)
    reach = np.quantile(largest, 0.95) * error
    assert row["high"] - row["difference"] == pytest.approx(reach, rel=0.02)


def test_the_base_model_is_known_without_error():
    frame = study(3)
    row = compared(frame)["B", "micro-response", "base", "highest"]
    known = cells(frame)
    error, df = known.error([(known.cell(scores(frame, "micro-response", 100.0)), 3)])
    assert row["high"] - row["difference"] == pytest.approx(stats.t.ppf(0.975, df) * error)


def test_baselines_are_compared_with_random_and_base_and_each_regime_with_its_own():
    found = compared(study(4))
    assert ("B", "longest", "random", "only") in found
    assert ("B", "longest", "base", "only") in found
    assert ("B", "random", "longest", "only") not in found
    here = scores(study(4), "random", regime="A").mean()
    assert found["A", "micro-response", "random", "highest"]["baseline_mean"] == pytest.approx(here)


def test_one_draw_everywhere_leaves_a_difference_without_an_interval():
    frame = study(5, draws=1).filter(~study(5, draws=1)["seed"].is_in([1, 2, 3, 4]))
    row = compared(frame)["B", "micro-response", "random", "highest"]
    assert row["difference"] is not None
    assert (row["low"], row["p"]) == (None, None)


@pytest.mark.slow
def test_the_best_of_levels_that_are_random_is_rarely_called_better():
    wrong = 0
    for seed in range(800):
        found = compared(study(seed, slopes={"micro-response": 0.0}, regimes=("B",)))
        wrong += found["B", "micro-response", "random", "best"]["p"] < 0.05
    assert wrong / 800 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 800)
