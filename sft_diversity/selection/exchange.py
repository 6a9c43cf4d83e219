"""Exchanges: bring the total length of a subset into its range, one pick for another at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sft_diversity.core.kernels import Floats, Ints, Kinds, Rows, compiled
from sft_diversity.core.seeding import generator
from sft_diversity.selection.limits import Limits
from sft_diversity.selection.quotas import NO_GROUP, Groups
from sft_diversity.selection.transpose import count_kinds

_TRIES = 8  # partners tried for a pick before the next pick has its turn
_PASSES = 200


@dataclass(frozen=True)
class Partners:
    """Candidates as exchanges look for them; the same for all sets of picks.

    Attributes
    ----------
    order : int64 array, shape (m,)
        Rows by part, then by length, then by number.
    starts : int64 array, shape (parts + 1,)
        Where each part begins in `order`.
    """

    order: Rows
    starts: Ints


def partners(rows: Rows, limits: Limits) -> Partners:
    """Sort the candidates `rows`, shape (m,), for exchanges. O(m log m)."""
    assert limits.total is not None
    lengths = np.asarray(limits.total.lengths)
    quotas = limits.quotas
    parts = np.zeros(len(rows), np.int32) if quotas is None else quotas.group[rows]
    n_parts = 1 if quotas is None else len(quotas.number)
    order = rows[np.lexsort((rows, lengths[rows], parts))]
    return Partners(order, np.searchsorted(np.sort(parts), np.arange(n_parts + 1)))


def exchange(
    indptr: Ints,
    indices: Kinds,
    n_kinds: int,
    rows: Rows,
    picks: Rows,
    limits: Limits,
    seed: int,
    *,
    lossless: bool = True,
    gainless: bool = False,
    among: Partners | None = None,
) -> Rows:
    """Exchange picks for other rows of the pool until their total length is within its range.

    A pick goes only if every kind it holds has another pick or is held by the row that takes its
    place, so no kind is lost (unless `lossless` is off); that row is of the same part, keeps the
    cap, and brings the total nearer without passing to the other side by more. Picks and partners
    are drawn at random.

    Parameters
    ----------
    indptr, indices, n_kinds
        The incidence.
    rows : int64 array, shape (m,)
        Candidates: the pool without the rows kept.
    picks : int64 array, shape (size,)
        The rows kept first; these never go.
    limits : Limits
        With a total.
    seed : int
    lossless : bool
        False lets kinds be lost.
    gainless : bool
        True lets no kind come in that no pick holds.
    among : Partners, optional
        Those of `rows`, where many sets of picks share them.

    Returns
    -------
    int64 array, shape (size,)
        In the order of `picks`, a newcomer in the place of the one that went. The total may be
        outside its range where no exchange helps any more.

    Notes
    -----
    Time O(m log m) and O(row length) for each exchange tried.
    """
    total = limits.total
    assert total is not None
    lengths = np.asarray(total.lengths).astype(np.int64)
    group = NO_GROUP if limits.quotas is None else limits.quotas.group
    among = partners(rows, limits) if among is None else among
    picked = np.zeros(len(indptr) - 1, np.bool_)
    picked[picks] = True
    rng = generator(seed, "select", "exchange")
    picks = picks.copy()
    held = count_kinds(indptr, indices, picks, n_kinds)
    now = int(lengths[picks].sum())
    for _ in range(_PASSES):
        if total.least <= now <= total.most:
            break
        turns = len(limits.kept) + rng.permutation(len(picks) - len(limits.kept))
        draws = rng.random((len(turns), _TRIES))
        before = now
        now = _pass(
            indptr, indices, among.order, among.starts, lengths, group, picks, picked, held,
            limits.cap, lossless, gainless, turns, draws, now, total.least, total.most,
        )  # fmt: skip
        if now == before:
            break
    return picks


@compiled
def _pass(
    indptr: Ints,
    indices: Kinds,
    order: Rows,
    starts: Ints,
    lengths: Ints,
    group: Groups,
    picks: Rows,
    picked: npt.NDArray[np.bool_],
    held: Ints,
    cap: int,
    lossless: bool,
    gainless: bool,
    turns: Ints,
    draws: Floats,
    now: int,
    least: int,
    most: int,
) -> int:
    """Give every pick one turn; return the new total."""
    for turn in range(len(turns)):
        if least <= now <= most:
            break
        at = turns[turn]
        leaving = picks[at]
        part = group[leaving] if len(group) > 0 else 0
        missing = (least - now) if now < least else (most - now)
        # a partner is longer by 1 .. 2 * missing - 1 (shorter where too much is there)
        near, far = lengths[leaving] + 1, lengths[leaving] + 2 * missing - 1
        if missing < 0:
            near, far = lengths[leaving] + 2 * missing + 1, lengths[leaving] - 1
        low = _first_at_least(order, lengths, starts[part], starts[part + 1], near)
        high = _first_at_least(order, lengths, low, starts[part + 1], far + 1)
        if low == high:
            continue
        for draw in draws[turn]:
            coming = order[low + int(draw * (high - low))]
            if picked[coming]:
                continue
            if _may_replace(indptr, indices, held, leaving, coming, cap, lossless, gainless):
                for kind in indices[indptr[leaving] : indptr[leaving + 1]]:
                    held[kind] -= 1
                for kind in indices[indptr[coming] : indptr[coming + 1]]:
                    held[kind] += 1
                picked[leaving], picked[coming] = False, True
                picks[at] = coming
                now += lengths[coming] - lengths[leaving]
                break
    return now


@compiled
def _first_at_least(order: Rows, lengths: Ints, low: int, high: int, wanted: int) -> int:
    """Return the first position from `low` on whose row is at least `wanted` long, or `high`."""
    while low < high:
        middle = (low + high) // 2
        if lengths[order[middle]] < wanted:
            low = middle + 1
        else:
            high = middle
    return low


@compiled
def _may_replace(
    indptr: Ints,
    indices: Kinds,
    held: Ints,
    leaving: int,
    coming: int,
    cap: int,
    lossless: bool,
    gainless: bool,
) -> bool:
    """Whether the exchange keeps the cap and, if it must, every kind, and brings no new one."""
    for kind in indices[indptr[leaving] : indptr[leaving + 1]]:
        if lossless and held[kind] == 1 and not _holds(indptr, indices, coming, kind):
            return False
    for kind in indices[indptr[coming] : indptr[coming + 1]]:
        if held[kind] >= cap and not _holds(indptr, indices, leaving, kind):
            return False
        if gainless and held[kind] == 0:
            return False
    return True


@compiled
def _holds(indptr: Ints, indices: Kinds, row: int, kind: int) -> bool:
    """Whether `row` holds `kind`."""
    for other in indices[indptr[row] : indptr[row + 1]]:  # noqa: SIM110 - any() does not compile
        if other == kind:
            return True
    return False
