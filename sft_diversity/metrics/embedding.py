"""Spread of embeddings: mean pairwise distance and the Vendi score."""

from __future__ import annotations

import numpy as np
from threadpoolctl import threadpool_limits

from sft_diversity.core.vectors import Vectors


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
