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

from sft_diversity.clean.compiled import Bounds, Hashes, compiled, cosine, jaccard
from sft_diversity.core.vectors import Vectors

Ints = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float64]

BLOCK = 2_048  # samples a block: a block of cosines against as many is 16 MB
MINHASH, COSINE = 1, 2  # which measure made a pair twins
SLACK = 1e-4  # matrix products err by less; whatever comes this near is verified
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
        twin, alikeness, by = _settle(
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
        _list(rows, self._size, self._heads, self._next, self._alike.buckets)
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
            _nearest(
                products, rows, self._rows[start:stop], best, similarity,
                alike.vectors, alike.more, alike.cosine,
            )  # fmt: skip
        return best, similarity, here @ here.T


@compiled
def _list(rows: Ints, size: int, heads: Bounds, following: Bounds, buckets: Ints) -> None:
    bands = buckets.shape[1]
    for place in range(len(rows)):
        for band in range(bands):
            bucket = buckets[rows[place], band]
            if bucket >= 0:
                entry = (size + place) * bands + band
                following[entry] = heads[bucket]
                heads[bucket] = entry


@compiled
def _nearest(
    products: Vectors,
    rows: Ints,
    others: Ints,
    best: Ints,
    similarity: Floats,
    vectors: Vectors,
    more: Vectors,
    least: float,
) -> None:
    """Update each row's nearest by a block of products; of equals the first stays."""
    for i in range(products.shape[0]):
        for j in range(products.shape[1]):
            if products[i, j] >= least - SLACK:
                found = cosine(vectors, more, rows[i], others[j])
                if found >= least and found > similarity[i]:
                    similarity[i] = found
                    best[i] = others[j]


@compiled
def _settle(
    rows: Ints,
    best: Ints,
    nearness: Floats,
    inner: Vectors,
    staying: Ints,
    size: int,
    heads: Bounds,
    fresh: Bounds,
    following: Bounds,
    seen: Ints,
    buckets: Ints,
    values: Hashes,
    bounds: Bounds,
    least: float,
    vectors: Vectors,
    more: Vectors,
    least_cosine: float,
) -> tuple[Ints, Floats, npt.NDArray[np.int8]]:
    """Go through a block in order. `fresh` lists its own staying samples, before `following`."""
    n, bands = len(rows), buckets.shape[1]
    twin = np.full(n, -1, np.int32)
    similarity = np.full(n, -1.0)
    by = np.zeros(n, np.int8)
    before = size * bands  # entries below stand in `following`
    for i in range(n):
        row = rows[i]
        rank = size + n
        for band in range(bands):
            bucket = buckets[row, band]
            entry = heads[bucket] if bucket >= 0 else -1
            while entry >= 0:
                place = entry // bands
                other = staying[place] if place < size else rows[place - size]
                if seen[other] != row:
                    seen[other] = row
                    found = jaccard(values, bounds, row, other, max(least, similarity[i]))
                    if found > similarity[i] or (found == similarity[i] >= 0 and place < rank):
                        similarity[i], twin[i], by[i], rank = found, other, MINHASH, place
                entry = following[entry] if entry < before else fresh[entry - before]
        if twin[i] < 0 and len(inner):
            for j in range(i):
                if twin[j] < 0 and inner[i, j] >= least_cosine - SLACK:
                    found = cosine(vectors, more, row, rows[j])
                    if found >= least_cosine and found > nearness[i]:
                        nearness[i], best[i] = found, rows[j]
            if best[i] >= 0:
                twin[i], similarity[i], by[i] = best[i], nearness[i], COSINE
        if twin[i] < 0:
            for band in range(bands):
                bucket = buckets[row, band]
                if bucket >= 0:
                    fresh[i * bands + band] = heads[bucket]
                    heads[bucket] = before + i * bands + band
    return twin, similarity, by
