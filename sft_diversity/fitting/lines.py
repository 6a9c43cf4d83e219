"""The straight line through points, and the correlations beside it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations

import numpy as np

from sft_diversity.core.numbers import student_p, student_reach
from sft_diversity.fitting.levels import Floats, constant

_EXACT = 8  # points up to which all orders are tried


@dataclass(frozen=True)
class Line:
    """An OLS line; what two points or a perfect table cannot say is None."""

    slope: float
    intercept: float
    se: float | None
    df: int
    low: float | None
    high: float | None
    p: float | None


def ols(x: Floats, y: Floats, confidence: float) -> Line:
    """Return the least-squares line of y on x with the t interval of its slope.

    `x` must not be constant. With two points there is no interval.
    """
    at = x - x.mean()
    up = y - y.mean()
    square = float(at @ at)
    slope = float(at @ up) / square
    df = len(x) - 2
    intercept = float(y.mean()) - slope * float(x.mean())
    if df < 1 or constant(y):
        return Line(slope, intercept, None, df, None, None, None)
    rest = up - slope * at
    se = math.sqrt(float(rest @ rest) / df / square)
    reach = student_reach(confidence, df) * se
    p = student_p(slope / se, df) if se > 0 else 0.0
    return Line(slope, intercept, se, df, slope - reach, slope + reach, p)


def pearson(x: Floats, y: Floats) -> float | None:
    """Return Pearson's r; None where one of the two is constant."""
    if len(x) < 2 or constant(x) or constant(y):
        return None
    a, b = x - x.mean(), y - y.mean()
    r = float(a @ b) / math.sqrt(float(a @ a) * float(b @ b))
    return min(1.0, max(-1.0, r))


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

    The p-value counts all orders up to eight points; beyond it is that of the t approximation.
    """
    from scipy import stats

    if len(x) < 3 or constant(y):
        return None, None
    ranks_x = stats.rankdata(x)
    ranks_y = stats.rankdata(y)
    rho = pearson(ranks_x, ranks_y)
    if rho is None or len(x) > _EXACT:
        return rho, r_p_value(rho, len(x) - 2)
    up = ranks_y - ranks_y.mean()
    sums = np.abs(_orders(len(x)) @ up)
    here = abs(float((ranks_x - ranks_x.mean()) @ up))
    return rho, float((sums >= here - 1e-9).mean())


@lru_cache(maxsize=_EXACT)
def _orders(n: int) -> Floats:
    """Return all orders of the ranks 1..n, centred, shape (n!, n)."""
    return np.array(list(permutations(range(1, n + 1))), dtype=np.float64) - (n + 1) / 2
