"""Kind-aware draws: rounds over the kinds, rarest first, so that counts even out."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sft_diversity.core.kernels import Ints, Kinds, Rows, compiled
from sft_diversity.selection.limits import FREE, Limits
from sft_diversity.selection.quotas import Groups
from sft_diversity.selection.transpose import count_kinds, transpose


def draw(
    indptr: Ints,
    indices: Kinds,
    n_kinds: int,
    rows: Rows,
    size: int,
    rng: np.random.Generator,
    *,
    limits: Limits = FREE,
    first: Rows | None = None,
) -> Rows:
    """Draw in rounds r = 1, 2, …: each kind with fewer than r picks gets one more at random.

    Kinds take turns rarest among `rows` first, ties by lowest kind; the draw is uniform over the
    samples of the kind that are not picked yet. Round 1 covers every kind where it needs no more
    than `size` rows for that; later rounds even the counts.

    Parameters
    ----------
    indptr, indices, n_kinds
        The incidence.
    rows : int64 array, shape (m,)
        The pool; each row holds at least one kind.
    size : int
        Rows to pick, those of `first` included; at most m more.
    rng : numpy.random.Generator
    limits : Limits
        As for `cover`.
    first : int64 array, optional
        Picks made already, within the limits; by default the rows that the limits keep.

    Returns
    -------
    int64 array, shape (size,), fewer only under a cap or quotas
        Distinct rows, `first`, then in pick order. From one pool, `first` and seed a smaller size
        gives a prefix.

    Notes
    -----
    Time O(nnz of `rows` + rounds · kinds still in play); memory O(nnz of `rows`). "Even sampling
    over kinds" is the study's (arXiv 2505.24768); rounds, order and ties are this project's
    reading.
    """
    first = limits.kept if first is None else first
    starts, members = transpose(indptr, indices, rows, n_kinds)
    live = np.diff(starts)
    turns = np.argsort(live, kind="stable")[np.count_nonzero(live == 0) :]
    picks = np.concatenate([first, np.empty(size - len(first), np.int64)])
    held = count_kinds(indptr, indices, first, n_kinds)
    group, room = limits.room(first)
    picked = np.zeros(len(indptr) - 1, np.bool_)
    picked[first] = True
    taken = _draw_rounds(
        indptr, indices, starts, members, live, turns, picks, len(first), picked, held,
        limits.cap, group, room, rng,
    )  # fmt: skip
    return picks[:taken]


@compiled
def _draw_rounds(
    indptr: Ints,
    indices: Kinds,
    starts: Ints,
    members: Kinds,
    live: Ints,
    turns: Ints,
    picks: Rows,
    taken: int,
    picked: npt.NDArray[np.bool_],
    held: Ints,
    cap: int,
    group: Groups,
    room: Ints,
    rng: np.random.Generator,
) -> int:
    """Fill `picks` from position `taken`; return how many there are at the end.

    `members[starts[j] : starts[j] + live[j]]` are the samples of kind j that may still be free;
    `turns` keeps the kinds that may still get picks, in order.
    """
    n_turns = len(turns)
    level = 1
    while taken < len(picks) and n_turns > 0:
        staying = 0
        lowest = len(indptr)
        for i in range(n_turns):
            kind = turns[i]
            if held[kind] < level and taken < len(picks):
                row = _free_sample(
                    kind,
                    indptr,
                    indices,
                    starts,
                    members,
                    live,
                    picked,
                    held,
                    cap,
                    group,
                    room,
                    rng,
                )
                if row >= 0:
                    picks[taken] = row
                    taken += 1
                    picked[row] = True
                    if len(group) > 0:
                        room[group[row]] -= 1
                    for other in indices[indptr[row] : indptr[row + 1]]:
                        held[other] += 1
            if live[kind] > 0 and held[kind] < cap:
                turns[staying] = kind
                staying += 1
                lowest = min(lowest, held[kind])
        n_turns = staying
        level = max(level, lowest) + 1  # rounds in which no kind is short are skipped
    return taken


@compiled
def _free_sample(
    kind: int,
    indptr: Ints,
    indices: Kinds,
    starts: Ints,
    members: Kinds,
    live: Ints,
    picked: npt.NDArray[np.bool_],
    held: Ints,
    cap: int,
    group: Groups,
    room: Ints,
    rng: np.random.Generator,
) -> int:
    """Draw a sample of `kind` that may be picked, uniformly; -1 if there is none.

    A sample that is picked, or that the cap or its part's room rules out, stays so: it leaves the
    kind's list when it is drawn, and the draw is repeated, which keeps the result uniform over the
    others.
    """
    while live[kind] > 0:
        at = starts[kind] + int(rng.random() * live[kind])
        row = members[at]
        live[kind] -= 1
        members[at] = members[starts[kind] + live[kind]]
        if picked[row]:
            continue
        fits = len(group) == 0 or room[group[row]] > 0
        for other in indices[indptr[row] : indptr[row + 1]]:
            fits = fits and held[other] < cap
        if fits:
            return int(row)
    return -1
