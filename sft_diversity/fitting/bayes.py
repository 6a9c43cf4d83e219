"""Bayesian linear fit of level means, by scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np

from sft_diversity.fitting.levels import Floats, constant

_BAND_POINTS = 21
_TOLERANCE = 1e-8  # of the standardised slope; the default stops at 1e-3
_STEPS = 2_000


def bayes(x: Floats, y: Floats) -> dict[str, Any] | None:
    """Return the posterior of the slope and the 1-σ band of a further level mean.

    Parameters
    ----------
    x, y : float arrays, shape (levels,)
        Diversity in percent, mean score of each level.

    Returns
    -------
    dict or None
        `slope` and `sd` per percent; `band`, rows of diversity, mean, low, high. None below
        three levels or where the score is constant.

    Notes
    -----
    `sklearn.linear_model.BayesianRidge` (MacKay 1992, Tipping 2001) on standardised x and y,
    scaled back: its priors and its stopping rule are in absolute units, so that on raw scores a
    change of unit changes the posterior. The band is scikit-learn's predictive one: the noise of
    a level mean and the spread of the slope; that of the intercept is not in it.
    """
    if len(x) < 3 or constant(y):
        return None
    from sklearn.linear_model import BayesianRidge

    x_mean, x_sd, y_mean, y_sd = x.mean(), x.std(), y.mean(), y.std()
    model = BayesianRidge(tol=_TOLERANCE, max_iter=_STEPS)
    model.fit(((x - x_mean) / x_sd)[:, None], (y - y_mean) / y_sd)
    shown = np.linspace(x[0], x[-1], _BAND_POINTS)
    mean, sd = model.predict(((shown - x_mean) / x_sd)[:, None], return_std=True)
    middle, reach = y_mean + y_sd * mean, y_sd * sd
    scale = y_sd / x_sd
    band = np.column_stack([shown, middle, middle - reach, middle + reach])
    return {
        "slope": float(model.coef_[0] * scale),
        "sd": float(np.sqrt(model.sigma_[0, 0]) * scale),
        "band": band.tolist(),
    }
