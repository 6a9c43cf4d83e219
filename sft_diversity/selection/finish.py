"""Finishing: from picks that hold the kinds wanted to exactly N rows within the limits.

A total length is reached by exchanges, one pick for another at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from sft_diversity.core.kernels import Floats, Ints, Kinds, Mask, Rows, compiled
from sft_diversity.core.seeding import generator
from sft_diversity.selection.fit import complete_capped, fit_within
from sft_diversity.selection.greedy import cover
from sft_diversity.selection.pick_state import PickState, replace_pick
from sft_diversity.selection.problem import NO_CAP, Problem

#: From a problem and the picks made already to those picks and more.
Filling = Callable[[Problem, Rows], Rows]
REFERENCE_SEED = 0  # the range of a dial is the same for all seeds
_TRIES = 8  # partners tried for a pick before the next pick has its turn
_PASSES = 200


def finish(problem: Problem, first: Rows, fill: Filling, target: int, seed: int) -> Rows | None:
    """Bring `first` to `size` rows that hold `target` kinds, by rows that bring no other kind.

    Parameters
    ----------
    problem : Problem
    first : int64 array
        Picks made already, the rows kept first.
    fill : callable
        Picks the others from rows that hold no kind beyond those of `first`, or, while `first`
        holds fewer than `target` kinds, from all candidates.
    target : int
    seed : int
        Draws the exchanges under a total.

    Returns
    -------
    int64 array, shape (size,), or None
        None where this way does not lead to a set that holds `target` kinds within the limits.
    """
    held = problem.held(first)
    whole = np.count_nonzero(held) < target
    picks = fill(problem if whole else problem.over(_idle(problem, held)), first)
    if len(picks) < problem.size:
        if problem.limits.cap == NO_CAP:
            return None
        picks = complete_capped(problem, picks)
    if problem.limits.total is not None:
        picks = exchange(problem, picks, seed, gainless=True)
        if not problem.limits.total.met(picks):
            return None
    return picks if problem.kinds(picks) == target else None


def most_kinds(problem: Problem) -> Rows | None:
    """Return a greedy cover, finished to `size` rows within the limits.

    Where quotas or nothing but N limit it, what fills up brings no kind. A cap may cost kinds. So
    may a total: where it is out of the cover's reach, as many of the cover's first rows stay as
    leave it in reach, and the shortest or longest rows fill up.

    Returns
    -------
    int64 array, shape (size,), or None
        None where no such set is found.
    """
    total = problem.limits.total
    covering = cover(problem)
    picks = filled(problem, covering)
    if len(picks) < problem.size:
        return None
    if total is None or total.met(picks):
        return picks
    among = partners(problem)
    picks = exchange(problem, picks, REFERENCE_SEED, among=among)
    order = problem.rows[np.argsort(np.asarray(total.lengths)[problem.rows], kind="stable")]
    if total.of(picks) < total.least:
        order = order[::-1]
    first = covering[: _in_reach(problem.over(among.order), covering)]
    for lossless in (True, False):
        if total.met(picks):
            return picks
        picks = filled(problem.over(order), first)
        picks = exchange(problem, picks, REFERENCE_SEED, lossless=lossless, among=among)
    return picks if total.met(picks) else None


def filled(problem: Problem, first: Rows | None = None) -> Rows:
    """Return what fits after `first`; where that gets stuck under a cap, as `complete_capped`."""
    picks = fit_within(problem, first)
    stuck = len(picks) < problem.size and problem.limits.cap != NO_CAP
    return complete_capped(problem, picks) if stuck else picks


def _in_reach(problem: Problem, covering: Rows) -> int:
    """Return how many of the first rows of a cover, those kept at least, leave the total in reach.

    By bisection: one more is too many. With rows by part and length what is left needs no sort.
    """
    total = problem.limits.total
    assert total is not None
    left = np.ones(problem.incidence.n_samples, np.bool_)
    works, fails = len(problem.limits.kept), len(covering) + 1
    while fails - works > 1:
        middle = (works + fails) // 2
        left[:] = True
        left[covering[:middle]] = False
        beside = problem.over(problem.rows[left[problem.rows]])
        low, high = beside.reach(covering[:middle])
        fits = low <= total.most and high >= total.least
        works, fails = (middle, fails) if fits else (works, middle)
    return works


def _idle(problem: Problem, held: Ints) -> Rows:
    """Return the candidates all of whose kinds are held, in their order. O(nnz of the rows)."""
    return problem.rows[_bring_nothing(*problem.by_row, problem.rows, held)]


@compiled
def _bring_nothing(indptr: Ints, indices: Kinds, rows: Rows, held: Ints) -> Mask:
    """Return of each of `rows` whether all its kinds are held."""
    nothing = np.ones(len(rows), np.bool_)
    for i in range(len(rows)):
        for kind in indices[indptr[rows[i]] : indptr[rows[i] + 1]]:
            if held[kind] == 0:
                nothing[i] = False
                break
    return nothing


class Partners(NamedTuple):
    """Candidates as exchanges look for them; the same for all sets of picks.

    Attributes
    ----------
    order : int64 array, shape (m,)
        Rows by part, then by length, then by number.
    starts : int64 array, shape (parts + 1,)
        Where each part begins in `order`.
    lengths : int64 array, shape (n,)
        Length of every row of the incidence.
    """

    order: Rows
    starts: Ints
    lengths: Ints


def partners(problem: Problem) -> Partners:
    """Sort the candidates for exchanges. O(m log m)."""
    assert problem.limits.total is not None
    lengths = np.asarray(problem.limits.total.lengths).astype(np.int64)
    parts, room = problem.parts()
    order = problem.rows[np.lexsort((problem.rows, lengths[problem.rows], parts))]
    starts = np.searchsorted(np.sort(parts), np.arange(len(room) + 1))
    return Partners(order, starts, lengths)


def exchange(
    problem: Problem,
    picks: Rows,
    seed: int,
    *,
    lossless: bool = True,
    gainless: bool = False,
    among: Partners | None = None,
) -> Rows:
    """Exchange picks for other candidates until their total length is within its range.

    A pick goes only if every kind it holds has another pick or is held by the row that takes its
    place, so no kind is lost (unless `lossless` is off); that row is of the same part, keeps the
    cap, and brings the total nearer without passing to the other side by more. Picks and partners
    are drawn at random.

    Parameters
    ----------
    problem : Problem
        With a total.
    picks : int64 array, shape (size,)
        The rows kept first; these never go.
    seed : int
    lossless : bool
        False lets kinds be lost.
    gainless : bool
        True lets no kind come in that no pick holds.
    among : Partners, optional
        Those of the problem, where many sets of picks share them.

    Returns
    -------
    int64 array, shape (size,)
        In the order of `picks`, a newcomer in the place of the one that went. The total may be
        outside its range where no exchange helps any more.

    Notes
    -----
    Time O(m log m) and O(row length) for each exchange tried.
    """
    total, n_kept = problem.limits.total, len(problem.limits.kept)
    assert total is not None
    among = partners(problem) if among is None else among
    rng = generator(seed, "select", "exchange")
    state, picks = problem.state(picks), picks.copy()
    now = total.of(picks)
    for _ in range(_PASSES):
        if total.least <= now <= total.most:
            break
        turns = n_kept + rng.permutation(len(picks) - n_kept)
        draws = rng.random((len(turns), _TRIES))
        before = now
        now = _exchange_once(
            state, among, picks, turns, draws, now, total.least, total.most, lossless, gainless
        )
        if now == before:
            break
    return picks


@compiled
def _exchange_once(
    state: PickState,
    among: Partners,
    picks: Rows,
    turns: Ints,
    draws: Floats,
    now: int,
    least: int,
    most: int,
    lossless: bool,
    gainless: bool,
) -> int:
    """Give every pick one turn; return the new total.

    `now` is the sum of the picks' lengths after every exchange, and its distance from the range
    only falls. The room of the parts plays no part: what leaves and what comes are of one.
    """
    lengths = among.lengths
    for turn in range(len(turns)):
        if least <= now <= most:
            break
        at = turns[turn]
        leaving = picks[at]
        part = state.group[leaving] if len(state.group) > 0 else 0
        missing = (least - now) if now < least else (most - now)
        # a partner is longer by 1 .. 2 * missing - 1 (shorter where too much is there)
        near, far = lengths[leaving] + 1, lengths[leaving] + 2 * missing - 1
        if missing < 0:
            near, far = lengths[leaving] + 2 * missing + 1, lengths[leaving] - 1
        low = _first_at_least(among, among.starts[part], among.starts[part + 1], near)
        high = _first_at_least(among, low, among.starts[part + 1], far + 1)
        if low == high:
            continue
        for draw in draws[turn]:
            coming = among.order[low + int(draw * (high - low))]
            if not state.picked[coming] and _may_replace(
                state, leaving, coming, lossless, gainless
            ):
                replace_pick(state, leaving, coming)
                picks[at] = coming
                now += lengths[coming] - lengths[leaving]
                break
    return now


@compiled
def _first_at_least(among: Partners, low: int, high: int, wanted: int) -> int:
    """Return the first position from `low` on whose row is at least `wanted` long, or `high`."""
    while low < high:
        middle = (low + high) // 2
        if among.lengths[among.order[middle]] < wanted:
            low = middle + 1
        else:
            high = middle
    return low


@compiled
def _may_replace(
    state: PickState, leaving: int, coming: int, lossless: bool, gainless: bool
) -> bool:
    """Whether the exchange keeps the cap and, if it must, every kind, and brings no new one."""
    for kind in state.indices[state.indptr[leaving] : state.indptr[leaving + 1]]:
        if lossless and state.held[kind] == 1 and not _holds(state, coming, kind):
            return False
    for kind in state.indices[state.indptr[coming] : state.indptr[coming + 1]]:
        if state.held[kind] >= state.cap and not _holds(state, leaving, kind):
            return False
        if gainless and state.held[kind] == 0:
            return False
    return True


@compiled
def _holds(state: PickState, row: int, kind: int) -> bool:
    """Whether `row` holds `kind`."""
    for other in state.indices[state.indptr[row] : state.indptr[row + 1]]:  # noqa: SIM110 - any() does not compile
        if other == kind:
            return True
    return False
