"""Quotas: how many picks each group of rows gives, exactly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sft_diversity.select.compiled import Ints, Rows

Groups = npt.NDArray[np.int32]


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

    group: Groups
    number: Ints

    def room(self, kept: Rows) -> Ints:
        """Return the picks that each part still gives after `kept`; kernels count it down."""
        return self.number - np.bincount(self.group[kept], minlength=len(self.number))

    def left(self, taken: Rows, rows: Rows) -> Ints:
        """Return the rows of each part of `rows` beyond what `taken` leaves to give; < 0: short."""
        return np.bincount(self.group[rows], minlength=len(self.number)) - self.room(taken)


#: For kernels where there are no quotas.
NO_GROUP: Groups = np.zeros(0, np.int32)
NO_ROOM: Ints = np.zeros(0, np.int64)


def groups_and_room(quotas: Quotas | None, kept: Rows) -> tuple[Groups, Ints]:
    """Return what kernels need of `quotas`: the parts, and a fresh count of their room."""
    return (NO_GROUP, NO_ROOM) if quotas is None else (quotas.group, quotas.room(kept))
