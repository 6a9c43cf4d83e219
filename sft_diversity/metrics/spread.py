"""Spread of embeddings: mean pairwise distance, the Vendi score, NovelSum."""

from __future__ import annotations

import numpy as np
from threadpoolctl import threadpool_limits

from sft_diversity.core.numbers import Floats
from sft_diversity.core.vectors import Vectors

NEIGHBOURS = 10
DENSITY_POWER = 0.5  # the paper's beta
PROXIMITY_POWER = 1.0  # the paper's alpha
_SAME = 1e-6  # a cosine distance below it is rounding: the same vector
_FLOOR = 1e-9
_BLOCK_VALUES = 1 << 24


def mean_pairwise_distance(vectors: Vectors) -> float:
    """Return the mean cosine distance, 0 to 2, over all pairs of different rows.

    Parameters
    ----------
    vectors : float32 array, shape (n, d), n at least 2
        Unit length.

    Notes
    -----
    Exact in O(n · d): the n² cosines sum up to the squared length of the sum of the vectors.
    """
    n = len(vectors)
    total = vectors.sum(axis=0, dtype=np.float64)
    own = float(np.square(vectors, dtype=np.float64).sum())
    return 1.0 - (float(total @ total) - own) / (n * (n - 1))


def vendi_score(vectors: Vectors) -> float:
    """Return the Vendi score, an effective number of different samples, 1 to n (and at most d).

    The exponential of the Shannon entropy of the eigenvalues of K/n, K the matrix of cosines
    (Friedman & Dieng 2023, arXiv:2210.02410).

    Parameters
    ----------
    vectors : float32 array, shape (n, d)
        Unit length.

    Notes
    -----
    X Xᵀ and Xᵀ X share their eigenvalues above 0, so d × d is enough: O(n · d² + d³).
    """
    gram = np.zeros((vectors.shape[1], vectors.shape[1]))
    for start in range(0, len(vectors), 8192):
        block = vectors[start : start + 8192].astype(np.float64)
        gram += block.T @ block
    with threadpool_limits(1, "blas"):  # on busy cores two threads take 100 times as long as one
        values = np.linalg.eigvalsh(gram / len(vectors))
    values = values[values > 1e-12]
    return float(np.exp(-(values * np.log(values)).sum()))


def density_factors(vectors: Vectors, reference: Vectors) -> Floats:
    """Return each sample's density factor σ^β, shape (n,).

    σ is 1 over the mean squared Euclidean distance (twice the cosine distance) to the `NEIGHBOURS`
    nearest of the different vectors in `reference`; a sample is not its own neighbour.

    Parameters
    ----------
    vectors : float32 array, shape (n, d)
        Unit length.
    reference : float32 array, shape (m, d)
        Unit length; what stands for the natural density of the field, such as the corpus.

    Notes
    -----
    Time O(n · m · d), memory one block of 16 million cosines.
    """
    known = _different(reference)
    nearest = min(NEIGHBOURS, len(known))
    factors = np.ones(len(vectors))
    for start, stop in _blocks(len(vectors), len(known)):
        distances = 1.0 - vectors[start:stop] @ known.T
        distances[distances < _SAME] = np.inf
        near = np.partition(distances, nearest - 1, axis=1)[:, :nearest].astype(np.float64)
        there = np.isfinite(near)
        sums = np.where(there, near, 0.0).sum(axis=1)
        mean = 2.0 * sums / np.maximum(there.sum(axis=1), 1)
        factors[start:stop] = (mean + _FLOOR) ** -DENSITY_POWER
    return factors


def novelsum(vectors: Vectors, factors: Floats) -> float:
    """Return the mean over samples of the weighted mean distance to all other samples.

    The r-th nearest of the others has weight 1/r^α; the mean is multiplied by the sample's density
    factor. Yang et al. 2025, arXiv:2502.17184, as its authors' published code computes it, with the
    values they recommend.

    Parameters
    ----------
    vectors : float32 array, shape (n, d), n at least 2
        Unit length.
    factors : float64 array, shape (n,)
        Of `density_factors`.

    Notes
    -----
    Time O(n² · (d + log n)), memory one block of 16 million cosines.
    """
    n = len(vectors)
    weights = 1.0 / np.arange(1, n) ** PROXIMITY_POWER
    weights = (weights / weights.sum()).astype(np.float32)
    novelty = np.empty(n)
    for start, stop in _blocks(n, n):
        distances = 1.0 - vectors[start:stop] @ vectors.T
        distances[np.arange(stop - start), np.arange(start, stop)] = np.inf  # itself: sorted last
        distances.sort(axis=1)
        novelty[start:stop] = distances[:, :-1] @ weights
    return float((novelty * factors).mean())


def _different(vectors: Vectors) -> Vectors:
    """Return the rows of `vectors` that differ, in an order of their own."""
    rows = np.ascontiguousarray(vectors)
    whole = rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1]))).reshape(-1)
    return rows[np.unique(whole, return_index=True)[1]]


def _blocks(rows: int, columns: int) -> list[tuple[int, int]]:
    step = max(1, _BLOCK_VALUES // max(columns, 1))
    return [(start, min(start + step, rows)) for start in range(0, rows, step)]
