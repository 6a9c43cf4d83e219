"""Lazy greedy on a sum, over kinds, of a concave function of how many picks hold the kind."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sft_diversity.core.kernels import Floats, Ints, Kinds, Rows, compiled
from sft_diversity.selection.limits import NO_CAP
from sft_diversity.selection.quotas import NO_GROUP, NO_ROOM, Groups

Places = npt.NDArray[np.int32]


def greedy(
    indptr: Ints,
    indices: Kinds,
    rows: Rows,
    size: int,
    steps: Floats,
    held: Ints,
    *,
    cap: int = NO_CAP,
    most: float = np.inf,
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
    most : float
        Stop before the pick that would bring the sum of gains above `most`.
    group, room : int arrays, shapes (n,) and (parts,), optional
        Part of every row, and the picks that each part may still give; `room` is counted down.

    Returns
    -------
    int64 array, shape (at most size,)
        Picks in order. Shorter when no row adds anything any more, or the best one too much.

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
    order = _longest_first(lengths)
    later = np.full(len(rows), -1, np.int32)
    order = order[_first_of_alike(indptr, indices, rows, len(held), group, later)[order]]
    picks = np.empty(min(size, len(rows)), np.int64)
    taken = _lazy_greedy(
        indptr, indices, rows, order, later, ceiling, steps, held, cap, most, group, room, picks
    )
    return picks[:taken]


def _longest_first(lengths: Ints) -> Ints:
    """Return the order of falling length, ties by position; a radix sort where lengths allow."""
    short = np.uint16 if lengths.max(initial=0) < 1 << 16 else np.int64
    return np.argsort((lengths.max(initial=0) - lengths).astype(short), kind="stable")


@compiled
def _first_of_alike(
    indptr: Ints, indices: Kinds, rows: Rows, n_kinds: int, group: Groups, later: Places
) -> npt.NDArray[np.bool_]:
    """Return which of `rows` no earlier one is like; set `later` to the next that is like each.

    Alike are rows of one part that hold one kind, the same: their gains are equal whatever is
    picked, so that a later one waits until the one before it is picked. With one kind a sample
    (macro) the greedy thus looks at kinds instead of samples.
    """
    parts = 1
    for row in rows if len(group) > 0 else rows[:0]:
        parts = max(parts, group[row] + 1)
    last = np.full(n_kinds * parts, -1, np.int32)
    first = np.ones(len(rows), np.bool_)
    for place in range(len(rows)):
        row = rows[place]
        if indptr[row + 1] - indptr[row] == 1:
            like = indices[indptr[row]] * parts + (group[row] if len(group) > 0 else 0)
            if last[like] >= 0:
                later[last[like]] = place
                first[place] = False
            last[like] = place
    return first


@compiled
def _lazy_greedy(
    indptr: Ints,
    indices: Kinds,
    rows: Rows,
    order: Ints,
    later: Places,
    ceiling: Floats,
    steps: Floats,
    held: Ints,
    cap: int,
    most: float,
    group: Groups,
    room: Ints,
    picks: Rows,
) -> int:
    """Fill `picks`; return how many.

    Positions in `rows` come from `order` while the bound by length of the next one is the best;
    those whose gain has fallen wait in a heap, with the number of picks that the gain is of. Rows
    that are like an earlier one are not in `order`; `later` leads to them.
    """
    gains = np.empty(len(rows), np.float64)
    places = np.empty(len(rows), np.int32)
    stamps = np.empty(len(rows), np.int32)
    length = fresh = taken = 0
    total = 0.0
    while taken < len(picks) and (length > 0 or fresh < len(order)):
        new = False
        if fresh < len(order):
            place = order[fresh]
            row = rows[place]
            bound = ceiling[indptr[row + 1] - indptr[row]]
            new = length == 0 or _before(bound, place, gains[0], places[0])
        if new:
            fresh += 1
            known = False
        else:
            place, bound, known = places[0], gains[0], stamps[0] == taken
            row = rows[place]
        gain = bound
        if len(group) > 0 and room[group[row]] <= 0:
            gain = -1.0
        elif not known:
            gain = row_gain(indptr, indices, row, steps, held, cap)
        if gain < bound and gain > 0.0:
            if new:
                _rise(gains, places, stamps, length, gain, place, taken)
                length += 1
            else:
                _sink(gains, places, stamps, length, gain, place, taken)
            continue
        if gain == bound and (gain <= 0.0 or total + gain > most):
            break
        if not new:
            length -= 1
            _sink(gains, places, stamps, length, gains[length], places[length], stamps[length])
        if gain < bound:
            continue  # adds nothing any more, or the cap or its part's room rules it out
        for kind in indices[indptr[row] : indptr[row + 1]]:
            held[kind] += 1
        if len(group) > 0:
            room[group[row]] -= 1
        picks[taken] = row
        if later[place] >= 0:  # its gain is at most that of the one before it
            _rise(gains, places, stamps, length, gain, later[place], -1)
            length += 1
        taken += 1
        total += gain
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
def close(
    indptr: Ints,
    indices: Kinds,
    rows: Rows,
    missing: int,
    steps: Floats,
    held: Ints,
    cap: int,
    group: Groups,
    room: Ints,
    picks: Rows,
) -> int:
    """Fill `picks` with rows whose gains, whole numbers, add up to `missing`; return how many.

    Each is the earliest of those that bring most without bringing too many; a row picked before
    brings nothing and is never taken again. `held` and `room` follow.
    """
    taken = 0
    while missing > 0 and taken < len(picks):
        best, most = -1, 0
        for row in rows:
            if len(group) > 0 and room[group[row]] <= 0:
                continue
            gain = int(row_gain(indptr, indices, row, steps, held, cap))
            if most < gain <= missing:
                best, most = row, gain
                if gain == missing:
                    break
        if best < 0:
            break
        for kind in indices[indptr[best] : indptr[best + 1]]:
            held[kind] += 1
        if len(group) > 0:
            room[group[best]] -= 1
        picks[taken] = best
        taken += 1
        missing -= most
    return taken


@compiled
def _before(gain: float, place: int, other_gain: float, other_place: int) -> bool:
    """Whether the first comes before the second: greater gain, then lower place."""
    return gain > other_gain or (gain == other_gain and place < other_place)


@compiled
def _rise(
    gains: Floats, places: Places, stamps: Places, at: int, gain: float, place: int, stamp: int
) -> None:
    """Add an entry to a heap of length `at`, moved towards the root to where it belongs."""
    while at > 0:
        parent = (at - 1) // 2
        if not _before(gain, place, gains[parent], places[parent]):
            break
        gains[at], places[at], stamps[at] = gains[parent], places[parent], stamps[parent]
        at = parent
    gains[at], places[at], stamps[at] = gain, place, stamp


@compiled
def _sink(
    gains: Floats, places: Places, stamps: Places, length: int, gain: float, place: int, stamp: int
) -> None:
    """Put an entry at the root of a heap of `length`, then down to where it belongs."""
    at = 0
    while 2 * at + 1 < length:
        child = 2 * at + 1
        if child + 1 < length and _before(
            gains[child + 1], places[child + 1], gains[child], places[child]
        ):
            child += 1
        if _before(gain, place, gains[child], places[child]):
            break
        gains[at], places[at], stamps[at] = gains[child], places[child], stamps[child]
        at = child
    if length > 0:
        gains[at], places[at], stamps[at] = gain, place, stamp
