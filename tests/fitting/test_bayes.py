from __future__ import annotations

import numpy as np
import pytest
from sklearn.compose import TransformedTargetRegressor
from sklearn.linear_model import BayesianRidge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sft_diversity.fitting.lines import bayes
from tests.fitting.making import LEVELS

X = np.array(LEVELS)


def scores(seed, sd=0.003, slope=1e-4):
    return -6 + slope * X + np.random.default_rng(seed).normal(0, sd, len(X))


@pytest.mark.parametrize("seed", range(6))
def test_the_line_is_that_of_scikit_learn_on_the_standardised_table(seed):
    y = scores(seed)
    model = TransformedTargetRegressor(
        make_pipeline(StandardScaler(), BayesianRidge(tol=1e-10, max_iter=10_000)),
        transformer=StandardScaler(),
    ).fit(X[:, None], y)
    found = bayes(X, y)
    band = np.array(found["band"])
    assert band[:, 1] == pytest.approx(model.predict(band[:, :1]), abs=1e-9)
    assert found["slope"] == pytest.approx(
        np.diff(model.predict([[0.0], [1.0]]).ravel())[0], abs=1e-9
    )


@pytest.mark.parametrize("seed", range(6))
def test_where_the_unit_leaves_its_priors_no_part_it_is_scikit_learn_on_the_raw_table(seed):
    y = scores(seed, sd=300.0, slope=30.0)
    raw = BayesianRidge(tol=1e-12, max_iter=10_000).fit(X[:, None], y)
    found = bayes(X, y)
    band = np.array(found["band"])
    mean, sd = raw.predict(band[:, :1], return_std=True)
    assert found["slope"] == pytest.approx(raw.coef_[0], rel=1e-4)
    assert found["sd"] == pytest.approx(raw.sigma_[0, 0] ** 0.5, rel=1e-4)
    assert (band[:, 3] - band[:, 2]) / 2 == pytest.approx(sd, rel=1e-4)
    assert band[:, 1] == pytest.approx(mean, rel=1e-4)


def test_the_posterior_is_the_fixed_point_of_the_evidence():
    y = scores(4)
    found = bayes(X, y)
    at, up = (X - X.mean()) / X.std(), (y - y.mean()) / y.std()
    slope, sd = (found[name] * X.std() / y.std() for name in ("slope", "sd"))
    square = at @ at
    noise = (found["band"][10][3] - found["band"][10][2]) / 2 / y.std()
    alpha = 1 / (noise**2 - sd**2 * ((found["band"][10][0] - X.mean()) / X.std()) ** 2)
    ridge = 1 / sd**2 - alpha * square  # the prior's precision
    effective = alpha * square * sd**2
    assert slope == pytest.approx(alpha * sd**2 * (at @ up), rel=1e-6)
    assert ridge == pytest.approx((effective + 2e-6) / (slope**2 + 2e-6), rel=1e-4)
    rest = ((up - slope * at) ** 2).sum()
    assert alpha == pytest.approx((len(X) - effective + 2e-6) / (rest + 2e-6), rel=1e-4)


def test_another_unit_or_origin_changes_nothing_else():
    y = scores(2)
    before, after = bayes(X, y), bayes(X, 1000 * y + 17)
    assert after["slope"] == pytest.approx(1000 * before["slope"], rel=1e-6)
    assert after["sd"] == pytest.approx(1000 * before["sd"], rel=1e-6)
    assert np.array(after["band"])[:, 1:] == pytest.approx(
        1000 * np.array(before["band"])[:, 1:] + 17, rel=1e-6
    )


def test_two_levels_or_a_constant_score_have_no_fit():
    assert bayes(X[:2], np.array([1.0, 2.0])) is None
    assert bayes(X, np.full(4, -6.1)) is None
