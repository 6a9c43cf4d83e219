from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sft_diversity.fitting.lines import fisher, ols, pearson, r_p_value, spearman
from tests.fitting.making import LEVELS


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
    assert r == pytest.approx(theirs.statistic, abs=1e-9)
    assert r_p_value(r, len(x) - 2) == pytest.approx(theirs.pvalue, rel=1e-9)
    assert fisher(r, len(x) - 2, 0.95) == pytest.approx(theirs.confidence_interval(0.95), abs=1e-9)
    assert spearman(x, y)[0] == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)


@pytest.mark.parametrize("scores", [[1, 2, 4, 3], [4, 3, 2, 1], [1, 1, 2, 3], [2, 1, 2, 1]])
def test_the_p_value_of_spearman_counts_all_orders(scores):
    def rho(x):
        return stats.spearmanr(x, scores).statistic

    theirs = stats.permutation_test(
        (np.array(LEVELS),), rho, permutation_type="pairings", n_resamples=10_000
    )
    found, p = spearman(np.array(LEVELS), np.array(scores, dtype=float))
    assert found == pytest.approx(theirs.statistic)
    assert p == pytest.approx(theirs.pvalue)


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
