"""Kind-aware draws: rounds over the kinds, rarest first, so that counts even out."""

from __future__ import annotations

import numpy as np

from sft_diversity.core.kernels import Ints, Kinds, Rows, compiled
from sft_diversity.selection.pick_state import PickState, add_pick, allows, transpose
from sft_diversity.selection.problem import Problem


def draw_by_kind(problem: Problem, rng: np.random.Generator, first: Rows | None = None) -> Rows:
    """Draw in rounds r = 1, 2, …: each kind with fewer than r picks gets one more at random.

    Kinds take turns rarest among the candidates first, ties by lowest kind; the draw is uniform
    over the samples of the kind that are not picked yet. Round 1 covers every kind where it needs
    no more than `size` rows for that; later rounds even the counts.

    Parameters
    ----------
    problem : Problem
        Each candidate holds a kind. Cap and quotas hold; a total plays no part.
    rng : numpy.random.Generator
    first : int64 array, optional
        Picks made already, within the limits; by default the rows kept.

    Returns
    -------
    int64 array, shape (size,), fewer only under a cap or quotas
        `first`, then in pick order. From one pool, `first` and seed a smaller size gives a prefix.

    Notes
    -----
    Time O(nnz of the rows + rounds · kinds still in play); memory O(nnz of the rows). "Even
    sampling over kinds" is the study's (arXiv 2505.24768); rounds, order and ties are this
    project's reading.
    """
    first = problem.limits.kept if first is None else first
    starts, members = transpose(*problem.by_row, problem.rows, problem.incidence.n_kinds)
    live = np.diff(starts)
    turns = np.argsort(live, kind="stable")[np.count_nonzero(live == 0) :]
    picks = np.concatenate([first, np.empty(problem.size - len(first), np.int64)])
    state = problem.state(first)
    return picks[: _draw_rounds(state, starts, members, live, turns, picks, len(first), rng)]


@compiled
def _draw_rounds(
    state: PickState,
    starts: Ints,
    members: Kinds,
    live: Ints,
    turns: Ints,
    picks: Rows,
    taken: int,
    rng: np.random.Generator,
) -> int:
    """Fill `picks` from position `taken`; return how many there are at the end.

    `members[starts[j] : starts[j] + live[j]]` are the samples of kind j that may still be free: all
    that are, and some that no longer are. The first `n_turns` of `turns` are the kinds that may
    still get picks, in order; each pass over them is a round, whose number is `level`.
    """
    n_turns = len(turns)
    level = 1
    while taken < len(picks) and n_turns > 0:
        staying = 0
        lowest = len(state.picked)
        for i in range(n_turns):
            kind = turns[i]
            if state.held[kind] < level and taken < len(picks):
                row = _free_sample(state, kind, starts, members, live, rng)
                if row >= 0:
                    picks[taken] = row
                    taken += 1
                    add_pick(state, row)
            if live[kind] > 0 and state.held[kind] < state.cap:
                turns[staying] = kind
                staying += 1
                lowest = min(lowest, state.held[kind])
        n_turns = staying
        level = max(level, lowest) + 1  # rounds in which no kind is short are skipped
    return taken


@compiled
def _free_sample(
    state: PickState, kind: int, starts: Ints, members: Kinds, live: Ints, rng: np.random.Generator
) -> int:
    """Draw a sample of `kind` that may be picked, uniformly; -1 if there is none.

    A sample that is picked or ruled out stays so: it leaves the kind's list when it is drawn, and
    the draw is repeated, which keeps the result uniform over the others.
    """
    while live[kind] > 0:
        at = starts[kind] + int(rng.random() * live[kind])
        row = members[at]
        live[kind] -= 1
        members[at] = members[starts[kind] + live[kind]]
        if allows(state, row):
            return int(row)
    return -1
