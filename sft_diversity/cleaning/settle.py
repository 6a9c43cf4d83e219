"""Who stays: samples settled one by one, best first, each against those that stay already.

The evidence is `Alike`: MinHash buckets, whose pairs are verified by exact Jaccard similarity, and,
where asked for, unit vectors, whose pairs above a cosine are found by blocked matrix products and
verified in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sft_diversity.cleaning.compiled import Bounds, Floats, Hashes, Ints
from sft_diversity.cleaning.pairs import listed, nearest, settle_block
from sft_diversity.core.vectors import Vectors

BLOCK = 2_048  # samples a block: a block of cosines against as many is 16 MB
NOTHING = np.zeros((0, 0), np.float32)


def _no_hashes() -> Hashes:
    return np.zeros(0, np.uint64)


def _no_bounds() -> Bounds:
    return np.zeros(1, np.int64)


def _no_vectors() -> Vectors:
    return NOTHING


@dataclass(frozen=True)
class Alike:
    """The evidence of likeness between n samples; what is not looked at is empty."""

    buckets: Ints  # (n, bands), -1 where a sample is alone in its bucket
    n_buckets: int = 0
    values: Hashes = field(default_factory=_no_hashes)
    bounds: Bounds = field(default_factory=_no_bounds)
    jaccard: float = 1.0
    vectors: Vectors = field(default_factory=_no_vectors)  # (n, d)
    more: Vectors = field(default_factory=_no_vectors)  # (n, d), of the second component
    cosine: float = 2.0


class Links(NamedTuple):
    """Verified pairs: which samples, how alike, by which measure.

    Of a block of `direct`, `first` are its samples and `second` their twins, -1 where they stay.
    """

    first: Ints
    second: Ints
    similarity: Floats
    by: npt.NDArray[np.int8]


class Verdicts(NamedTuple):
    """For every sample: the twin that stays (-1: it stays itself), and what it is linked to.

    `linked` is the twin itself, but in a chain; `similarity` and `by` are those of the link.
    """

    twin: Ints
    linked: Ints
    similarity: Floats
    by: npt.NDArray[np.int8]


Find = Callable[[int], Links | None]
Store = Callable[[int, Links], None]


def no_verdicts(n: int) -> Verdicts:
    """Return verdicts by which all of `n` samples stay."""
    alone = np.full(n, -1, np.int32)
    return Verdicts(alone, alone.copy(), np.full(n, -1.0), np.zeros(n, np.int8))


def direct(order: Ints, alike: Alike, find: Find, store: Store) -> Verdicts:
    """Settle samples best first: one goes if, and only if, it is alike to one that stays.

    So every sample that goes has a verified twin that stays (the most alike, ties by rank; MinHash
    before cosine), no two that stay are found alike, and the first in `order` of a group stays.

    Parameters
    ----------
    order : int32 array
        The samples to settle, best first.
    find, store : callable
        Look up and keep a block's outcome, so that a stopped run goes on.

    Notes
    -----
    MinHash: time linear in the candidates met. Cosine: O(n * staying * d).
    """
    verdicts = no_verdicts(len(alike.buckets))
    staying = _Staying(alike, len(order))
    for number, start in enumerate(range(0, len(order), BLOCK)):
        rows = np.ascontiguousarray(order[start : start + BLOCK])
        links = find(number)
        if links is None:
            links = staying.settle(rows)
            store(number, links)
        staying.add(rows[links.second < 0])
        verdicts.twin[rows] = verdicts.linked[rows] = links.second
        verdicts.similarity[rows] = links.similarity
        verdicts.by[rows] = links.by
    return verdicts


class _Staying:
    """The samples that stay so far, in order of rank, listed by bucket and as vectors."""

    def __init__(self, alike: Alike, most: int) -> None:
        self._alike = alike
        self._size = 0
        self._rows = np.empty(most, np.int32)
        self._vectors = np.empty((most if len(alike.vectors) else 0, alike.vectors.shape[1]), "f4")
        self._heads = np.full(alike.n_buckets, -1, np.int64)  # bucket -> its last entry
        self._next = np.full(most * alike.buckets.shape[1], -1, np.int64)  # entry -> one before
        self._seen = np.full(len(alike.buckets), -1, np.int32)

    def settle(self, rows: Ints) -> Links:
        """Return the twins of `rows`; changes nothing."""
        best, similarity, inner = self._by_cosine(rows)
        bands = self._alike.buckets.shape[1]
        twin, alikeness, by = settle_block(
            rows, best, similarity, inner,
            self._rows, self._size, self._heads.copy(), np.full(len(rows) * bands, -1, np.int64),
            self._next, self._seen, self._alike.buckets, self._alike.values, self._alike.bounds,
            self._alike.jaccard, self._alike.vectors, self._alike.more, self._alike.cosine,
        )  # fmt: skip
        return Links(rows, twin, alikeness, by)

    def add(self, rows: Ints) -> None:
        """List `rows` as staying."""
        stop = self._size + len(rows)
        self._rows[self._size : stop] = rows
        if len(self._alike.vectors):
            self._vectors[self._size : stop] = self._alike.vectors[rows]
        listed(rows, self._size, self._heads, self._next, self._alike.buckets)
        self._size = stop

    def _by_cosine(self, rows: Ints) -> tuple[Ints, Floats, Vectors]:
        """Return the nearest of those that stay, its cosine, and the block's own products."""
        alike = self._alike
        best, similarity = np.full(len(rows), -1, np.int32), np.full(len(rows), -1.0)
        if not len(alike.vectors):
            return best, similarity, NOTHING
        here = alike.vectors[rows]
        for start in range(0, self._size, BLOCK):
            stop = min(start + BLOCK, self._size)
            products = here @ self._vectors[start:stop].T
            nearest(
                products, rows, self._rows[start:stop], best, similarity,
                alike.vectors, alike.more, alike.cosine,
            )  # fmt: skip
        return best, similarity, here @ here.T
