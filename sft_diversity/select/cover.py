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


def coverage_bound(indptr: Ints, indices: Kinds, rows: Rows, size: int, found: Cover) -> int:
    """Return an upper bound on the kinds that any `size` of `rows` can hold.

    The least of three: all kinds of `rows` are at most what the caller knows; the `size` longest
    rows together; and f(S) + the `size` largest gains that remain after the cover S. Coverage is
    submodular, so no set of `size` rows exceeds the last (Minoux 1978). Time O(nnz of `rows`).
    """
    lengths = np.diff(indptr)[rows]
    remaining = gains_left(indptr, indices, rows, found.held)
    best = [_largest(values, size) for values in (lengths, remaining)]
    return min(best[0], found.covered + best[1])


def gains_left(indptr: Ints, indices: Kinds, rows: Rows, held: Ints) -> Ints:
    """Return for each of `rows` how many of its kinds `held` does not count, shape (m,)."""
    fresh = np.concatenate([[0], np.cumsum(held[indices] == 0)])
    gains: Ints = fresh[indptr[rows + 1]] - fresh[indptr[rows]]
    return gains


def _largest(values: Ints, size: int) -> int:
    """Return the sum of the `size` largest values."""
    if size < len(values):
        values = np.partition(values, len(values) - size)[-size:]
    return int(values.sum())
