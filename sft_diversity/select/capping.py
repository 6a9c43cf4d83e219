"""A cap on how many picks may hold one kind, and quotas: what fits, and completing a set."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sft_diversity.select.compiled import NO_ROWS, Ints, Kinds, Rows, compiled
from sft_diversity.select.quotas import Groups, Quotas, groups_and_room
from sft_diversity.select.transpose import count_kinds


def fit(
    indptr: Ints,
    indices: Kinds,
    n_kinds: int,
    rows: Rows,
    size: int,
    cap: int,
    *,
    kept: Rows = NO_ROWS,
    quotas: Quotas | None = None,
) -> Rows:
    """Take `kept`, then from `rows`, in their order, each that the cap and quotas still allow.

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
    quotas : Quotas, optional
        No part gives more than its number.

    Returns
    -------
    int64 array, shape (at most size,)
        `kept` first. Time O(nnz of `rows`).
    """
    picks = np.empty(size, np.int64)
    picks[: len(kept)] = kept
    held = np.zeros(n_kinds, np.int64)
    picked = np.zeros(len(indptr) - 1, np.bool_)
    group, room = groups_and_room(quotas, kept)
    return picks[: _fit(indptr, indices, rows, picks, len(kept), picked, held, cap, group, room)]


def fewest_kinds_first(indptr: Ints, rows: Rows) -> Rows:
    """Return `rows` ordered by the kinds they hold, ties by row: the order that fits most."""
    return rows[np.lexsort((rows, np.diff(indptr)[rows]))]


def fits(
    indptr: Ints,
    indices: Kinds,
    n_kinds: int,
    rows: Rows,
    size: int,
    cap: int,
    *,
    kept: Rows = NO_ROWS,
    quotas: Quotas | None = None,
) -> bool:
    """Whether `kept` and some of `rows` make `size` under the cap, those with fewest kinds first.

    Finding the largest set under a cap is a packing problem and NP-hard; this greedy answer is
    the project's definition of feasible. A yes is certain, a no may miss a set that exists; for
    one kind per sample (macro) it is exact.
    """
    order = fewest_kinds_first(indptr, rows)
    return len(fit(indptr, indices, n_kinds, order, size, cap, kept=kept, quotas=quotas)) == size


def smallest_cap(
    indptr: Ints,
    indices: Kinds,
    n_kinds: int,
    rows: Rows,
    size: int,
    cap: int,
    *,
    kept: Rows = NO_ROWS,
    quotas: Quotas | None = None,
) -> int:
    """Return the smallest feasible cap above `cap`, which is not; without one `size` must fit.

    Every cap on the way is tried, but those that cannot do by arithmetic alone: the picks hold at
    least as many kinds as the `size` shortest rows, and a cap of C leaves room for Σ min(C, n_j).
    """
    lengths = np.sort(np.diff(indptr)[rows])
    least = int(lengths[: size - len(kept)].sum() + np.diff(indptr)[kept].sum())
    present = count_kinds(indptr, indices, np.concatenate([rows, kept]), n_kinds)
    cap += 1
    while int(np.minimum(present, cap).sum()) < least or not fits(
        indptr, indices, n_kinds, rows, size, cap, kept=kept, quotas=quotas
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
    cap: int,
    *,
    kept: int = 0,
    quotas: Quotas | None = None,
) -> Rows:
    """Bring a fill that got stuck under the cap to exactly `size` rows, keeping what it can.

    The last picks give way until the rows with fewest kinds can fill the rest. By bisection, so
    the prefix kept is one that works and one pick more does not; keeping the first `kept`, which
    never give way, works whenever the cap is feasible.

    Returns
    -------
    int64 array, shape (size,)
    """
    order = fewest_kinds_first(indptr, rows)

    def filled_from(number: int) -> Rows:
        first = picks[:number]
        return fit(indptr, indices, n_kinds, order, size, cap, kept=first, quotas=quotas)

    works, fails = kept, len(picks)
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
