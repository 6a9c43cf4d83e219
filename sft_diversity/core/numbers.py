"""Figures that several rooms state, each of them one thing in the whole house."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.integer[Any]] | npt.NDArray[np.floating[Any]]


def entropy(counts: Counts, base: float = 2.0) -> float:
    """Return the Shannon entropy of a distribution given by counts, in bits; 0 without any.

    By hand: for this alone `scipy.stats` would cost `select` a second of imports.
    """
    there = counts[counts > 0]
    shares = there / there.sum()
    return float(-(shares * np.log(shares)).sum()) / math.log(base) + 0.0


def evenness(counts: Counts) -> float:
    """Return Pielou's evenness of counts: their entropy over its greatest possible value.

    H / log S over the S that occur: 1 when all are equal (and, by convention, when fewer than two
    occur), towards 0 when one has nearly all.
    """
    there = counts[counts > 0]
    return entropy(there, float(len(there))) if len(there) > 1 else 1.0


def interval(
    values: npt.NDArray[np.float64], confidence: float = 0.95
) -> tuple[float, float] | tuple[None, None]:
    """Return the percentile interval of resamples, Nones where fewer than two are finite."""
    finite = values[np.isfinite(values)]
    if len(finite) < 2:
        return None, None
    low, high = np.quantile(finite, [0.5 - confidence / 2, 0.5 + confidence / 2])
    return float(low), float(high)


def student_p(t: float, df: int) -> float:
    """Return the two-sided p-value of a Student's t with `df` degrees of freedom.

    By `scipy.special`: `scipy.stats` takes ten times as long for one number.
    """
    from scipy import special

    return float(2 * special.stdtr(df, -abs(t)))


def student_reach(confidence: float, df: int) -> float:
    """Return the |t| that is not exceeded with chance `confidence`."""
    from scipy import special

    return float(special.stdtrit(df, 0.5 + confidence / 2))
