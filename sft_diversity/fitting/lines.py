"""Straight lines through points and draws, and the correlations beside them."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from sft_diversity.core.numbers import Floats, student_p, student_reach
from sft_diversity.fitting.levels import Levels, constant

_EXACT = 8  # points up to which all orders are tried
_BAND_POINTS = 21
_TOLERANCE = 1e-8  # of the standardised slope; scikit-learn's default stops at 1e-3
_STEPS = 2_000
_NOTHING = 1e-6  # a variance of levels below this part of that of draws is none
_EQUAL = 1e-20  # squares of draws about their levels below this part of all are rounding


@dataclass(frozen=True)
class FittedLine:
    """An OLS line; what two points or a perfect table cannot say is None."""

    slope: float
    intercept: float
    se: float | None
    df: float
    low: float | None
    high: float | None
    p: float | None


def ols(x: Floats, y: Floats, confidence: float) -> FittedLine:
    """Return the least-squares line of y on x with the t interval of its slope.

    `x` must not be constant. With two points there is no interval.
    """
    from scipy import stats

    found = stats.linregress(x, y)
    slope, se, df = float(found.slope), float(found.stderr), len(x) - 2
    if df < 1 or constant(y):
        return FittedLine(slope, float(found.intercept), None, df, None, None, None)
    reach = student_reach(confidence, df) * se
    p = float(found.pvalue) if se > 0 else 0.0
    return FittedLine(slope, float(found.intercept), se, df, slope - reach, slope + reach, p)


def pearson(x: Floats, y: Floats) -> float | None:
    """Return Pearson's r; None where one of the two is constant."""
    from scipy import stats

    if len(x) < 2 or constant(x) or constant(y):
        return None
    return float(stats.pearsonr(x, y).statistic)


def fisher(r: float | None, df: int, confidence: float) -> tuple[float | None, float | None]:
    """Return Fisher's interval of a (partial) correlation whose t has `df` degrees of freedom."""
    from scipy import special

    if r is None or df < 2 or abs(r) == 1:
        return None, None
    reach = float(special.ndtri(0.5 + confidence / 2)) / math.sqrt(df - 1)
    middle = math.atanh(r)
    return math.tanh(middle - reach), math.tanh(middle + reach)


def r_p_value(r: float | None, df: int) -> float | None:
    """Return the two-sided p-value of a (partial) correlation by its t with `df` degrees."""
    if r is None or df < 1:
        return None
    if abs(r) == 1:
        return 0.0
    return student_p(r * math.sqrt(df / (1 - r * r)), df)


def spearman(x: Floats, y: Floats) -> tuple[float | None, float | None]:
    """Return Spearman's rank correlation and its two-sided p-value; x must not repeat.

    The p-value counts all orders up to eight points (0.1 s); beyond it is that of the t
    approximation.
    """
    from scipy import stats

    if len(x) < 3 or constant(y):
        return None, None
    if len(x) > _EXACT:
        found = stats.spearmanr(x, y)
    else:
        every = stats.PermutationMethod(n_resamples=np.inf)
        found = stats.pearsonr(stats.rankdata(x), stats.rankdata(y), method=every)
    return float(found.statistic), float(found.pvalue)


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


def mixed_line(levels: Levels, confidence: float) -> dict[str, Any] | None:
    """Fit a line through the draws, with a random effect a level: draws of a level are alike.

    Returns
    -------
    dict or None
        `slope` per percent with `low`, `high` and `p` by t with levels − 2 degrees of freedom,
        `level_sd`, by which levels differ beside the line, `draw_sd`, by which draws of a level
        differ; four digits each, as the search stops near there. `converged`; where it is False
        the others are None. None below three levels or where no spread of draws is known.

    Notes
    -----
    REML by `statsmodels`' MixedLM on standardised figures, searched by Powell's method: gradients
    vanish where `level_sd` is 0, and the default methods then stop short. With equally many draws
    a level and `level_sd` above 0 it is OLS on level means; it weighs levels by their draws where
    these are not equally many. 20 to 60 ms.
    """
    x, y = levels.each
    square, within = levels.squares
    unit, equal = float(y.std()), _EQUAL * len(y) * float(y.var())
    if len(levels.at) < 3 or not within or square <= equal or constant(y):
        return None
    from statsmodels.regression.linear_model import GLS
    from statsmodels.regression.mixed_linear_model import MixedLM

    scores = (y - y.mean()) / unit
    design = np.column_stack([np.ones(len(x)), (x - x.mean()) / x.std()])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of variances at 0, which `level_sd` says
        found = MixedLM(scores, design, groups=x).fit(method="powell", maxiter=_STEPS)
    ratio = float(found.cov_re[0, 0]) / found.scale
    ratio *= ratio > _NOTHING
    # Given the ratio of variances it is generalised least squares, whose error needs no gradient.
    line = GLS(scores, design, sigma=np.eye(len(x)) + ratio * (x[:, None] == x)).fit()
    slope, error = (float(one[1]) * unit / float(x.std()) for one in (line.params, line.bse))
    df = len(levels.at) - 2
    reach = student_reach(confidence, df) * error
    figures = {
        "slope": slope,
        "low": slope - reach,
        "high": slope + reach,
        "p": student_p(slope / error, df),
        "level_sd": math.sqrt(ratio * line.scale) * unit,
        "draw_sd": math.sqrt(line.scale) * unit,
    }
    if not found.converged:
        return {**dict.fromkeys(figures), "df": df, "converged": False}
    rounded = {name: float(f"{value:.4g}") for name, value in figures.items()}
    return {**rounded, "df": df, "converged": True}
