"""MinHash signatures and the bands that make candidates of samples with alike shingle sets."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sft_diversity.cleaning.compiled import Bounds, Hashes
from sft_diversity.cleaning.hashes import keys_of, shingle_sets
from sft_diversity.cleaning.words import hashed

_MISS = 0.005  # chance that a pair of exactly the least similarity shares no band


class Bands(NamedTuple):
    """How a signature is cut: a pair that agrees in all rows of one band is a candidate."""

    number: int
    rows: int

    def found(self, similarity: float) -> float:
        """Return the probability that a pair of this Jaccard similarity becomes a candidate."""
        return float(1 - (1 - similarity**self.rows) ** self.number)


def banding(least: float, permutations: int) -> Bands:
    """Return the longest bands that still miss a pair at `least` with probability under 0.005."""
    fitting = [
        bands
        for rows in range(1, permutations + 1)
        if (bands := Bands(permutations // rows, rows)).found(least) >= 1 - _MISS
    ]
    return fitting[-1] if fitting else Bands(permutations, 1)


def sets(instructions: Sequence[str], responses: Sequence[str], size: int) -> tuple[Hashes, Bounds]:
    """Return the shingle sets of samples; see `shingle_sets`."""
    texts = [text for pair in zip(instructions, responses, strict=True) for text in pair]
    return shingle_sets(*hashed(texts, symbols=True), size)


def band_keys(values: Hashes, bounds: Bounds, bands: Bands, seed: int) -> Hashes:
    """Return each sample's key in each band, shape (n, bands); 0 for a sample without shingles.

    The set signed is the union of both components' shingles, which are of disjoint universes: where
    both components' Jaccard similarities reach a threshold, so does the union's.
    """
    from rensa import RMinHash

    rows = bounds[::2]
    if len(rows) < 2:
        return np.zeros((0, bands.number), np.uint64)
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(
        values, rows.astype(np.uint64), bands.number * bands.rows, seed
    )
    flat = chain.from_iterable(matrix.to_rows())
    signatures = np.fromiter(flat, np.uint32).reshape(len(rows) - 1, -1)
    keys = keys_of(signatures, bands.number, bands.rows)
    keys[np.diff(rows) == 0] = 0
    return keys


def buckets(keys: Hashes) -> tuple[npt.NDArray[np.int32], int]:
    """Return each sample's bucket in each band, -1 where it is alone, and the number of buckets."""
    numbers = np.full(keys.shape, -1, np.int32)
    total = 0
    for band in range(keys.shape[1]):
        column = np.ascontiguousarray(keys[:, band])
        unique, inverse, counts = np.unique(column, return_inverse=True, return_counts=True)
        shared = (counts > 1) & (unique != 0)
        names = np.where(shared, np.cumsum(shared) - 1 + total, -1)
        numbers[:, band] = names[inverse]
        total += int(shared.sum())
    return numbers, total
