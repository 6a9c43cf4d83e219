"""Finishing: from picks that hold the kinds wanted to exactly N rows within the limits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from sft_diversity.core.kernels import Ints, Kinds, Rows, compiled
from sft_diversity.core.seeding import generator
from sft_diversity.selection import capping
from sft_diversity.selection.cover import cover
from sft_diversity.selection.exchange import exchange, partners
from sft_diversity.selection.limits import NO_CAP, Limits
from sft_diversity.selection.transpose import count_kinds

#: From candidates and the picks made already to those picks and more.
Filling = Callable[[Rows, Rows], Rows]
REFERENCE_SEED = 0  # the range of a dial is the same for all seeds


def finish(
    indptr: Ints,
    indices: Kinds,
    n_kinds: int,
    rows: Rows,
    size: int,
    limits: Limits,
    *,
    first: Rows,
    fill: Filling,
    target: int,
    seed: int,
) -> Rows | None:
    """Bring `first` to `size` rows that hold `target` kinds, by rows that bring no other kind.

    Parameters
    ----------
    indptr, indices, n_kinds
        The incidence.
    rows : int64 array, shape (m,)
        The pool without the rows kept.
    size : int
    limits : Limits
    first : int64 array
        Picks made already, the rows kept first.
    fill : callable
        Picks the others from rows that hold no kind beyond those of `first`, or, while `first`
        holds fewer than `target` kinds, from all `rows`.
    target : int
    seed : int
        Draws the exchanges under a total.

    Returns
    -------
    int64 array, shape (size,), or None
        None where this way does not lead to a set that holds `target` kinds within the limits.
    """
    shape = (indptr, indices, n_kinds)
    held = count_kinds(indptr, indices, first, n_kinds)
    picks = fill(
        rows if np.count_nonzero(held) < target else idle(indptr, indices, rows, held), first
    )
    if len(picks) < size:
        if limits.cap == NO_CAP:
            return None
        picks = capping.complete(*shape, rows, picks, size, limits)
    if limits.total is not None:
        picks = exchange(*shape, rows, picks, limits, seed, gainless=True)
        if not limits.total.met(picks):
            return None
    held = count_kinds(indptr, indices, picks, n_kinds)
    return picks if np.count_nonzero(held) == target else None


def most_kinds(
    indptr: Ints, indices: Kinds, n_kinds: int, rows: Rows, size: int, limits: Limits
) -> Rows | None:
    """Return a greedy cover of `rows`, finished to `size` rows within the limits.

    Where quotas or nothing but N limit it, what fills up brings no kind. A cap may cost kinds. So
    may a total: where it is out of the cover's reach, as many of the cover's first rows stay as
    leave it in reach, and the shortest or longest rows fill up.

    Returns
    -------
    int64 array, shape (size,), or None
        None where no such set is found.
    """
    shape = (indptr, indices, n_kinds)
    total = limits.total

    def filled(order: Rows, first: Rows) -> Rows:
        picks = capping.fit(*shape, order, size, limits, first)
        if len(picks) < size and limits.cap != NO_CAP:
            picks = capping.complete(*shape, rows, picks, size, limits)
        return picks

    covering = cover(*shape, rows, size, limits=limits).rows
    picks = filled(rows, covering)
    if len(picks) < size:
        return None
    if total is None or total.met(picks):
        return picks
    among = partners(rows, limits)
    picks = exchange(*shape, rows, picks, limits, REFERENCE_SEED, among=among)
    order = rows[np.argsort(np.asarray(total.lengths)[rows], kind="stable")]
    if total.of(picks) < total.least:
        order = order[::-1]
    first = covering[: _in_reach(covering, among.order, size, limits)]
    for lossless in (True, False):
        if total.met(picks):
            return picks
        picks = filled(order, first)
        picks = exchange(
            *shape, rows, picks, limits, REFERENCE_SEED, lossless=lossless, among=among
        )
    return picks if total.met(picks) else None


def _in_reach(covering: Rows, rows: Rows, size: int, limits: Limits) -> int:
    """Return how many of the first rows of a cover, those kept at least, leave the total in reach.

    By bisection: one more is too many. With `rows` by part and length what is left needs no sort.
    """
    total = limits.total
    assert total is not None
    left = np.ones(int(rows.max(initial=0)) + 1, np.bool_)
    works, fails = len(limits.kept), len(covering) + 1
    while fails - works > 1:
        middle = (works + fails) // 2
        taken = covering[:middle]
        left[:] = True
        left[taken[taken < len(left)]] = False
        low, high = limits.reach(taken, rows[left[rows]], size)
        works, fails = (
            (middle, fails) if low <= total.most and high >= total.least else (works, middle)
        )
    return works


def idle(indptr: Ints, indices: Kinds, rows: Rows, held: Ints) -> Rows:
    """Return those of `rows` all of whose kinds are held, in their order. O(nnz of `rows`)."""
    keep = np.empty(len(rows), np.bool_)
    _bring_nothing(indptr, indices, rows, held, keep)
    return rows[keep]


@compiled
def _bring_nothing(
    indptr: Ints, indices: Kinds, rows: Rows, held: Ints, keep: npt.NDArray[np.bool_]
) -> None:
    """Set `keep[i]` to whether all kinds of `rows[i]` are held."""
    for i in range(len(rows)):
        keep[i] = True
        for kind in indices[indptr[rows[i]] : indptr[rows[i] + 1]]:
            if held[kind] == 0:
                keep[i] = False
                break


def shuffled(rows: Rows, seed: int, stream: str) -> Rows:
    """Return `rows` in an order drawn by the seed for one use."""
    return generator(seed, "select", stream).permutation(rows)
