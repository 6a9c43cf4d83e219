"""Baselines: random and longest samples, within the same limits as any subset."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sft_diversity.core.errors import DataError
from sft_diversity.core.kernels import Rows
from sft_diversity.core.seeding import generator
from sft_diversity.selection import capping
from sft_diversity.selection.exchange import exchange
from sft_diversity.selection.limits import Limits


def random_order(rows: Rows, seed: int) -> Rows:
    """Return `rows` in random order."""
    return generator(seed, "select", "random").permutation(rows)


def longest_first(rows: Rows, lengths: npt.NDArray[np.integer]) -> Rows:
    """Return `rows` by falling length, ties by lowest row."""
    return rows[np.argsort(-np.asarray(lengths, np.int64)[rows], kind="stable")]


def first_within(order: Rows, size: int, limits: Limits, seed: int) -> Rows:
    """Return the rows kept, then the first of `order` that the quotas still allow, `size` in all.

    A total length is reached by exchanges (see `exchange`). Without limits a smaller size gives a
    prefix.

    Raises
    ------
    DataError
        If `order` has fewer rows, or the limits cannot be met.
    """
    rows = limits.candidates(order)
    lacking = limits.lacking(rows, size)
    if lacking:
        raise DataError(f"select: size is {size:,} but {lacking}; change the size or the limit")
    n = int(max(order.max(initial=0), limits.kept.max(initial=0))) + 1
    if limits.quotas is not None:
        n = len(limits.quotas.group)
    elif limits.total is not None:
        n = len(limits.total.lengths)
    shape = (np.zeros(n + 1, np.int64), np.zeros(0, np.int32), 0)  # no kinds
    picks = capping.fit(*shape, rows, size, limits)
    return picks if limits.total is None else exchange(*shape, rows, picks, limits, seed)
