"""Compiled loops over pairs of samples: how alike they are, and who stays."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sft_diversity.cleaning.compiled import Bounds, Floats, Hashes, Ints
from sft_diversity.core.kernels import compiled, cosine
from sft_diversity.core.vectors import Vectors

MINHASH, COSINE = 1, 2  # which measure made a pair twins
_SLACK = 1e-4  # matrix products err by less; whatever comes this near is verified


@compiled
def jaccard(values: Hashes, bounds: Bounds, a: int, b: int, least: float) -> float:
    """Return the lower of two samples' Jaccard similarities by component, or -1 below `least`.

    A component that both lack does not count; two samples without any shingle are not alike.
    """
    lowest = 2.0
    for part in range(2):
        i, i_end = bounds[2 * a + part], bounds[2 * a + part + 1]
        j, j_end = bounds[2 * b + part], bounds[2 * b + part + 1]
        n, m = i_end - i, j_end - j
        if n == 0 and m == 0:
            continue
        if min(n, m) < least * max(n, m) - 1e-9:
            return -1.0
        both = 0
        while i < i_end and j < j_end:
            if values[i] == values[j]:
                both += 1
                i += 1
                j += 1
            elif values[i] < values[j]:
                i += 1
            else:
                j += 1
        lowest = min(lowest, both / (n + m - both))
        if lowest < least:
            return -1.0
    return lowest if lowest <= 1.0 else -1.0


@compiled
def lower_cosine(vectors: Vectors, more: Vectors, a: int, b: int) -> float:
    """Return the lower cosine of two rows of `vectors`, or of `more` where there is one."""
    lower = cosine(vectors[a], vectors[b])
    return min(lower, cosine(more[a], more[b])) if len(more) else lower


@compiled
def root(parent: npt.NDArray[np.int32], row: int) -> int:
    """Return the root of `row`, halving the path to it."""
    while parent[row] != row:
        parent[row] = parent[parent[row]]
        row = parent[row]
    return row


@compiled
def listed(rows: Ints, size: int, heads: Bounds, following: Bounds, buckets: Ints) -> None:
    bands = buckets.shape[1]
    for place in range(len(rows)):
        for band in range(bands):
            bucket = buckets[rows[place], band]
            if bucket >= 0:
                entry = (size + place) * bands + band
                following[entry] = heads[bucket]
                heads[bucket] = entry


@compiled
def nearest(
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
            if products[i, j] >= least - _SLACK:
                found = lower_cosine(vectors, more, rows[i], others[j])
                if found >= least and found > similarity[i]:
                    similarity[i] = found
                    best[i] = others[j]


@compiled
def settle_block(
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
                if twin[j] < 0 and inner[i, j] >= least_cosine - _SLACK:
                    found = lower_cosine(vectors, more, row, rows[j])
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


@compiled
def connect(
    members: Ints, starts: Bounds, parent: Ints, values: Hashes, bounds: Bounds, least: float
) -> tuple[Ints, Ints, Floats]:
    first = np.empty(len(parent), np.int32)
    second = np.empty(len(parent), np.int32)
    similarity = np.empty(len(parent))
    at = 0
    for bucket in range(len(starts) - 1):
        for i in range(starts[bucket], starts[bucket + 1]):
            for j in range(starts[bucket], i):
                a, b = root(parent, members[j]), root(parent, members[i])
                if a == b:
                    continue
                found = jaccard(values, bounds, members[j], members[i], least)
                if found >= least:
                    parent[b] = a
                    first[at], second[at], similarity[at] = members[j], members[i], found
                    at += 1
    return first[:at].copy(), second[:at].copy(), similarity[:at].copy()


@compiled
def connect_cosine(
    products: Vectors,
    rows: Ints,
    others: Ints,
    same: bool,
    parent: Ints,
    vectors: Vectors,
    more: Vectors,
    least: float,
) -> tuple[Ints, Ints, Floats]:
    first = np.empty(len(rows) + len(others), np.int32)
    second = np.empty(len(rows) + len(others), np.int32)
    similarity = np.empty(len(rows) + len(others))
    at = 0
    for i in range(products.shape[0]):
        for j in range(i if same else products.shape[1]):
            if products[i, j] < least - _SLACK:
                continue
            a, b = root(parent, others[j]), root(parent, rows[i])
            if a == b:
                continue
            found = lower_cosine(vectors, more, rows[i], others[j])
            if found >= least:
                parent[b] = a
                first[at], second[at], similarity[at] = others[j], rows[i], found
                at += 1
    return first[:at].copy(), second[:at].copy(), similarity[:at].copy()
