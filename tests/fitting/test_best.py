from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm

from sft_diversity.fitting.best import best_level, best_margin, curvature, ends
from sft_diversity.fitting.levels import resample
from tests.fitting.making import LEVELS, levels_of, simulated


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("draws", [3, (3, 2, 4, 1)])
def test_lack_of_fit_is_the_anova_of_a_line_against_free_levels(draws):
    levels = simulated(rng(1), 0.02, draws=draws)
    rows = [(at, y) for at, own in zip(levels.at, levels.draws, strict=True) for y in own]
    x, y = np.array(rows).T
    free = sm.OLS(y, (x[:, None] == levels.at).astype(float)).fit()
    f, p, _ = free.compare_f_test(sm.OLS(y, sm.add_constant(x)).fit())
    found = curvature(levels)
    assert found["test"] == "lack of fit"
    assert found["f"] == pytest.approx(f, rel=1e-8)
    assert found["p"] == pytest.approx(p, rel=1e-8)


def test_with_one_draw_a_level_a_quadratic_term_is_tested():
    levels = simulated(rng(2), 0.02, levels=range(0, 101, 20), draws=1)
    theirs = sm.OLS(levels.means, np.vander(levels.at / 100, 3)).fit()
    found = curvature(levels)
    assert found["test"] == "quadratic"
    assert found["p"] == pytest.approx(theirs.pvalues[0], rel=1e-6)


def test_too_few_levels_have_no_curvature():
    assert curvature(simulated(rng(), levels=(0, 100))) is None
    assert curvature(simulated(rng(), levels=(0, 50, 100), draws=1)) is None


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
    """statsmodels' t test of two level means, the spread pooled over all levels."""
    at = np.repeat(range(len(levels.at)), [len(own) for own in levels.draws])
    design = (at[:, None] == range(len(levels.at))).astype(float)
    contrast = np.zeros(len(levels.at))
    contrast[one], contrast[other] = 1, -1
    return sm.OLS(np.concatenate(levels.draws), design).fit().t_test(contrast)


@pytest.mark.parametrize("draws", [3, (3, 2, 4, 1)])
def test_ends_and_margin_are_contrasts_of_pooled_spread(draws):
    levels = simulated(rng(3), 0.02, draws=draws)
    found = ends(levels, 0.95)
    theirs = pairwise(levels, 3, 0)
    assert (found["level"], found["other"]) == (100.0, 0.0)
    assert found["difference"] == pytest.approx(theirs.effect[0])
    assert (found["low"], found["high"]) == pytest.approx(tuple(theirs.conf_int()[0]))
    assert found["p"] == pytest.approx(float(theirs.pvalue), rel=1e-6)


def test_the_best_level_is_held_against_the_one_hardest_to_tell_from_it():
    levels = levels_of([0.0, 1.0], [5.0, 5.5, 6.0], [4.5], [2.0, 3.0])
    found = best_margin(levels, 0.95)
    others = [float(pairwise(levels, 1, other).pvalue) for other in (0, 2, 3)]
    assert found["level"] == 1.0
    assert found["other"] == 2.0  # the one draw there is the least sure
    assert found["p"] == pytest.approx(max(others), rel=1e-6)


def test_what_has_no_spread_or_no_middle_has_no_contrast():
    assert ends(levels_of([1.0, 2.0], [3.0, 4.0]), 0.95) is None  # the slope says it
    assert ends(levels_of([1.0], [2.0], [3.0]), 0.95) is None
    assert best_margin(levels_of([1.0], [2.0], [3.0]), 0.95) is None
    assert best_margin(levels_of([1.0, 1.0], [1.0, 1.0]), 0.95) is None
