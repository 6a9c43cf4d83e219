from __future__ import annotations

import itertools

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sft_diversity.fitting import lines
from sft_diversity.fitting.lines import fisher, mixed_line, ols, pearson, r_p_value, spearman
from tests.fitting.making import LEVELS, levels_of, simulated


def table(seed, n=7):
    rng = np.random.default_rng(seed)
    return np.sort(rng.uniform(0, 100, n)), rng.normal(-6, 0.01, n)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_slope_interval_and_p_value_are_those_of_statsmodels(seed, confidence):
    x, y = table(seed)
    theirs = sm.OLS(y, sm.add_constant(x)).fit()
    ours = ols(x, y, confidence)
    low, high = theirs.conf_int(1 - confidence)[1]
    assert [ours.intercept, ours.slope, ours.se, ours.low, ours.high, ours.p] == pytest.approx(
        [*theirs.params, theirs.bse[1], low, high, theirs.pvalues[1]], rel=1e-9
    )


@pytest.mark.parametrize("seed", range(8))
def test_correlations_are_those_of_scipy(seed):
    x, y = table(seed)
    theirs = stats.pearsonr(x, y)
    r = pearson(x, y)
    assert r == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-9)
    assert r_p_value(r, len(x) - 2) == pytest.approx(theirs.pvalue, rel=1e-9)
    assert fisher(r, len(x) - 2, 0.95) == pytest.approx(theirs.confidence_interval(0.95), abs=1e-9)
    assert spearman(x, y)[0] == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)


@pytest.mark.parametrize("scores", [[1, 2, 4, 3], [4, 3, 2, 1], [1, 1, 2, 3], [2, 1, 2, 1]])
def test_the_p_value_of_spearman_counts_all_orders(scores):
    every = [stats.spearmanr(x, scores).statistic for x in itertools.permutations(LEVELS)]
    found, p = spearman(np.array(LEVELS), np.array(scores, dtype=float))
    assert found == pytest.approx(every[0])
    assert p == pytest.approx(np.mean(np.abs(every) >= abs(every[0]) - 1e-9))


def test_many_points_take_scipys_approximate_p_value():
    x, y = table(3, 30)
    assert spearman(x, y)[1] == pytest.approx(stats.spearmanr(x, y).pvalue, rel=1e-9)


def test_two_points_have_a_line_and_no_interval():
    line = ols(np.array([0.0, 100.0]), np.array([1.0, 3.0]), 0.95)
    assert (line.slope, line.low, line.high, line.p) == (0.02, None, None, None)


def test_a_constant_score_has_no_correlation():
    flat = np.full(4, -6.1)
    assert pearson(np.array(LEVELS), flat) is None
    assert spearman(np.array(LEVELS), flat) == (None, None)
    assert ols(np.array(LEVELS), flat, 0.95).low is None


@given(
    scores=st.lists(st.integers(-50, 50), min_size=4, max_size=4).filter(lambda s: len(set(s)) > 1),
    scale=st.floats(0.01, 100),
    shift=st.floats(-100, 100),
)
def test_a_line_follows_the_unit_and_the_origin_of_the_score(scores, scale, shift):
    x, y = np.array(LEVELS), np.array(scores, dtype=float)
    before, after = ols(x, y, 0.95), ols(x, scale * y + shift, 0.95)
    close = {"rel": 1e-6, "abs": 1e-9 * scale}
    assert after.slope == pytest.approx(scale * before.slope, **close)
    assert after.low == pytest.approx(scale * before.low, **close)
    assert after.high == pytest.approx(scale * before.high, **close)


def test_a_mixed_model_parts_the_spread_of_levels_from_that_of_draws():
    # Means 1, 4, 4 are 0.5, 1, 0.5 from their line: mean square 3, of draws 2, two draws a level.
    found = mixed_line(levels_of([0, 2], [3, 5], [3, 5], at=(0, 50, 100)), 0.95)
    reach = stats.t.ppf(0.975, 1) * np.sqrt(3 / 2 / 5_000)
    assert found["converged"]
    assert (found["slope"], found["df"]) == (0.03, 1)
    assert (found["low"], found["high"]) == pytest.approx((0.03 - reach, 0.03 + reach), rel=1e-3)
    assert found["p"] == pytest.approx(2 * stats.t.sf(0.03 / np.sqrt(3e-4), 1), rel=1e-3)
    assert found["level_sd"] == pytest.approx(np.sqrt((3 - 2) / 2), rel=1e-3)
    assert found["draw_sd"] == pytest.approx(np.sqrt(2), rel=1e-3)


def test_levels_on_a_line_leave_a_mixed_model_the_spread_of_draws_alone():
    found = mixed_line(levels_of([0, 4], [1, 5], [2, 6], at=(0, 50, 100)), 0.95)
    assert (found["converged"], found["level_sd"]) == (True, 0.0)
    assert found["draw_sd"] == pytest.approx(np.sqrt(24 / 4), rel=1e-3)
    assert found["high"] - found["slope"] == pytest.approx(
        stats.t.ppf(0.975, 1) * np.sqrt(6 / 10_000), rel=1e-3
    )


def reml(levels, level_sd, draw_sd):
    """Restricted likelihood of two spreads, and the slope that generalised least squares gives."""
    x, y = levels.each
    inverse = np.linalg.inv(draw_sd**2 * np.eye(len(x)) + level_sd**2 * (x[:, None] == x))
    design = np.column_stack([np.ones_like(x), x])
    inner = design.T @ inverse @ design
    found = np.linalg.solve(inner, design.T @ inverse @ y)
    rest = y - design @ found
    log = np.linalg.slogdet(inverse)[1] - np.linalg.slogdet(inner)[1] - rest @ inverse @ rest
    return log, found[1]


@pytest.mark.parametrize("seed", range(4))
def test_a_mixed_model_of_unequal_draws_is_the_likeliest(seed):
    rng = np.random.default_rng(seed)
    levels = levels_of(
        *(3 * rng.normal() + 0.1 * at + rng.normal(size=n)
          for at, n in zip(LEVELS, (1, 3, 2, 4), strict=True)),
        at=LEVELS,
    )  # fmt: skip
    found = mixed_line(levels, 0.95)
    best, slope = reml(levels, found["level_sd"], found["draw_sd"])
    assert found["slope"] == pytest.approx(slope, rel=1e-3)
    step = 0.05 * found["draw_sd"]
    for a, b in ((step, 0), (-step, 0), (0, step), (0, -step)):
        if found["level_sd"] + a >= 0:
            assert reml(levels, found["level_sd"] + a, found["draw_sd"] + b)[0] < best


def test_a_mixed_model_converges_whatever_the_spread_of_levels_and_the_unit():
    rng = np.random.default_rng(5)
    for sd in (0.0, 0.5, 3.0):
        for _ in range(6):
            levels = simulated(rng, 1e-3, draws=(3, 1, 3, 2))
            moved = [-6 + 1e-5 * (own + sd * rng.normal()) for own in levels.draws]
            assert mixed_line(levels_of(*moved, at=LEVELS), 0.95)["converged"]


def test_a_search_that_is_cut_short_says_so(monkeypatch):
    monkeypatch.setattr(lines, "_STEPS", 1)
    found = mixed_line(simulated(np.random.default_rng(1), 0.1), 0.95)
    assert found["converged"] is False
    assert found["slope"] is found["p"] is found["level_sd"] is None


def test_what_has_no_spread_or_no_middle_has_no_mixed_model():
    assert mixed_line(levels_of([1.0, 2.0], [3.0, 4.0]), 0.95) is None
    assert mixed_line(levels_of([1.0], [2.0], [4.0]), 0.95) is None
    assert mixed_line(levels_of([1.0, 1.0], [2.0, 2.0], [4.0, 4.0]), 0.95) is None
