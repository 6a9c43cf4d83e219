"""Dunnett's law: many levels against one baseline, so that the best may be chosen afterwards."""

from __future__ import annotations

import math
from collections import Counter
from functools import lru_cache

import numpy as np

from sft_diversity.core.numbers import Floats, student_p, student_reach

_NODES_S, _NODES_Z = 96, 160
_Z_END = 9.0
_TAIL = 1e-15


def p_value(t: float, sizes: tuple[int, ...], baseline: float, df: int) -> float:
    """Return the chance that any of the levels' |t| exceeds `t` where none differs.

    Parameters
    ----------
    t : float
        Difference over its standard error, the spread pooled with `df` degrees of freedom.
    sizes : tuple of int
        Draws of each level.
    baseline : float
        Draws of the baseline; `inf` where it is known without error.

    Notes
    -----
    Dunnett 1955, doi:10.1080/01621459.1955.10501294, for unequal sizes, by Gauss–Legendre
    quadrature over the baseline's mean and the pooled spread; about 1e-8 exact, 0.5 ms.
    """
    if len(sizes) == 1:
        return student_p(t, df)
    return max(0.0, 1.0 - _within(abs(t), sizes, baseline, df))


@lru_cache(maxsize=1024)
def critical(confidence: float, sizes: tuple[int, ...], baseline: float, df: int) -> float:
    """Return the |t| that all levels stay within with chance `confidence`."""
    from scipy import optimize

    low = student_reach(confidence, df)
    if len(sizes) == 1:
        return low
    high = student_reach(1 - (1 - confidence) / len(sizes), df)  # Bonferroni's is wider

    def short(t: float) -> float:
        return _within(t, sizes, baseline, df) - confidence

    return float(optimize.brentq(short, low * 0.999, high * 1.001, xtol=1e-10))


def _within(t: float, sizes: tuple[int, ...], baseline: float, df: int) -> float:
    from scipy import special

    z, weight_z = _normal()
    s, weight_s = _spread(df)
    inside = np.ones((len(s), len(z)))
    for size, levels in Counter(sizes).items():
        shared = 0.0 if math.isinf(baseline) else size / (size + baseline)
        own = math.sqrt(1 - shared)
        middle = math.sqrt(shared) * z[None, :]
        reach = t * s[:, None]
        held = special.ndtr((middle + reach) / own) - special.ndtr((middle - reach) / own)
        inside *= held**levels
    return float(weight_s @ inside @ weight_z)


@lru_cache(maxsize=1)
def _normal() -> tuple[Floats, Floats]:
    """Return nodes above 0 and weights of a standard normal, for functions that are even in it."""
    nodes, weights = (part[_NODES_Z // 2 :] for part in np.polynomial.legendre.leggauss(_NODES_Z))
    z = _Z_END * nodes
    density = np.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    return z, 2 * _Z_END * weights * density


@lru_cache(maxsize=256)
def _spread(df: int) -> tuple[Floats, Floats]:
    """Return nodes and weights of the pooled spread over its true value, χ/√df."""
    from scipy import stats

    ends = np.sqrt(np.array([stats.chi2.ppf(_TAIL, df), stats.chi2.isf(_TAIL, df)]) / df)
    nodes, weights = np.polynomial.legendre.leggauss(_NODES_S)
    half = float(ends[1] - ends[0]) / 2
    s = float(ends.mean()) + half * nodes
    density = np.exp(stats.chi.logpdf(s * math.sqrt(df), df)) * math.sqrt(df)
    return s, half * weights * density
