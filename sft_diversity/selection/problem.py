"""What is picked from, how many, and within what limits: what every algorithm is given."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from sft_diversity.core.incidence import Incidence
from sft_diversity.core.kernels import NO_ROWS, Ints, Kinds, Rows, frozen
from sft_diversity.core.seeding import generator
from sft_diversity.selection.pick_state import PickState, count_kinds

NO_CAP = 1 << 62  # a cap no count reaches


@dataclass(frozen=True)
class Total:
    """A sum of lengths that the picks have together.

    Attributes
    ----------
    lengths : int array, shape (n,)
        Length of every row, in tokens.
    least, most : int
        Ends of what the sum may be, both in.
    """

    lengths: npt.NDArray[np.integer]
    least: int
    most: int

    def of(self, rows: Rows) -> int:
        """Return the sum over `rows`."""
        return int(self.lengths[rows].sum())

    def met(self, rows: Rows) -> bool:
        """Whether the sum over `rows` is within the ends."""
        return self.least <= self.of(rows) <= self.most


@dataclass(frozen=True)
class Quotas:
    """A partition of the rows, and the picks that each part gives.

    Attributes
    ----------
    group : int32 array, shape (n,)
        Part of every row of the incidence.
    number : int64 array, shape (parts,)
        Picks of each part; they add up to the size of the subset.
    """

    group: Kinds
    number: Ints

    def room(self, picks: Rows) -> Ints:
        """Return the picks that each part still gives after `picks`; kernels count it down."""
        return self.number - np.bincount(self.group[picks], minlength=len(self.number))

    def left(self, taken: Rows, rows: Rows) -> Ints:
        """Return the rows of each part of `rows` beyond what `taken` leaves to give; < 0: short."""
        return np.bincount(self.group[rows], minlength=len(self.number)) - self.room(taken)


@dataclass(frozen=True)
class PickLimits:
    """Constraints of a subset; they hold together.

    Attributes
    ----------
    cap : int
        No kind is held by more picks than this.
    kept : int64 array
        Rows that every subset holds, first of all.
    quotas : Quotas or None
        Picks that each part of the rows gives, exactly.
    total : Total or None
    """

    cap: int = NO_CAP
    kept: Rows = field(default_factory=lambda: NO_ROWS)
    quotas: Quotas | None = None
    total: Total | None = None

    def candidates(self, pool: Rows) -> Rows:
        """Return the rows of `pool` that are not among those kept."""
        if len(self.kept) == 0:
            return pool
        return pool[~np.isin(pool, self.kept)]

    def after(self, picks: Rows) -> PickLimits:
        """Return what is left to keep to beside `picks`, which count no more as picks."""
        quotas, total = self.quotas, self.total
        if quotas is not None:
            quotas = replace(quotas, number=quotas.room(picks))
        if total is not None:
            there = total.of(picks)
            total = replace(total, least=total.least - there, most=total.most - there)
        return replace(self, quotas=quotas, total=total)


FREE = PickLimits()


@dataclass(frozen=True, eq=False)
class Problem:
    """Pick `size` rows: those that the limits keep, and others of `rows`.

    Attributes
    ----------
    incidence : Incidence
        Samples × kinds; counts play no part.
    rows : int64 array, shape (m,)
        Candidates, distinct, none of them kept. Where nothing else decides, the earlier one wins:
        a permutation is a tie-break.
    size : int
        N, the rows kept included.
    limits : PickLimits
    """

    incidence: Incidence
    rows: Rows
    size: int
    limits: PickLimits = FREE

    def over(self, rows: Rows) -> Problem:
        """Return the same with other candidates, or the same ones in another order."""
        return replace(self, rows=rows)

    @property
    def by_row(self) -> tuple[Ints, Kinds]:
        """The incidence as kernels take it: `indptr`, `indices`."""
        return frozen(self.incidence.indptr, np.int64), frozen(self.incidence.indices, np.int32)

    def held(self, rows: Rows) -> Ints:
        """Return c_j, how many of `rows` hold kind j, shape (n_kinds,). O(nnz of `rows`)."""
        return count_kinds(*self.by_row, rows, self.incidence.n_kinds)

    def kinds(self, rows: Rows) -> int:
        """Return how many kinds `rows` hold together."""
        return int(np.count_nonzero(self.held(rows)))

    def widths(self, rows: Rows) -> Ints:
        """Return how many kinds each of `rows` holds."""
        widths: Ints = np.diff(self.incidence.indptr)[rows]
        return widths

    def state(self, first: Rows | None = None) -> PickState:
        """Return the state of the picks `first`, by default those kept, for kernels to go on."""
        first = self.limits.kept if first is None else first
        quotas = self.limits.quotas
        picked = np.zeros(self.incidence.n_samples, np.bool_)
        picked[first] = True
        group = np.zeros(0, np.int32) if quotas is None else quotas.group
        room = np.zeros(0, np.int64) if quotas is None else quotas.room(first)
        return PickState(*self.by_row, self.held(first), picked, self.limits.cap, group, room)

    def parts(self, taken: Rows | None = None) -> tuple[Kinds, Ints]:
        """Return the part of each candidate, and the picks that each part gives after `taken`.

        By default after the rows kept. Without quotas all are one part.
        """
        taken = self.limits.kept if taken is None else taken
        if self.limits.quotas is None:
            return np.zeros(len(self.rows), np.int32), np.array([self.size - len(taken)])
        return self.limits.quotas.group[self.rows], self.limits.quotas.room(taken)

    def least_of_parts(self, keys: npt.NDArray[Any], taken: Rows | None = None) -> Ints:
        """Return the positions of candidates with the least `keys`, as many as `parts` has room.

        Shape of `keys` (m,); by part, then by key, ties by position. O(m log m).
        """
        group, room = self.parts(taken)
        order = np.lexsort((keys, group))
        starts = np.searchsorted(group[order], np.arange(len(room)))
        rank = np.arange(len(order)) - starts[group[order]]
        return order[rank < room[group[order]]]

    def reach(self, taken: Rows) -> tuple[int, int]:
        """Return the least and the greatest total of `taken` and enough candidates beside them.

        The quotas hold; each part has enough rows. O(m log m).
        """
        assert self.limits.total is not None
        lengths = np.asarray(self.limits.total.lengths)[self.rows].astype(np.int64)
        start = self.limits.total.of(taken)
        low, high = (
            start + int(lengths[self.least_of_parts(signed, taken)].sum())
            for signed in (lengths, -lengths)
        )
        return low, high

    def lacking(self) -> str:
        """Say why no subset can be made, the cap left aside; empty where nothing lacks."""
        limits = self.limits
        if len(self.rows) + len(limits.kept) < self.size:
            return f"only {len(self.rows) + len(limits.kept):,} samples qualify"
        if limits.quotas is not None:
            if (limits.quotas.room(limits.kept) < 0).any():
                return "the samples to include are more of one group than its quota"
            left = limits.quotas.left(limits.kept, self.rows)
            if (left < 0).any():
                worst = int(left.argmin())
                wanted = int(limits.quotas.number[worst])
                return f"a quota wants {wanted:,} samples of one group and {-left[worst]:,} lack"
        if limits.total is not None:
            low, high = self.reach(limits.kept)
            if low > limits.total.most:
                return f"the fewest tokens are {low:,}, the budget allows {limits.total.most:,}"
            if high < limits.total.least:
                return f"the most tokens are {high:,}, the budget asks for {limits.total.least:,}"
        return ""


def without_kinds(n: int) -> Incidence:
    """Return the incidence of `n` samples that hold none, for choices in which none play a part."""
    return Incidence(np.zeros(n + 1, np.int64), np.zeros(0, np.int32), np.zeros(0, np.int32), 0)


def shuffled(rows: Rows, seed: int, stream: str) -> Rows:
    """Return `rows` in an order drawn by the seed for one use."""
    return generator(seed, "select", stream).permutation(rows)
