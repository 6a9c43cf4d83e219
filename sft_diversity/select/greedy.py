"""Lazy greedy on a sum, over kinds, of a concave function of how many picks hold the kind."""

from __future__ import annotations

import numpy as np

from sft_diversity.select.compiled import NO_CAP, Floats, Ints, Kinds, Rows, compiled
from sft_diversity.select.quotas import NO_GROUP, NO_ROOM, Groups


def greedy(
    indptr: Ints,
    indices: Kinds,
    rows: Rows,
    size: int,
    steps: Floats,
    held: Ints,
    *,
    cap: int = NO_CAP,
    goal: float = 0.0,
    group: Groups = NO_GROUP,
    room: Ints = NO_ROOM,
) -> Rows:
    """Pick rows one by one, each the one that adds most to Σ_j F(c_j).

    Parameters
    ----------
    indptr, indices : arrays
        The incidence by sample.
    rows : int64 array, shape (m,)
        Candidates, distinct; of equal gains the earlier in this array wins.
    size : int
        Picks at most.
    steps : float64 array, not rising
        `steps[c] = F(c + 1) - F(c)`; its last entry holds for all larger c as well.
    held : int64 array, shape (n_kinds,)
        c_j, picks that hold kind j; changed in place, so a start other than empty is possible.
    cap : int
        Rows that hold a kind with `c_j >= cap` are passed over.
    goal : float
        Give up as soon as the gains still possible cannot bring the sum of gains to `goal`.
    group, room : int arrays, shapes (n,) and (parts,), optional
        Part of every row, and the picks that each part may still give; `room` is counted down.

    Returns
    -------
    int64 array, shape (at most size,)
        Picks in order. Shorter when no row adds anything any more, or the goal is out of reach.

    Notes
    -----
    The same picks as plain greedy, one by one: with concave F a gain only falls, also in floating
    point since every row sums its terms in one order, so a stale gain is a bound. Within 1 - 1/e
    of the best (Nemhauser, Wolsey, Fisher 1978, doi:10.1007/BF01588971), within 1/2 under `room`
    (Fisher, Nemhauser, Wolsey 1978, doi:10.1007/BFb0121195), no such law under a cap; lazy: Minoux
    1978, doi:10.1007/BFb0006528. Memory O(m); time O(nnz + evaluations · (row length + log m)).
    """
    lengths = np.diff(indptr)[rows] if len(rows) else np.zeros(0, np.int64)
    # the gain of a row of each length before any pick, added up in the order that a kernel does
    ceiling = np.concatenate([[0.0], np.cumsum(np.full(int(lengths.max(initial=0)), steps[0]))])
    gains = ceiling[lengths]
    heap = _longest_first(lengths)  # sorted by gain, then position: a heap as it stands
    picks = np.empty(min(size, len(rows)), np.int64)
    taken = _lazy_greedy(
        indptr, indices, rows, gains, heap, steps, held, cap, goal, group, room, picks
    )
    return picks[:taken]


def _longest_first(lengths: Ints) -> Ints:
    """Return the order of falling length, ties by position; a radix sort where lengths allow."""
    short = np.uint16 if lengths.max(initial=0) < 1 << 16 else np.int64
    return np.argsort((lengths.max(initial=0) - lengths).astype(short), kind="stable")


@compiled
def _lazy_greedy(
    indptr: Ints,
    indices: Kinds,
    rows: Rows,
    gains: Floats,
    heap: Ints,
    steps: Floats,
    held: Ints,
    cap: int,
    goal: float,
    group: Groups,
    room: Ints,
    picks: Rows,
) -> int:
    """Fill `picks`; return how many. `heap` orders positions in `rows` by gain, then position."""
    length = len(heap)
    taken = 0
    total = 0.0
    while taken < len(picks) and length > 0:
        best = heap[0]
        row = rows[best]
        gain = -1.0
        if len(group) == 0 or room[group[row]] > 0:
            gain = row_gain(indptr, indices, row, steps, held, cap)
        if gain < gains[best]:
            gains[best] = gain
            if gain <= 0.0:
                length -= 1
                best = heap[length]
            sift_down(heap, gains, length, best)
            continue
        if gain <= 0.0 or total + gain * (len(picks) - taken) < goal:
            break
        for kind in indices[indptr[row] : indptr[row + 1]]:
            held[kind] += 1
        if len(group) > 0:
            room[group[row]] -= 1
        picks[taken] = row
        taken += 1
        total += gain
        length -= 1
        sift_down(heap, gains, length, heap[length])
    return taken


@compiled
def row_gain(indptr: Ints, indices: Kinds, row: int, steps: Floats, held: Ints, cap: int) -> float:
    """Return what `row` adds; -1 if it holds a kind that has reached the cap."""
    gain = 0.0
    for kind in indices[indptr[row] : indptr[row + 1]]:
        if held[kind] >= cap:
            return -1.0
        gain += steps[min(held[kind], len(steps) - 1)]
    return gain


@compiled
def sift_down(heap: Ints, gains: Floats, length: int, item: int) -> None:
    """Put `item` at the root of a heap of `length`, then down to where it belongs."""
    at = 0
    while 2 * at + 1 < length:
        below = 2 * at + 1
        if below + 1 < length:
            one, two = heap[below], heap[below + 1]
            if gains[two] > gains[one] or (gains[two] == gains[one] and two < one):
                below += 1
        child = heap[below]
        if gains[item] > gains[child] or (gains[item] == gains[child] and item < child):
            break
        heap[at] = child
        at = below
    if length > 0:
        heap[at] = item
