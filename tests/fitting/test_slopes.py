from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm

from sft_diversity.fitting.config import FitConfig
from sft_diversity.fitting.slopes import fit_slope
from tests.fitting.making import LEVELS, levels_of, simulated

QUICK = FitConfig(draws=400)


def test_the_line_is_ols_on_level_means_and_the_wider_interval_is_shown():
    levels = simulated(np.random.default_rng(3), 0.02)
    found = fit_slope(levels, QUICK)
    theirs = sm.OLS(levels.means, sm.add_constant(levels.at)).fit()
    assert found["slope"] == pytest.approx(theirs.params[1], abs=1e-9)
    assert (found["t_low"], found["t_high"]) == pytest.approx(theirs.conf_int()[1], abs=1e-9)
    widths = {
        kind: found[f"{name}_high"] - found[f"{name}_low"]
        for kind, name in (("t", "t"), ("bootstrap", "boot"))
    }
    assert found["ci_high"] - found["ci_low"] == max(widths.values())
    assert widths[found["ci_kind"]] == max(widths.values())


def test_noisy_draws_on_a_near_line_show_the_bootstrap():
    levels = levels_of(*([m - 1, m, m + 1] for m in (0.0, 1.0, 2.001, 3.0)), at=LEVELS)
    found = fit_slope(levels, QUICK)
    assert found["ci_kind"] == "bootstrap"
    assert found["ci_low"] < found["t_low"] < found["t_high"] < found["ci_high"]


def test_two_levels_take_the_t_interval_of_the_draws():
    levels = simulated(np.random.default_rng(4), 0.01, levels=(0, 100))
    found = fit_slope(levels, QUICK)
    x, y = np.repeat([0.0, 100.0], 3), np.concatenate(levels.draws)
    theirs = sm.OLS(y, sm.add_constant(x)).fit()
    assert (found["t_low"], found["t_high"]) == pytest.approx(theirs.conf_int()[1], abs=1e-9)
    assert (found["t_over"], found["pearson_r"], found["bayes"]) == ("draws", None, None)


def test_what_a_table_cannot_say_is_none():
    one = fit_slope(levels_of([1.0, 2.0, 3.0]), QUICK)
    assert (one["slope"], one["ci_low"], one["best_level"]) == (None, None, None)
    pair = fit_slope(levels_of([1.0], [2.0]), QUICK)
    assert (pair["slope"], pair["ci_low"], pair["p"]) == (1.0, None, None)
    flat = fit_slope(levels_of(*[[-6.1] * 3] * 4), QUICK)
    assert (flat["slope"], flat["ci_low"], flat["p"], flat["pearson_r"]) == (0.0, None, None, None)


def coverage(times, config, **made):
    """Share of simulated studies whose t interval, and whose shown interval, holds the slope."""
    rng = np.random.default_rng(0)
    held = np.zeros(2)
    for _ in range(times):
        found = fit_slope(simulated(rng, 0.01, **made), config)
        for i, name in enumerate(("t", "ci")):
            held[i] += found[f"{name}_low"] <= 0.01 <= found[f"{name}_high"]
    return held / times


def test_intervals_hold_the_true_slope_as_often_as_they_say():
    t, shown = coverage(300, FitConfig(confidence=0.8, draws=200))
    assert t == pytest.approx(0.8, abs=0.07)  # three standard errors
    assert shown >= t


@pytest.mark.slow
@pytest.mark.parametrize("confidence", [0.8, 0.95])
@pytest.mark.parametrize(
    "made",
    [
        {},
        {"levels": (0, 17, 33, 50, 67, 83, 100)},
        {"levels": (0, 100)},
        {"draws": 5},
        {"draws": 2, "levels": (0, 50, 100)},
    ],
    ids=str,
)
def test_intervals_of_many_studies_hold_the_true_slope(made, confidence):
    times = 2000
    t, shown = coverage(times, FitConfig(confidence=confidence, draws=400), **made)
    error = 3.5 * np.sqrt(confidence * (1 - confidence) / times)
    assert t == pytest.approx(confidence, abs=error)
    assert shown >= confidence - error
