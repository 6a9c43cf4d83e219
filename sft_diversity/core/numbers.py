"""Figures that several rooms state, each of them one thing in the whole house."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
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


def interval(values: Floats, confidence: float = 0.95) -> tuple[float, float] | tuple[None, None]:
    """Return the percentile interval of resamples, Nones where fewer than two are finite."""
    finite = values[np.isfinite(values)]
    if len(finite) < 2:
        return None, None
    low, high = np.quantile(finite, [0.5 - confidence / 2, 0.5 + confidence / 2])
    return float(low), float(high)


@dataclass(frozen=True)
class Draws:
    """Bootstrap draws over groups: rows of one group are drawn together.

    Attributes
    ----------
    weights : float32 array, shape (draws, groups)
        How often each group is drawn.
    group_of : int array, shape (rows,)
    """

    weights: npt.NDArray[np.float32]
    group_of: npt.NDArray[np.intp]

    def of(self, rows: npt.NDArray[Any] | Sequence[int]) -> Draws:
        """Return the same draws of some of the rows (numbers, or a mask)."""
        return Draws(self.weights, self.group_of[rows])

    def sums(self, values: Floats) -> Floats:
        """Return the drawn sums of one value a row, shape (draws,)."""
        by_group = np.bincount(self.group_of, values, minlength=self.weights.shape[1])
        return np.asarray(self.weights @ by_group, dtype=np.float64)

    def ratios(self, above: Floats, below: Floats, unit: float = 1.0) -> Floats:
        """Return Σ above / (unit · Σ below) of every draw; not finite where none below is drawn."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.sums(above) / (unit * self.sums(below))


def draw(groups: Sequence[str], draws: int, rng: np.random.Generator) -> Draws:
    """Return `draws` bootstrap draws, with replacement, of the distinct names in `groups`.

    Equal names and generators give equal draws, whatever the order of the rows. Memory is
    4 · draws · groups bytes (16 MB at 1,000 × 4,000).
    """
    distinct, group_of = np.unique(np.asarray(groups, dtype=np.str_), return_inverse=True)
    n = len(distinct)
    weights = np.empty((draws, n), dtype=np.float32)
    for row in weights:
        row[:] = np.bincount(rng.integers(n, size=n), minlength=n)
    return Draws(weights, group_of)


def student_p(t: float, df: float) -> float:
    """Return the two-sided p-value of a Student's t with `df` degrees of freedom.

    By `scipy.special`: `scipy.stats` takes ten times as long for one number.
    """
    from scipy import special

    return float(2 * special.stdtr(df, -abs(t)))


def student_reach(confidence: float, df: float) -> float:
    """Return the |t| that is not exceeded with chance `confidence`."""
    from scipy import special

    return float(special.stdtrit(df, 0.5 + confidence / 2))


def save_array(path: Path, array: npt.NDArray[Any]) -> None:
    """Write a plain array as `numpy.save` does, which loses silently what a full disk refuses.

    It writes to real files through a buffer of C whose last flush nobody checks.
    """
    with path.open("wb") as file:
        plain: Any = SimpleNamespace(write=file.write)
        np.save(plain, array, allow_pickle=False)
