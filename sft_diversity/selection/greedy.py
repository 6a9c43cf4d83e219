"""Lazy greedy on Σ_j F(c_j), F concave, and its two uses: maximum coverage and balanced counts.

c_j is the number of picks that hold kind j, not how often they hold it: the same unit that draws,
caps and evenness count.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sft_diversity.core.kernels import Floats, Mask, Rows, compiled
from sft_diversity.selection.heap import rise, sink
from sft_diversity.selection.pick_state import PickState, add_pick
from sft_diversity.selection.problem import Problem

Places = npt.NDArray[np.int32]
FIRST_ONLY = np.array([1.0, 0.0])  # coverage: a kind counts once
_GONE = -1.0  # the bound of a row that is never looked at again
_FLOOR = 0.8  # of the greatest bound: lower, a round takes in more rows, and there are fewer


def cover(problem: Problem, *, target: int | None = None) -> Rows:
    """Pick the rows kept, then one by one the row with most kinds that no pick holds yet.

    Parameters
    ----------
    problem : Problem
        Cap and quotas hold; a total plays no part.
    target : int, optional
        Stop at this many kinds, never above: where the best row would bring too many, the best of
        those that do not takes its place. Fewer kinds where no row fits the rest.

    Returns
    -------
    int64 array, shape (at most size,)
        Picks in order, so a smaller size gives a prefix; fewer where nothing is left to gain.

    Notes
    -----
    Without target within 1 - 1/e of the best coverage with `size` rows, within 1/2 under quotas;
    see `greedy` for cost and source. A target adds one pass over the rows for each of its last
    picks.
    """
    kept, state = problem.limits.kept, problem.state()
    most = np.inf if target is None else target - int(np.count_nonzero(state.held))
    more = greedy(state, problem.rows, problem.size - len(kept), FIRST_ONLY, most=most)
    picks = np.concatenate([kept, more])
    if target is None:
        return picks
    last = np.empty(problem.size - len(picks), np.int64)
    missing = target - int(np.count_nonzero(state.held))
    return np.concatenate([picks, last[: _close(state, problem.rows, missing, last)]])


def balance(problem: Problem, first: Rows | None = None) -> Rows:
    """Pick rows one by one, each the one that adds most to Σ_j log(1 + c_j).

    Parameters
    ----------
    problem : Problem
        Cap and quotas hold; a total plays no part.
    first : int64 array, optional
        Picks made already, within the limits; by default the rows kept.

    Returns
    -------
    int64 array, shape (size,), fewer only under a cap or quotas
        `first`, then in pick order; a smaller size gives a prefix.

    Notes
    -----
    Without `first`, cap and quotas within 1 - 1/e of the best Σ log(1 + c_j); see `greedy`.
    """
    first = problem.limits.kept if first is None else first
    steps = np.log1p(1.0 / np.arange(1.0, problem.size + 2.0))  # log(c + 2) - log(c + 1)
    state = problem.state(first)
    others = problem.rows[~state.picked[problem.rows]]
    more = greedy(state, others, problem.size - len(first), steps)
    return np.concatenate([first, more])


def greedy(
    state: PickState, rows: Rows, number: int, steps: Floats, *, most: float = np.inf
) -> Rows:
    """Pick rows one by one, each the one that adds most to Σ_j F(c_j).

    Parameters
    ----------
    state : PickState
        Picks made already; goes on to hold the new ones.
    rows : int64 array, shape (m,)
        Candidates, distinct and not picked; of equal gains the earlier in this array wins.
    number : int
        Picks at most.
    steps : float64 array, not rising
        `steps[c] = F(c + 1) - F(c)`; its last entry holds for all larger c as well.
    most : float
        Stop before the pick that would bring the sum of gains above `most`.

    Returns
    -------
    int64 array, shape (at most number,)
        Picks in order. Shorter when no row adds anything any more, or the best one too much.

    Notes
    -----
    The same picks as plain greedy, one by one: with concave F a gain only falls, also in floating
    point since every row sums its terms in one order, so a stale gain is a bound. Within 1 - 1/e
    of the best (Nemhauser, Wolsey, Fisher 1978, doi:10.1007/BF01588971), within 1/2 under quotas
    (Fisher, Nemhauser, Wolsey 1978, doi:10.1007/BFb0121195), no such law under a cap; lazy: Minoux
    1978, doi:10.1007/BFb0006528. Memory O(m); time O(nnz + evaluations · (row length + log m)),
    and a pass over the rows for each round, of which there are some 3 · log2 of the greatest gain
    over the last.
    """
    widths = np.diff(state.indptr)[rows] if len(rows) else np.zeros(0, np.int64)
    later = np.full(len(rows), -1, np.int32)
    first = _first_of_alike(state, rows, later)
    # the gain of a row of each width before any pick, added up in the order that a kernel does
    ceiling = np.concatenate([[0.0], np.cumsum(np.full(int(widths.max(initial=0)), steps[0]))])
    bounds = np.where(first, ceiling[widths], _GONE)
    order = np.argsort(rows).astype(np.int32)
    picks = np.empty(min(number, len(rows)), np.int64)
    return picks[: _lazy_greedy(state, rows, order, bounds[order], later, steps, most, picks)]


@compiled
def _first_of_alike(state: PickState, rows: Rows, later: Places) -> Mask:
    """Return which of `rows` no earlier one is like; set `later` to the next that is like each.

    Alike are rows of one part that hold one kind, the same: their gains are equal whatever is
    picked, so that a later one waits until the one before it is picked. With one kind a sample
    (macro) the greedy thus looks at kinds instead of samples.
    """
    indptr, indices, group = state.indptr, state.indices, state.group
    parts = max(1, len(state.room))
    last = np.full(len(state.held) * parts, -1, np.int32)
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
    state: PickState,
    rows: Rows,
    order: Places,
    bounds: Floats,
    later: Places,
    steps: Floats,
    most: float,
    picks: Rows,
) -> int:
    """Fill `picks`; return how many.

    A place, a position in `rows`, is in one of four states. Waiting: it is `order[i]`, `i` being
    `at[place]`, and its gain is at most `bounds[i]`. In the heap: its gain is at most the loss
    there with the sign turned. Behind one that it is like (`later`): its gain is at most that of
    the one before it. Or gone: picked, or adding nothing or ruled out, which it then stays.

    The work goes in rounds. A round begins with all places whose bound comes up to a floor, a part
    of the greatest bound: their gains are taken anew, and those that still come up to it are the
    heap. While there are any, no place that waits has as much, so the first of the heap, of equal
    ones the lowest, is greedy's pick where its gain comes up to its bound. `order` goes by row, so
    that a round reads the incidence as it lies in memory; only the heap's rows, few at a time, are
    read here and there.
    """
    places, losses = np.empty(len(rows), np.int32), np.empty(len(rows), np.float64)
    at = np.empty(len(rows), np.int32)
    for i in range(len(order)):
        at[order[i]] = i
    taken = 0
    total = 0.0
    while taken < len(picks):
        floor = _FLOOR * bounds.max()
        if floor <= 0.0:
            break
        length = 0
        for i in range(len(order)):
            if bounds[i] >= floor:
                place = order[i]
                bounds[i] = _allowed_gain(state, rows[place], steps)
                if bounds[i] >= floor:
                    rise(places, losses, None, length, place, -bounds[i])
                    length += 1
                    bounds[i] = _GONE
        while taken < len(picks) and length > 0:
            place, bound = places[0], -losses[0]
            gain = _allowed_gain(state, rows[place], steps)
            if floor <= gain < bound:
                sink(places, losses, None, length, 0, place, -gain)
                continue
            if gain == bound and total + gain > most:
                return taken  # no gain is greater
            length -= 1
            sink(places, losses, None, length, 0, places[length], losses[length])
            if gain < bound:
                bounds[at[place]] = gain
                continue
            add_pick(state, rows[place])
            picks[taken] = rows[place]
            taken += 1
            total += gain
            if later[place] >= 0:
                rise(places, losses, None, length, later[place], -gain)
                length += 1
    return taken


@compiled
def _allowed_gain(state: PickState, row: int, steps: Floats) -> float:
    """Return what `row` adds; -1 if its part has no room, or as `_gain`."""
    if len(state.group) > 0 and state.room[state.group[row]] <= 0:
        return _GONE
    return _gain(state, row, steps)


@compiled
def _gain(state: PickState, row: int, steps: Floats) -> float:
    """Return what `row` adds; -1 if it holds a kind that has reached the cap."""
    gain = 0.0
    for kind in state.indices[state.indptr[row] : state.indptr[row + 1]]:
        if state.held[kind] >= state.cap:
            return -1.0
        gain += steps[min(state.held[kind], len(steps) - 1)]
    return gain


@compiled
def _close(state: PickState, rows: Rows, missing: int, picks: Rows) -> int:
    """Fill `picks` with rows that bring `missing` new kinds together; return how many.

    Each is the earliest of those that bring most without bringing too many; a row picked before
    brings none and is never taken again.
    """
    taken = 0
    while missing > 0 and taken < len(picks):
        best, most = -1, 0
        for row in rows:
            if len(state.group) > 0 and state.room[state.group[row]] <= 0:
                continue
            new = int(_gain(state, row, FIRST_ONLY))
            if most < new <= missing:
                best, most = row, new
                if new == missing:
                    break
        if best < 0:
            break
        add_pick(state, best)
        picks[taken] = best
        taken += 1
        missing -= most
    return taken
