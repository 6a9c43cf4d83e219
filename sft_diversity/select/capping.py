"""A cap on how many picks may hold one kind: what fits, and completing a set that got stuck."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sft_diversity.select.compiled import Ints, Kinds, Rows, compiled
from sft_diversity.select.transpose import count_kinds


def fit(
    indptr: Ints, indices: Kinds, n_kinds: int, rows: Rows, size: int, cap: int, *, kept: Rows
) -> Rows:
    """Take `kept`, then from `rows`, in their order, each row that the cap still allows.

    Parameters
    ----------
    indptr, indices, n_kinds
        The incidence.
    rows : int64 array, shape (m,)
        Candidates in order of preference.
    size : int
        Rows at most.
    cap : int
        No kind is held by more picks than this.
    kept : int64 array, shape (at most size,)
        Picks made already, within the cap; where `rows` names them again they are passed over.

    Returns
    -------
    int64 array, shape (at most size,)
        `kept` first. Time O(nnz of `rows`).
    """
    picks = np.empty(size, np.int64)
    picks[: len(kept)] = kept
    held = np.zeros(n_kinds, np.int64)
    picked = np.zeros(len(indptr) - 1, np.bool_)
    return picks[: _fit(indptr, indices, rows, picks, len(kept), picked, held, cap)]


def fewest_kinds_first(indptr: Ints, rows: Rows) -> Rows:
    """Return `rows` ordered by the kinds they hold, ties by row: the order that fits most."""
    return rows[np.lexsort((rows, np.diff(indptr)[rows]))]


def fits(indptr: Ints, indices: Kinds, n_kinds: int, rows: Rows, size: int, cap: int) -> bool:
    """Whether the cap is feasible: `size` of `rows` fit when those with fewest kinds go first.

    Finding the largest set under a cap is a packing problem and NP-hard; this greedy answer is
    the project's definition of feasible. A yes is certain, a no may miss a set that exists; for
    one kind per sample (macro) it is exact.
    """
    order = fewest_kinds_first(indptr, rows)
    none = np.zeros(0, np.int64)
    return len(fit(indptr, indices, n_kinds, order, size, cap, kept=none)) == size


def smallest_cap(
    indptr: Ints, indices: Kinds, n_kinds: int, rows: Rows, size: int, cap: int
) -> int:
    """Return the smallest feasible cap above `cap`, which is not; `size` of `rows` must exist.

    Every cap on the way is tried, but those that cannot do by arithmetic alone: the picks hold at
    least as many kinds as the `size` shortest rows, and a cap of C leaves room for Σ min(C, n_j).
    """
    lengths = np.sort(np.diff(indptr)[rows])
    least = int(lengths[:size].sum())
    present = count_kinds(indptr, indices, rows, n_kinds)
    cap += 1
    while int(np.minimum(present, cap).sum()) < least or not fits(
        indptr, indices, n_kinds, rows, size, cap
    ):
        cap += 1
    return cap


def complete(
    indptr: Ints, indices: Kinds, n_kinds: int, rows: Rows, picks: Rows, size: int, cap: int
) -> Rows:
    """Bring a fill that got stuck under the cap to exactly `size` rows, keeping what it can.

    The last picks give way until the rows with fewest kinds can fill the rest. By bisection, so
    the prefix kept is one that works and one pick more does not; keeping nothing works whenever
    the cap is feasible.

    Returns
    -------
    int64 array, shape (size,)
    """
    order = fewest_kinds_first(indptr, rows)
    works, fails = 0, len(picks)
    best = fit(indptr, indices, n_kinds, order, size, cap, kept=picks[:0])
    while fails - works > 1:
        middle = (works + fails) // 2
        filled = fit(indptr, indices, n_kinds, order, size, cap, kept=picks[:middle])
        if len(filled) == size:
            works, best = middle, filled
        else:
            fails = middle
    return best


@compiled
def _fit(
    indptr: Ints,
    indices: Kinds,
    rows: Rows,
    picks: Rows,
    taken: int,
    picked: npt.NDArray[np.bool_],
    held: Ints,
    cap: int,
) -> int:
    """Fill `picks` from position `taken`; return how many there are at the end."""
    for row in picks[:taken]:
        picked[row] = True
        for kind in indices[indptr[row] : indptr[row + 1]]:
            held[kind] += 1
    for row in rows:
        if taken == len(picks):
            break
        room = not picked[row]
        for kind in indices[indptr[row] : indptr[row + 1]]:
            room = room and held[kind] < cap
        if room:
            picks[taken] = row
            taken += 1
            for kind in indices[indptr[row] : indptr[row + 1]]:
                held[kind] += 1
    return taken
