"""k-center: picks that leave no sample far from all of them, by farthest-first traversal."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sft_diversity.core.errors import UsageError
from sft_diversity.core.kernels import Floats, Points, Rows, compiled, cosine
from sft_diversity.selection.embedded.similarity import check_points, raise_nearest, slack

AHEAD = 256  # rows among which picks are made before all others are brought up to date


@dataclass(frozen=True)
class KCenter:
    """Picks and how far the samples are from them.

    Attributes
    ----------
    rows : int64 array, shape (size,)
        Distinct rows in pick order, so a smaller size gives a prefix.
    nearest : float64 array, shape (n,)
        Greatest cosine of each row to any pick, up to rounding 1 for the picks themselves.
    radius : float
        Greatest Euclidean distance of a row to its nearest pick: at most twice the least that any
        `size` centres among the rows could give.
    """

    rows: Rows
    nearest: Floats
    radius: float


def k_center(points: Points, size: int, first: int = 0) -> KCenter:
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

    Returns
    -------
    KCenter

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
    everyone = np.arange(len(points))
    nearest = np.full(len(points), -np.inf)
    open_to = np.ones(len(points), bool)
    rows[0] = first
    open_to[first] = False
    raise_nearest(points, everyone, rows[:1], nearest)
    taken = 1
    while taken < size:
        added = _pick_ahead(points, np.where(open_to, nearest, np.inf), size - taken)
        rows[taken : taken + len(added)] = added
        open_to[added] = False
        taken += len(added)
        raise_nearest(points, everyone, added, nearest)
    return KCenter(rows, nearest, float(np.sqrt(max(0.0, 2.0 - 2.0 * nearest.min()))))


def _pick_ahead(points: Points, nearest: Floats, most: int) -> Rows:
    """Return the next picks, at least one, as far as they follow from the farthest rows alone."""
    farthest = int(nearest.argmin())
    ahead = np.arange(len(nearest))
    floor = np.inf  # the least cosine of a row outside: picks must be farther
    if len(nearest) > AHEAD:
        order = np.argpartition(nearest, AHEAD)
        ahead, floor = order[:AHEAD], float(nearest[order[AHEAD]])
        ahead = np.union1d(ahead, [farthest])
    products = points[ahead] @ points[ahead].T
    picks = np.empty(min(most, len(ahead)), np.int64)
    start = int(np.searchsorted(ahead, farthest))
    error = slack(points.shape[1])
    taken = _pick(points, ahead, nearest[ahead], products, floor, error, start, picks)
    return picks[:taken]


@compiled
def _pick(
    points: Points,
    rows: Rows,
    nearest: Floats,
    products: Points,
    floor: float,
    error: float,
    start: int,
    picks: Rows,
) -> int:
    """Fill `picks` from `rows` while the farthest of them is farther than `floor`."""
    best = start
    for taken in range(len(picks)):
        if taken > 0 and nearest[best] >= floor:
            return taken
        picks[taken] = rows[best]
        nearest[best] = np.inf
        chosen = best
        best = 0
        for i in range(len(rows)):
            if nearest[i] < np.inf and products[i, chosen] > nearest[i] - error:
                nearest[i] = max(nearest[i], cosine(points[rows[i]], points[rows[chosen]]))
            if nearest[i] < nearest[best]:
                best = i
    return len(picks)
