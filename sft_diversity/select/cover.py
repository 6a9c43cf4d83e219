"""Greedy maximum coverage: as many different kinds as possible with few samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sft_diversity.select.compiled import NO_CAP, Ints, Kinds, Rows
from sft_diversity.select.greedy import greedy

FIRST_ONLY = np.array([1.0, 0.0])  # a kind counts once


@dataclass(frozen=True)
class Cover:
    """Rows that each add a kind.

    Attributes
    ----------
    rows : int64 array, shape (at most size,)
        In pick order, so a smaller size gives a prefix.
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
    cap: int = NO_CAP,
    goal: int = 0,
) -> Cover:
    """Pick rows one by one, each the one with most kinds that no pick holds yet.

    Parameters
    ----------
    indptr, indices, n_kinds
        The incidence.
    rows : int64 array, shape (m,)
        Candidates; of equal gains the earlier wins, so a permutation here is a tie-break.
    size : int
        Rows at most; fewer are returned when nothing is left to gain.
    cap : int
        No kind may be held by more picks than this.
    goal : int
        Stop early once it is clear that `goal` kinds cannot be reached.

    Notes
    -----
    Within 1 - 1/e of the best coverage with `size` rows; see `greedy` for cost and source.
    """
    held = np.zeros(n_kinds, np.int64)
    picks = greedy(indptr, indices, rows, size, FIRST_ONLY, held, cap=cap, goal=goal)
    return Cover(picks, int(np.count_nonzero(held)), held)
