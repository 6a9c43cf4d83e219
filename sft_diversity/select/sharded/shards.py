"""Shards of an incidence: parts that different workers, or machines, read on their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from sft_diversity.core.errors import UsageError
from sft_diversity.core.incidence import Incidence
from sft_diversity.select.compiled import Ints, Kinds, Rows, compiled, frozen

Argument = TypeVar("Argument")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Shard:
    """Consecutive samples of a whole; kinds have the numbers of the whole.

    Attributes
    ----------
    indptr : int64 array, shape (n + 1,)
    indices : int32 array, shape (nnz,)
        The incidence of these samples alone, read-only; `indices` may be a memory map.
    first : int
        Number in the whole of the first sample.
    """

    indptr: Ints
    indices: Kinds
    first: int

    @property
    def n_samples(self) -> int:
        """Number of rows."""
        return len(self.indptr) - 1

    def eligible(self) -> Rows:
        """Return the rows that hold a kind, numbered within the shard."""
        return np.flatnonzero(np.diff(self.indptr)).astype(np.int64)


def split(whole: Incidence, parts: int) -> list[Shard]:
    """Cut an incidence into `parts` shards of equally many samples, give or take one.

    Rows are ordered by id, and ids are content hashes: a run of rows is a random part of the
    corpus, which is what two-round greedy asks for. Indices are not copied.

    Raises
    ------
    UsageError
        If `parts` is below 1 or above the number of samples.
    """
    if not 1 <= parts <= whole.n_samples:
        raise UsageError(
            f"select: {parts:,} shards of {whole.n_samples:,} samples; give 1 to that many"
        )
    edges = np.linspace(0, whole.n_samples, parts + 1).astype(np.int64)
    shards = []
    for low, high in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        indptr = np.asarray(whole.indptr[low : high + 1])
        indices = whole.indices[indptr[0] : indptr[-1]]
        shards.append(Shard(frozen(indptr - indptr[0], np.int64), frozen(indices, np.int32), low))
    return shards


def each(
    work: Callable[[Argument], Result], arguments: Sequence[Argument], workers: int
) -> list[Result]:
    """Return `work` of every argument, in their order, on `workers` threads.

    Kernels let go of the interpreter while they run, so threads use as many cores; the result
    does not depend on how many there are.
    """
    if workers == 1:
        return [work(argument) for argument in arguments]
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(work, arguments))


def gather(shards: Sequence[Shard], rows: Sequence[Rows]) -> tuple[Ints, Kinds]:
    """Return `indptr` and `indices` of `rows`, one array for each shard, one after another."""
    sizes = [np.diff(s.indptr)[r] for s, r in zip(shards, rows, strict=True)]
    indptr = np.concatenate([[0], np.cumsum(np.concatenate(sizes))]).astype(np.int64)
    indices = np.empty(int(indptr[-1]), np.int32)
    at = 0
    for shard, taken in zip(shards, rows, strict=True):
        at = _copy(shard.indptr, shard.indices, taken, indices, at)
    return indptr, indices


@compiled
def _copy(indptr: Ints, indices: Kinds, rows: Rows, out: Kinds, at: int) -> int:
    """Append the kinds of `rows` to `out` from position `at`; return the position after them."""
    for row in rows:
        for kind in indices[indptr[row] : indptr[row + 1]]:
            out[at] = kind
            at += 1
    return at
