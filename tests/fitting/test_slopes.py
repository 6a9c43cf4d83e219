from __future__ import annotations

from unittest.mock import patch

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats

from sft_diversity.core.spreads import PRIOR_DF, pool
from sft_diversity.fitting import slopes
from sft_diversity.fitting.config import FitConfig
from sft_diversity.fitting.levels import resample
from sft_diversity.fitting.slopes import best_level, best_margin, curvature, ends, fit_slope
from tests.fitting.making import LEVELS, levels_of, simulated

QUICK = FitConfig(draws=400)


def fit_alone(levels, config=QUICK):
    """Fit a strategy that is the only one of its study."""
    return fit_slope(levels, config, pool(levels.draws))


def test_the_line_is_ols_on_level_means_and_the_wider_interval_is_shown():
    levels = simulated(np.random.default_rng(3), 0.02)
    found = fit_alone(levels)
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
    found = fit_alone(levels)
    assert found["ci_kind"] == "bootstrap"
    assert found["ci_low"] < found["t_low"] < found["t_high"] < found["ci_high"]


def test_two_levels_take_the_t_interval_of_their_difference():
    levels = simulated(np.random.default_rng(4), 0.01, levels=(0, 100))
    found = fit_alone(levels)
    difference, error, p, df = pairwise(levels, 1, 0)
    reach = stats.t.ppf(0.975, df) * error
    assert 100 * found["slope"] == pytest.approx(difference)
    assert 100 * found["t_low"] == pytest.approx(difference - reach)
    assert 100 * found["t_high"] == pytest.approx(difference + reach)
    assert (found["p"], found["t_df"]) == (pytest.approx(p), pytest.approx(df))
    assert (found["t_over"], found["pearson_r"]) == ("draws", None)
    assert (found["bayes"], found["mixed"]) == (None, None)


@pytest.mark.parametrize("one", [[21.0], [21.0, 21.0]])
def test_draws_of_two_levels_that_score_the_same_are_sure_of_nothing(one):
    """As counts of instructions kept do; the draws beside them say how far a draw spreads."""
    levels = levels_of([20.0, 20.0], one, at=(0, 100))
    alone = fit_alone(levels)
    assert (alone["slope"], alone["p"], alone["ci_low"]) == (pytest.approx(0.01), None, None)
    assert (alone["best_level"], alone["best_level_share"]) == (100.0, None)
    beside = fit_slope(levels, QUICK, pool([*levels.draws, np.array([18.0, 24.0])]))
    assert beside["p"] > 0.5
    assert beside["ci_low"] < -0.05 < 0.07 < beside["ci_high"]


def test_what_a_table_cannot_say_is_none():
    one = fit_alone(levels_of([1.0, 2.0, 3.0]))
    assert (one["slope"], one["ci_low"], one["best_level"]) == (None, None, None)
    pair = fit_alone(levels_of([1.0], [2.0]))
    assert (pair["slope"], pair["ci_low"], pair["p"]) == (1.0, None, None)
    flat = fit_alone(levels_of(*[[-6.1] * 3] * 4))
    assert (flat["slope"], flat["ci_low"], flat["p"], flat["pearson_r"]) == (0.0, None, None, None)


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("draws", [3, (3, 2, 4)])
def test_lack_of_fit_of_three_levels_is_the_contrast_of_the_middle_with_the_ends(draws):
    levels = simulated(rng(1), 0.02, levels=(0, 40, 100), draws=draws)
    known = pool(levels.draws)
    weights = np.array([0.6, -1.0, 0.4])
    spreads = [known.cell(own) for own in levels.draws]
    parts = weights**2 * [s.variance / len(d) for s, d in zip(spreads, levels.draws, strict=True)]
    t = weights @ levels.means / np.sqrt(parts.sum())
    freedom = np.array([min(spread.df, known.df) for spread in spreads])
    df = parts.sum() ** 2 / (parts**2 / freedom).sum()
    found = curvature(levels, known)
    assert (found["test"], found["df"]) == ("lack of fit", pytest.approx([1, df]))
    assert found["f"] == pytest.approx(t**2, rel=1e-8)
    assert found["p"] == pytest.approx(2 * stats.t.sf(abs(t), df), rel=1e-8)


def test_with_many_draws_lack_of_fit_is_the_anova_of_a_line_against_free_levels():
    levels = simulated(rng(1), 0.002, draws=2_000)
    x, y = np.repeat(levels.at, 2_000), np.concatenate(levels.draws)
    line = sm.OLS(y, sm.add_constant(x)).fit()
    _, p, _ = sm.OLS(y, (x[:, None] == levels.at).astype(float)).fit().compare_f_test(line)
    assert curvature(levels, pool(levels.draws))["p"] == pytest.approx(p, abs=0.02)


def test_with_one_draw_a_level_a_quadratic_term_is_tested():
    levels = simulated(rng(2), 0.02, levels=range(0, 101, 20), draws=1)
    theirs = sm.OLS(levels.means, np.vander(levels.at / 100, 3)).fit()
    found = curvature(levels, None)
    assert found["test"] == "quadratic"
    assert found["p"] == pytest.approx(theirs.pvalues[0], rel=1e-6)


def test_too_few_levels_have_no_curvature():
    assert curvature(simulated(rng(), levels=(0, 100)), pool([[1.0, 2.0]])) is None
    assert curvature(simulated(rng(), levels=(0, 50, 100), draws=1), None) is None


def test_the_share_of_the_best_level_is_that_of_all_resamples():
    # two draws a level: means of resamples are m ± d or m, with chances 1/4, 1/4, 1/2
    levels = levels_of([0.0, 2.0], [0.5, 2.5])
    found = best_level(levels, resample(levels, 200_000, rng()))
    reach = np.sqrt(2.0)  # deviations of ±1, widened for two draws
    means = {a: (1 + a * reach, 1.5 + a * reach) for a in (-1, 0, 1)}
    chance = {-1: 0.25, 0: 0.5, 1: 0.25}
    second = sum(chance[a] * chance[b] for a in chance for b in chance if means[b][1] > means[a][0])
    assert found["best_level"] == 1
    assert found["best_level_share"]["1"] == pytest.approx(second, abs=0.005)
    assert sum(found["best_level_share"].values()) == pytest.approx(1)


def test_levels_that_tie_share():
    levels = levels_of([1.0, 1.0], [1.0, 1.0], [0.0, 0.0])
    found = best_level(levels, resample(levels, 200, rng()))
    assert found["best_level_share"] == {"0": 0.5, "1": 0.5, "2": 0.0}


def test_the_best_level_may_lie_within_the_dial():
    levels = levels_of([1.0, 1.1], [2.0, 2.1], [4.0, 4.1], [3.0, 3.1], at=LEVELS)
    found = best_level(levels, resample(levels, 500, rng()))
    assert found == {
        "best_level": 67.0,
        "best_level_share": {"0": 0.0, "33": 0.0, "67": 1.0, "100": 0.0},
    }


def test_without_repeated_draws_how_sure_is_not_known():
    levels = levels_of([1.0], [2.0], [1.5])
    assert resample(levels, 200, rng()) is None
    assert best_level(levels, None) == {"best_level": 1.0, "best_level_share": None}


def test_resampled_means_spread_as_means_of_draws_do():
    levels = levels_of([0.0, 3.0, 6.0], [1.0, 1.0, 4.0])
    drawn = resample(levels, 200_000, rng())
    expected = [np.std(draws, ddof=1) / np.sqrt(3) for draws in levels.draws]
    assert drawn.std(axis=0) == pytest.approx(expected, rel=0.01)
    assert drawn.mean(axis=0) == pytest.approx(levels.means, abs=0.02)


def test_a_single_draw_takes_the_spread_of_the_other_levels():
    drawn = resample(levels_of([0.0, 2.0], [5.0]), 100_000, rng())
    assert drawn[:, 1].std() == pytest.approx(np.sqrt(2), rel=0.01)


def pairwise(levels, one, other):
    """Difference, standard error, p and degrees of freedom of two level means, by hand."""
    counts = np.array([len(own) for own in levels.draws])
    squares = np.array([((own - own.mean()) ** 2).sum() for own in levels.draws])
    pooled = squares.sum() / (counts - 1).sum()
    df = PRIOR_DF + counts - 1
    own = np.where(counts > 1, (PRIOR_DF * pooled + squares) / df, 4 * pooled)  # one draw: unknown
    shares = (own / counts)[[one, other]]
    whole = ((counts - 1) * PRIOR_DF / df).sum()
    df = min(shares.sum() ** 2 / (shares**2 / df[[one, other]]).sum(), whole, *df[[one, other]])
    difference = levels.draws[one].mean() - levels.draws[other].mean()
    error = np.sqrt(shares.sum())
    return difference, error, 2 * stats.t.sf(abs(difference / error), df), df


@pytest.mark.parametrize("draws", [3, (3, 2, 4, 1)])
def test_ends_are_a_contrast_whose_spreads_are_drawn_together(draws):
    levels = simulated(rng(3), 0.02, draws=draws)
    found = ends(levels, 0.95, pool(levels.draws))
    difference, error, p, df = pairwise(levels, 3, 0)
    reach = stats.t.ppf(0.975, df) * error
    assert (found["level"], found["other"]) == (100.0, 0.0)
    assert found["df"] == pytest.approx(df)
    assert found["difference"] == pytest.approx(difference)
    assert (found["low"], found["high"]) == pytest.approx((difference - reach, difference + reach))
    assert found["p"] == pytest.approx(p, rel=1e-6)


def test_the_best_level_is_held_against_the_one_hardest_to_tell_from_it():
    levels = levels_of([0.0, 1.0], [5.0, 5.5, 6.0], [4.5], [2.0, 3.0])
    found = best_margin(levels, 0.95, pool(levels.draws))
    others = [pairwise(levels, 1, other)[2] for other in (0, 2, 3)]
    assert found["level"] == 1.0
    assert found["other"] == 2.0  # the one draw there is the least sure
    assert found["p"] == pytest.approx(max(others), rel=1e-6)


def test_what_has_no_spread_or_no_middle_has_no_contrast():
    known = pool([[1.0, 2.0], [3.0, 4.0]])
    assert ends(levels_of([1.0, 2.0], [3.0, 4.0]), 0.95, known) is None  # the slope says it
    assert ends(levels_of([1.0], [2.0], [3.0]), 0.95, known) is None  # one draw a level
    assert best_margin(levels_of([1.0], [2.0], [3.0]), 0.95, None) is None
    assert best_margin(levels_of([1.0, 1.0], [1.0, 1.0]), 0.95, known) is None


def coverage(times, config, **made):
    """Share of simulated studies whose t interval, and whose shown interval, holds the slope."""
    rng = np.random.default_rng(0)
    held = np.zeros(2)
    with patch.multiple(slopes, bayes=lambda *_: None, mixed_line=lambda *_: None):  # not asked for
        for _ in range(times):
            found = fit_alone(simulated(rng, 0.01, **made), config)
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


def test_a_lone_draw_is_taken_to_spread_twice_as_widely_unless_more_are_to_come():
    known = pool([[1.0, 3.0], [2.0, 6.0], [5.0]])
    assert known.cell([5.0]).variance == pytest.approx(4 * known.variance)
    assert known.cell([5.0], more=True).variance == pytest.approx(known.variance)
    assert known.cell([1.0, 3.0]) == known.cell([1.0, 3.0], more=True)
