"""Kind-aware draws: rounds over the kinds, rarest first, so that counts even out."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sft_diversity.core.seeding import generator
from sft_diversity.select.compiled import NO_CAP, Ints, Kinds, Rows, compiled
from sft_diversity.select.cover import cover
from sft_diversity.select.transpose import transpose


def draw(
    indptr: Ints,
    indices: Kinds,
    n_kinds: int,
    rows: Rows,
    size: int,
    seed: int,
    *,
    cap: int = NO_CAP,
) -> Rows:
    """Draw in rounds r = 1, 2, …: each kind with fewer than r picks gets one more at random.

    Kinds take turns rarest among `rows` first, ties by lowest kind; the draw is uniform over the
    samples of the kind that are not picked yet. Round 1 covers every kind; where it would need
    more than `size` rows for that, a greedy cover takes its place, whether or not it reaches all
    kinds itself. Later rounds even the counts.

    Parameters
    ----------
    indptr, indices, n_kinds
        The incidence.
    rows : int64 array, shape (m,)
        The pool; each row holds at least one kind.
    size : int
        Rows to draw, at most m.
    seed : int
    cap : int
        No kind may be held by more picks than this.

    Returns
    -------
    int64 array, shape (size,), fewer only under a cap
        Distinct rows in pick order. From one pool and seed a smaller size gives a prefix, as long
        as the cover did not have to step in.

    Notes
    -----
    Time O(nnz of `rows` + rounds · kinds still in play); memory O(nnz of `rows`). "Even sampling
    over kinds" is the study's (arXiv 2505.24768); rounds, order and ties are this project's
    reading.
    """
    starts, members = transpose(indptr, indices, rows, n_kinds)
    present = np.diff(starts)
    turns = np.argsort(present, kind="stable")[np.count_nonzero(present == 0) :]
    nothing = np.zeros(0, np.int64)
    picks, covered = _rounds(
        indptr, indices, starts, members.copy(), turns, size, nothing, cap, seed, "draws"
    )
    if covered == len(turns):
        return picks
    first = _cover_first(indptr, indices, n_kinds, rows, size, len(turns), seed, cap)
    picks, _ = _rounds(
        indptr, indices, starts, members, turns, size, first, cap, seed, "draws after cover"
    )
    return picks


def _cover_first(
    indptr: Ints,
    indices: Kinds,
    n_kinds: int,
    rows: Rows,
    size: int,
    target: int,
    seed: int,
    cap: int,
) -> Rows:
    """Return a greedy cover with at most `size` rows.

    Ties fall by a seeded permutation. If that does not reach `target` kinds but the rule that
    k_max was verified with does (ties by lowest row), the latter is taken.
    """
    order = generator(seed, "select", "cover").permutation(rows)
    seeded = cover(indptr, indices, n_kinds, order, size, cap=cap)
    if seeded.covered == target:
        return seeded.rows
    plain = cover(indptr, indices, n_kinds, rows, size, cap=cap, goal=target)
    return plain.rows if plain.covered == target else seeded.rows


def _rounds(
    indptr: Ints,
    indices: Kinds,
    starts: Ints,
    members: Kinds,
    turns: Ints,
    size: int,
    first: Rows,
    cap: int,
    seed: int,
    stream: str,
) -> tuple[Rows, int]:
    """Continue from the picks `first`; return all picks and how many kinds they hold."""
    picks = np.empty(size, np.int64)
    picks[: len(first)] = first
    held = np.zeros(len(starts) - 1, np.int64)
    picked = np.zeros(len(indptr) - 1, np.bool_)
    rng = generator(seed, "select", stream)
    taken = _draw_rounds(
        indptr,
        indices,
        starts,
        members,
        np.diff(starts),
        turns.copy(),
        picks,
        len(first),
        picked,
        held,
        cap,
        rng,
    )
    return picks[:taken], int(np.count_nonzero(held))


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
    rng: np.random.Generator,
) -> int:
    """Fill `picks` from position `taken`; return how many there are at the end.

    `members[starts[j] : starts[j] + live[j]]` are the samples of kind j that may still be free;
    `turns` keeps the kinds that may still get picks, in order.
    """
    for row in picks[:taken]:
        picked[row] = True
        for kind in indices[indptr[row] : indptr[row + 1]]:
            held[kind] += 1
    n_turns = len(turns)
    level = 1
    while taken < len(picks) and n_turns > 0:
        staying = 0
        lowest = len(indptr)
        for i in range(n_turns):
            kind = turns[i]
            if held[kind] < level and taken < len(picks):
                row = _free_sample(
                    kind, indptr, indices, starts, members, live, picked, held, cap, rng
                )
                if row >= 0:
                    picks[taken] = row
                    taken += 1
                    picked[row] = True
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
    rng: np.random.Generator,
) -> int:
    """Draw a sample of `kind` that may be picked, uniformly; -1 if there is none.

    A sample that is picked, or that the cap rules out, stays so: it leaves the kind's list when
    it is drawn, and the draw is repeated, which keeps the result uniform over the others.
    """
    while live[kind] > 0:
        at = starts[kind] + int(rng.random() * live[kind])
        row = members[at]
        live[kind] -= 1
        members[at] = members[starts[kind] + live[kind]]
        if picked[row]:
            continue
        fits = True
        for other in indices[indptr[row] : indptr[row + 1]]:
            fits = fits and held[other] < cap
        if fits:
            return int(row)
    return -1
