"""Peeling over shards: the same pools for every k, bit for bit, without the whole in one place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from sft_diversity.select.compiled import Ints, Rows
from sft_diversity.select.peeling import drop_samples
from sft_diversity.select.sharded.shards import Shard, each
from sft_diversity.select.transpose import transpose

GONE = np.iinfo(np.int64).max


@dataclass(frozen=True)
class ShardedPeeling:
    """Every pool of a peeling; see `peeling.Peeling` for steps and pools.

    Attributes
    ----------
    sample_left : int32 arrays, one a shard
        Step at which each sample left the pool; 0 if it holds no kind and never was in it.
    kind_left : int32 array, shape (n_kinds,)
    kinds_after, pool_sizes : int64 arrays, shape (steps + 1,)
    """

    sample_left: list[npt.NDArray[np.int32]]
    kind_left: npt.NDArray[np.int32]
    kinds_after: Ints
    pool_sizes: Ints

    def pools(self, step: int) -> list[Rows]:
        """Return the pool of `step`: rows of each shard, numbered within it, ascending."""
        return [np.flatnonzero(left > step).astype(np.int64) for left in self.sample_left]

    def nearest_step(self, k: float) -> int:
        """Return the step whose k is nearest to `k`; of two equally near, the larger k."""
        return int(np.abs(self.kinds_after - k).argmin())


def peel_shards(shards: Sequence[Shard], n_kinds: int, *, workers: int = 1) -> ShardedPeeling:
    """Peel a pool that lies in shards.

    Parameters
    ----------
    shards : Shard sequence
    n_kinds : int
    workers : int
        Shards prepared at a time.

    Returns
    -------
    ShardedPeeling
        Equal to `peel` of the whole, for any number of shards and workers.

    Notes
    -----
    One exchange a step: the kind to drop, the rarest, goes to all shards; each takes its samples
    out and answers which kinds they held, and how often. Who leads knows no more than how many
    samples are left of each kind.

    A shard needs memory for its entries by sample and by kind; the lead 16 bytes a kind. All
    answers together are O(nnz) numbers; the lead spends O(n_kinds) a step to find the rarest.
    """
    parts = each(partial(_Part, n_kinds=n_kinds), shards, workers)
    left = np.sum([np.diff(part.starts) for part in parts], axis=0)
    kinds = [int(np.count_nonzero(left))]
    sizes = [sum(len(shard.eligible()) for shard in shards)]
    kind_left = np.zeros(n_kinds, np.int32)
    left[left == 0] = GONE
    while kinds[-1] > 0:
        rarest = int(left.argmin())  # of equally rare kinds the lowest
        step = len(kinds)
        sizes.append(sizes[-1] - int(left[rarest]))
        answers = [part.drop(rarest, step) for part in parts]
        for held, lost in answers:
            left[held] -= lost
        emptied = np.unique(np.concatenate([held[left[held] == 0] for held, _ in answers]))
        kind_left[emptied] = step
        left[emptied] = GONE
        kinds.append(kinds[-1] - len(emptied))
    return ShardedPeeling(
        [part.sample_left for part in parts], kind_left, np.array(kinds), np.array(sizes)
    )


class _Part:
    """A shard while it is peeled: its entries by kind, and which samples have left."""

    def __init__(self, shard: Shard, n_kinds: int) -> None:
        self.shard = shard
        rows = np.arange(shard.n_samples)
        self.starts, self.members = transpose(shard.indptr, shard.indices, rows, n_kinds)
        self.sample_left = np.zeros(shard.n_samples, np.int32)
        self.touched = np.empty(n_kinds, np.int64)
        self.lost = np.zeros(n_kinds, np.int64)

    def drop(self, kind: int, step: int) -> tuple[Ints, Ints]:
        """Take out the samples of `kind`; return the kinds they held and what each lost by it."""
        members = self.members[self.starts[kind] : self.starts[kind + 1]]
        found = drop_samples(
            members, step, self.shard.indptr, self.shard.indices, self.sample_left, self.touched,
            self.lost,
        )  # fmt: skip
        held = self.touched[:found].copy()
        lost = self.lost[held]
        self.lost[held] = 0
        return held, lost
