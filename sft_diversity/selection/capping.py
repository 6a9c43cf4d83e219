"""A cap on how many picks may hold one kind, and quotas: what fits, and completing a set."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from sft_diversity.core.kernels import Ints, Kinds, Rows, compiled
from sft_diversity.selection.limits import Limits
from sft_diversity.selection.quotas import Groups
from sft_diversity.selection.transpose import count_kinds


def fit(
    indptr: Ints,
    indices: Kinds,
    n_kinds: int,
    rows: Rows,
    size: int,
    limits: Limits,
    first: Rows | None = None,
) -> Rows:
    """Take `first`, then from `rows`, in their order, each that the cap and quotas still allow.

    Parameters
    ----------
    indptr, indices, n_kinds
        The incidence.
    rows : int64 array, shape (m,)
        Candidates in order of preference.
    size : int
        Rows at most.
    limits : Limits
        Cap and quotas.
    first : int64 array, shape (at most size,)
        Picks made already, within the limits; by default the rows that the limits keep. Where
        `rows` names them again they are passed over.

    Returns
    -------
    int64 array, shape (at most size,)
        `first`, then the others. Time O(nnz of `rows`).
    """
    first = limits.kept if first is None else first
    picks = np.empty(size, np.int64)
    picks[: len(first)] = first
    held = np.zeros(n_kinds, np.int64)
    picked = np.zeros(len(indptr) - 1, np.bool_)
    group, room = limits.room(first)
    taken = _fit(indptr, indices, rows, picks, len(first), picked, held, limits.cap, group, room)
    return picks[:taken]


def fewest_kinds_first(indptr: Ints, rows: Rows) -> Rows:
    """Return `rows` ordered by the kinds they hold, ties by row: the order that fits most."""
    return rows[np.lexsort((rows, np.diff(indptr)[rows]))]


def fits(
    indptr: Ints,
    indices: Kinds,
    n_kinds: int,
    rows: Rows,
    size: int,
    limits: Limits,
) -> bool:
    """Whether `size` fit within cap and quotas: rows kept, then those of fewest kinds first.

    Finding the largest set under a cap is a packing problem and NP-hard; this greedy answer is
    the project's definition of feasible. A yes is certain, a no may miss a set that exists; for
    one kind per sample (macro) it is exact.
    """
    order = fewest_kinds_first(indptr, rows)
    return len(fit(indptr, indices, n_kinds, order, size, limits)) == size


def smallest_cap(
    indptr: Ints,
    indices: Kinds,
    n_kinds: int,
    rows: Rows,
    size: int,
    limits: Limits,
) -> int:
    """Return the smallest feasible cap above that of `limits`; without a cap `size` must fit.

    Every cap on the way is tried, but those that cannot do by arithmetic alone: the picks hold at
    least as many kinds as the `size` shortest rows, and a cap of C leaves room for Σ min(C, n_j).
    """
    lengths = np.sort(np.diff(indptr)[rows])
    kept = limits.kept
    least = int(lengths[: size - len(kept)].sum() + np.diff(indptr)[kept].sum())
    present = count_kinds(indptr, indices, np.concatenate([rows, kept]), n_kinds)
    cap = limits.cap + 1
    while int(np.minimum(present, cap).sum()) < least or not fits(
        indptr, indices, n_kinds, rows, size, replace(limits, cap=cap)
    ):
        cap += 1
    return cap


def complete(
    indptr: Ints,
    indices: Kinds,
    n_kinds: int,
    rows: Rows,
    picks: Rows,
    size: int,
    limits: Limits,
) -> Rows:
    """Bring a fill that got stuck under the cap to exactly `size` rows, keeping what it can.

    The last picks give way until the rows with fewest kinds can fill the rest. By bisection, so
    the prefix kept is one that works and one pick more does not; the rows that the limits keep
    never give way, and they alone work whenever the cap is feasible.

    Returns
    -------
    int64 array, shape (size,)
    """
    order = fewest_kinds_first(indptr, rows)

    def filled_from(number: int) -> Rows:
        return fit(indptr, indices, n_kinds, order, size, limits, picks[:number])

    works, fails = len(limits.kept), len(picks)
    best = filled_from(works)
    while fails - works > 1:
        middle = (works + fails) // 2
        filled = filled_from(middle)
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
    group: Groups,
    room: Ints,
) -> int:
    """Fill `picks` from position `taken`; return how many there are at the end."""
    for row in picks[:taken]:
        picked[row] = True
        for kind in indices[indptr[row] : indptr[row + 1]]:
            held[kind] += 1
    for row in rows:
        if taken == len(picks):
            break
        fits = not picked[row] and (len(group) == 0 or room[group[row]] > 0)
        for kind in indices[indptr[row] : indptr[row + 1]]:
            fits = fits and held[kind] < cap
        if fits:
            picks[taken] = row
            taken += 1
            if len(group) > 0:
                room[group[row]] -= 1
            for kind in indices[indptr[row] : indptr[row + 1]]:
                held[kind] += 1
    return taken
