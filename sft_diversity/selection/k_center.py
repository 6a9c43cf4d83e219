"""k-center: picks that leave no sample far from all of them, by farthest-first traversal."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sft_diversity.core.errors import UsageError
from sft_diversity.core.kernels import Floats, Points, Rows, compiled, cosine, slack
from sft_diversity.core.neighbours import ON_CPU, Engine, products
from sft_diversity.core.vectors import check_points

AHEAD = 256  # rows among which picks are made before all others are brought up to date
BLOCK = 1 << 24  # products held at a time: 64 MB


@dataclass(frozen=True)
class KCenter:
    """Picks and how far the samples are from them.

    Attributes
    ----------
    rows : int64 array, shape (size,)
        Distinct rows in pick order, so a smaller size gives a prefix.
    radius : float
        Greatest Euclidean distance of a row to its nearest pick: at most twice the least that any
        `size` centres among the rows could give.
    """

    rows: Rows
    radius: float


def k_center(points: Points, size: int, first: int = 0, on: Engine = ON_CPU) -> KCenter:
    """Pick rows one by one, each the farthest from all picks so far.

    Parameters
    ----------
    points : float32 array, shape (n, d)
        Unit vectors, so that the farthest is the one with the least cosine.
    size : int
        Rows to pick, 1 to n.
    first : int
        The first pick, which the rule leaves open; the rest is deterministic, of equally far rows
        the lowest comes first. Exact duplicates of picks come last.
    on : Engine
        What forms the products; changes no pick.

    Raises
    ------
    UsageError
        If `size` or `first` are out of range, or `points` no finite float32 vectors.

    Notes
    -----
    Radius at most twice the best (Gonzalez 1985, doi:10.1016/0304-3975(85)90224-5); as core-set
    selection Sener & Savarese 2018, arXiv:1708.00489, Algorithm 1. Exact, pick by pick in float64:
    the farthest `AHEAD` rows are picked from until one outside them could be as far, then all rows
    meet the new picks in one matrix product. Time O(n · d · size), memory O(n · d).
    """
    check_points(points, size)
    if not 0 <= first < len(points):
        raise UsageError(f"select: first pick is row {first:,} but rows go to {len(points) - 1:,}")
    rows = np.empty(size, np.int64)
    nearest = np.full(len(points), -np.inf)
    is_open = np.ones(len(points), np.bool_)
    added, taken = np.array([first]), 0
    while True:
        rows[taken : taken + len(added)] = added
        is_open[added] = False
        taken += len(added)
        raise_nearest(points, added, nearest, on)
        if taken == size:
            return KCenter(rows, float(np.sqrt(max(0.0, 2.0 - 2.0 * nearest.min()))))
        added = _pick_ahead(points, np.where(is_open, nearest, np.inf), size - taken)


def raise_nearest(points: Points, picks: Rows, nearest: Floats, on: Engine = ON_CPU) -> None:
    """Raise `nearest[row]`, for every row, to its greatest cosine to any of `picks`.

    Exact in float64: a product is only left out where even its error could not raise the value,
    so the result is the same with any BLAS, any number of threads and any device.
    """
    others, error = points[picks], slack(points.shape[1])
    step = max(1, BLOCK // max(1, len(picks)))
    for start in range(0, len(points), step):
        made = products(points[start : start + step], others, on)
        _raise_nearest(points, start, picks, made, error, nearest)


def _pick_ahead(points: Points, nearest: Floats, most: int) -> Rows:
    """Return the next picks, at least one, as far as they follow from the farthest rows alone."""
    farthest = int(nearest.argmin())
    ahead = np.arange(len(nearest))
    floor = np.inf  # the least cosine of a row outside: picks must be farther
    if len(nearest) > AHEAD:
        order = np.argpartition(nearest, AHEAD)
        ahead, floor = order[:AHEAD], float(nearest[order[AHEAD]])
        ahead = np.union1d(ahead, [farthest])
    alike = points[ahead] @ points[ahead].T
    picks = np.empty(min(most, len(ahead)), np.int64)
    start, error = int(np.searchsorted(ahead, farthest)), slack(points.shape[1])
    return picks[: _pick(points, ahead, nearest[ahead], alike, floor, error, start, picks)]


@compiled
def _raise_nearest(
    points: Points, start: int, picks: Rows, made: Points, error: float, nearest: Floats
) -> None:
    """Raise `nearest` of the rows from `start` on, whose products with the picks `made` has."""
    for i in range(len(made)):
        row = start + i
        for j in range(len(picks)):
            if made[i, j] > nearest[row] - error:
                nearest[row] = max(nearest[row], cosine(points[row], points[picks[j]]))


@compiled
def _pick(
    points: Points,
    rows: Rows,
    nearest: Floats,
    alike: Points,
    floor: float,
    error: float,
    start: int,
    picks: Rows,
) -> int:
    """Fill `picks` from `rows` while the farthest of them is farther than `floor`.

    `nearest[i]` is exact for the picks made so far, and infinite for those themselves; `alike`
    are of `rows` with one another, each within `error` of the cosine.
    """
    best = start
    for taken in range(len(picks)):
        if taken > 0 and nearest[best] >= floor:
            return taken
        picks[taken] = rows[best]
        nearest[best] = np.inf
        chosen = best
        best = 0
        for i in range(len(rows)):
            if nearest[i] < np.inf and alike[i, chosen] > nearest[i] - error:
                nearest[i] = max(nearest[i], cosine(points[rows[i]], points[rows[chosen]]))
            if nearest[i] < nearest[best]:
                best = i
    return len(picks)
