"""Greedy maximum coverage: as many different kinds as possible with few samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sft_diversity.core.kernels import Ints, Kinds, Rows
from sft_diversity.selection.greedy import close, greedy
from sft_diversity.selection.limits import FREE, Limits
from sft_diversity.selection.transpose import count_kinds

FIRST_ONLY = np.array([1.0, 0.0])  # a kind counts once


@dataclass(frozen=True)
class Cover:
    """Rows that each add a kind.

    Attributes
    ----------
    rows : int64 array, shape (at most size,)
        The rows kept, then the others in pick order, so a smaller size gives a prefix.
    covered : int
        Kinds that `rows` hold.
    held : int64 array, shape (n_kinds,)
        How many of `rows` hold each kind.
    """

    rows: Rows
    covered: int
    held: Ints


def cover(
    indptr: Ints,
    indices: Kinds,
    n_kinds: int,
    rows: Rows,
    size: int,
    *,
    target: int | None = None,
    limits: Limits = FREE,
) -> Cover:
    """Pick rows one by one, each the one with most kinds that no pick holds yet.

    Parameters
    ----------
    indptr, indices, n_kinds
        The incidence.
    rows : int64 array, shape (m,)
        Candidates; of equal gains the earlier wins, so a permutation here is a tie-break.
    size : int
        Rows at most, those kept included; fewer are returned when nothing is left to gain.
    target : int, optional
        Stop at this many kinds, never above: where the best row would bring too many, the best of
        those that do not takes its place. Fewer kinds where no row fits the rest.
    limits : Limits
        Rows kept, none of them in `rows`, come first; cap and quotas hold, a total plays no part.

    Notes
    -----
    Without target within 1 - 1/e of the best coverage with `size` rows, within 1/2 under quotas;
    see `greedy` for cost and source. A target adds one pass over `rows` for each of its last picks.
    """
    kept = limits.kept
    held = count_kinds(indptr, indices, kept, n_kinds)
    group, room = limits.room(kept)
    known = int(np.count_nonzero(held))
    more = greedy(
        indptr, indices, rows, size - len(kept), FIRST_ONLY, held, cap=limits.cap,
        most=np.inf if target is None else target - known, group=group, room=room,
    )  # fmt: skip
    picks = np.concatenate([kept, more])
    if target is not None:
        last = np.empty(size - len(picks), np.int64)
        missing = target - int(np.count_nonzero(held))
        taken = close(
            indptr, indices, rows, missing, FIRST_ONLY, held, limits.cap, group, room, last
        )
        picks = np.concatenate([picks, last[:taken]])
    return Cover(picks, int(np.count_nonzero(held)), held)
