"""What every subset of a dial must keep to: a cap, picks made before, quotas, a total length."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from sft_diversity.core.kernels import NO_ROWS, Ints, Rows
from sft_diversity.selection.quotas import NO_GROUP, NO_ROOM, Groups, Quotas

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
class Limits:
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

    @property
    def uncapped(self) -> Limits:
        """The same without the cap."""
        return replace(self, cap=NO_CAP)

    def room(self, picks: Rows) -> tuple[Groups, Ints]:
        """Return what kernels need of the quotas: the parts, and a fresh count of their room."""
        if self.quotas is None:
            return NO_GROUP, NO_ROOM
        return self.quotas.group, self.quotas.room(picks)

    def candidates(self, pool: Rows) -> Rows:
        """Return the rows of `pool` that are not among those kept."""
        if len(self.kept) == 0:
            return pool
        return pool[~np.isin(pool, self.kept)]

    def after(self, picks: Rows) -> Limits:
        """Return what is left to keep to beside `picks`, which count no more as picks."""
        quotas, total = self.quotas, self.total
        if quotas is not None:
            quotas = replace(quotas, number=quotas.room(picks))
        if total is not None:
            there = total.of(picks)
            total = replace(total, least=total.least - there, most=total.most - there)
        return replace(self, quotas=quotas, total=total)

    def lacking(self, rows: Rows, size: int) -> str:
        """Say why `kept` and some of `rows` cannot make `size`, cap apart; empty where they can."""
        if len(rows) + len(self.kept) < size:
            return f"only {len(rows) + len(self.kept):,} samples qualify"
        if self.quotas is not None:
            if (self.quotas.room(self.kept) < 0).any():
                return "the samples to include are more of one group than its quota"
            left = self.quotas.left(self.kept, rows)
            if (left < 0).any():
                worst = int(left.argmin())
                wanted = int(self.quotas.number[worst])
                return f"a quota wants {wanted:,} samples of one group and {-left[worst]:,} lack"
        if self.total is not None:
            low, high = self.reach(self.kept, rows, size)
            if low > self.total.most:
                return f"the fewest tokens are {low:,}, the budget allows {self.total.most:,}"
            if high < self.total.least:
                return f"the most tokens are {high:,}, the budget asks for {self.total.least:,}"
        return ""

    def reach(self, taken: Rows, rows: Rows, size: int) -> tuple[int, int]:
        """Return the least and the greatest total of `taken` and enough of `rows` to make `size`.

        The quotas hold; each part has enough rows. O(m log m).
        """
        assert self.total is not None
        lengths = np.asarray(self.total.lengths)[rows].astype(np.int64)
        if self.quotas is None:
            group, room = np.zeros(len(rows), np.int32), np.array([size - len(taken)])
        else:
            group, room = self.quotas.group[rows], self.quotas.room(taken)
        start = self.total.of(taken)
        ends = []
        for signed in (lengths, -lengths):
            order = np.lexsort((signed, group))
            first = np.searchsorted(group[order], np.arange(len(room)))
            rank = np.arange(len(rows)) - first[group[order]]
            taken_first = order[rank < room[group[order]]]
            ends.append(start + int(lengths[taken_first].sum()))
        return ends[0], ends[1]


FREE = Limits()
