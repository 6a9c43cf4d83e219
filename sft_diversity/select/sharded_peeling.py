"""Peeling over shards: the same pools for every k, bit for bit, without the whole in one place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from sft_diversity.core.errors import UsageError
from sft_diversity.select.compiled import Ints, Kinds, Rows, compiled
from sft_diversity.select.peeling import drop_rarest
from sft_diversity.select.shards import Shard, each, gather
from sft_diversity.select.transpose import transpose

GROWTH = 1.25


@dataclass(frozen=True)
class ShardedPeeling:
    """Every pool of a peeling; see `peeling.Peeling` for steps and pools.

    Attributes
    ----------
    sample_left : int32 arrays, one a shard
        Step at which each sample left the pool; 0 if it holds no kind and never was in it.
    kind_left : int32 array, shape (n_kinds,)
    kinds_after, pool_sizes : int64 arrays, shape (steps + 1,)
    exchanges : int
        Times that shards had to add up what kinds lost.
    largest_slice : int
        Most samples that were in one place at a time.
    """

    sample_left: list[npt.NDArray[np.int32]]
    kind_left: npt.NDArray[np.int32]
    kinds_after: Ints
    pool_sizes: Ints
    exchanges: int
    largest_slice: int

    def pools(self, step: int) -> list[Rows]:
        """Return the pool of `step`: rows of each shard, numbered within it, ascending."""
        return [np.flatnonzero(left > step).astype(np.int64) for left in self.sample_left]

    def nearest_step(self, k: float) -> int:
        """Return the step whose k is nearest to `k`; of two equally near, the larger k."""
        return int(np.abs(self.kinds_after - k).argmin())


@dataclass(frozen=True)
class Cores:
    """Which samples leave between one core and the next; core f is what stays when every kind
    held by at most f samples has been dropped, again and again.

    Attributes
    ----------
    level_left : int32 arrays, one a shard
        Level, 1 for the first, at which the sample left; 0 if it holds no kind.
    degrees : int64 array, shape (n_kinds,)
        Samples that hold each kind at the start.
    thresholds : list of int
        f of each level.
    exchanges : int
    """

    level_left: list[npt.NDArray[np.int32]]
    degrees: Ints
    thresholds: list[int]
    exchanges: int


def peel_shards(
    shards: Sequence[Shard], n_kinds: int, *, growth: float = GROWTH, workers: int = 1
) -> ShardedPeeling:
    """Peel a pool that lies in shards.

    Parameters
    ----------
    shards : Shard sequence
    n_kinds : int
    growth : float, at least 1
        Ratio of the degrees at which slices are cut. Smaller: smaller slices, more exchanges.
    workers : int
        Shards worked on at a time; the result is the same for any number, of shards too.

    Returns
    -------
    ShardedPeeling
        Equal to `peel` of the whole.

    Raises
    ------
    UsageError
        If `growth` is below 1.

    Notes
    -----
    First the cores. All kinds held by at most f samples go at once, in every shard; the shards
    add up what the other kinds lost; and again until none is left to go. What stays, core f, does
    not depend on the order of drops, since a drop only lowers other kinds' degrees: peeling by
    rarest kind passes through it too, just before it drops a kind of more than f samples. So the
    samples that leave between two cores, a slice, are all that peeling needs from the one to the
    other, beside the degrees of kinds: slices are gathered and peeled one by one.

    A shard needs memory for its entries by sample and by kind; an exchange carries a number a
    kind; each sample travels once, and only its slice, if a single pool is wanted. Time as `peel`
    plus O(n_kinds) an exchange.
    """
    if growth < 1:
        raise UsageError(f"select: growth is {growth:g} but must be at least 1")
    cores = find_cores(shards, n_kinds, growth=growth, workers=workers)
    sample_left = [np.zeros(shard.n_samples, np.int32) for shard in shards]
    kind_left = np.zeros(n_kinds, np.int32)
    kinds_after, pool_sizes = np.zeros((2, n_kinds + 1), np.int64)
    degrees = cores.degrees.copy()
    kinds_after[0] = np.count_nonzero(degrees)
    pool_sizes[0] = sum(int(np.count_nonzero(level)) for level in cores.level_left)
    by_level = [_rows_by_level(left, len(cores.thresholds)) for left in cores.level_left]
    step = largest = 0
    for level, threshold in enumerate(cores.thresholds):
        rows = [shard_rows[level] for shard_rows in by_level]
        indptr, indices = gather(shards, rows)
        every = np.arange(len(indptr) - 1)
        starts, members = transpose(indptr, indices, every, n_kinds)
        left = np.zeros(len(every), np.int32)
        step = drop_rarest(
            indptr, indices, starts, members, degrees, left, kind_left, kinds_after, pool_sizes,
            step, threshold,
        )  # fmt: skip
        ends = np.cumsum([len(r) for r in rows])[:-1]
        for of_shard, at, values in zip(sample_left, rows, np.split(left, ends), strict=True):
            of_shard[at] = values
        largest = max(largest, len(every))
    return ShardedPeeling(
        sample_left,
        kind_left,
        kinds_after[: step + 1],
        pool_sizes[: step + 1],
        cores.exchanges,
        largest,
    )


def find_cores(
    shards: Sequence[Shard], n_kinds: int, *, growth: float = GROWTH, workers: int = 1
) -> Cores:
    """Return the level at which each sample leaves; see `peel_shards`."""
    parts = each(partial(_Part, n_kinds=n_kinds), shards, workers)
    degrees = np.sum([np.diff(part.starts) for part in parts], axis=0)
    now = degrees.copy()
    thresholds: list[int] = []
    exchanges = 1
    while now.any():
        threshold = max(int(now[now > 0].min()), int(growth * (thresholds or [0])[-1]))
        thresholds.append(threshold)
        leaving = np.flatnonzero((now > 0) & (now <= threshold))
        while len(leaving):
            drop = partial(_Part.drop, kinds=leaving, level=len(thresholds))
            for lost in each(drop, parts, workers):
                now -= lost
            exchanges += 1
            leaving = np.flatnonzero((now > 0) & (now <= threshold))
    return Cores([part.level_left for part in parts], degrees, thresholds, exchanges)


class _Part:
    """A shard during the rounds: its entries by kind, and which samples have left."""

    def __init__(self, shard: Shard, n_kinds: int) -> None:
        self.shard = shard
        self.n_kinds = n_kinds
        rows = np.arange(shard.n_samples)
        self.starts, self.members = transpose(shard.indptr, shard.indices, rows, n_kinds)
        self.level_left = np.zeros(shard.n_samples, np.int32)

    def drop(self, kinds: Ints, level: int) -> Ints:
        """Take out the samples that hold any of `kinds`; return what each kind lost by it."""
        lost = np.zeros(self.n_kinds, np.int64)
        _drop_all(
            kinds, level, self.shard.indptr, self.shard.indices, self.starts, self.members,
            self.level_left, lost,
        )  # fmt: skip
        return lost


@compiled
def _drop_all(
    kinds: Ints,
    level: int,
    indptr: Ints,
    indices: Kinds,
    starts: Ints,
    members: Kinds,
    level_left: npt.NDArray[np.int32],
    lost: Ints,
) -> None:
    """Mark the samples of `kinds` that are still in with `level`; count what they held."""
    for kind in kinds:
        for row in members[starts[kind] : starts[kind + 1]]:
            if level_left[row] == 0:
                level_left[row] = level
                for other in indices[indptr[row] : indptr[row + 1]]:
                    lost[other] += 1


def _rows_by_level(level_left: npt.NDArray[np.int32], levels: int) -> list[Rows]:
    """Return the rows that left at level 1, 2, …, each ascending."""
    order = np.argsort(level_left, kind="stable")
    ends = np.cumsum(np.bincount(level_left, minlength=levels + 1))
    return np.split(order, ends)[1:-1]
