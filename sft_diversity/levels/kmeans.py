"""Spherical k-means: topic clusters of unit vectors, assigned exactly."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sft_diversity.core import neighbours, seeding
from sft_diversity.core.errors import DataError
from sft_diversity.core.neighbours import Engine
from sft_diversity.core.vectors import Vectors


@dataclass(frozen=True)
class Clusters:
    """A clustering of n unit vectors.

    Attributes
    ----------
    assignment : int32 array, shape (n,)
        Cluster of each row, -1 for none; clusters are numbered by size, largest first.
    centroids : float32 array, shape (k, d)
        Unit vectors; no cluster is empty.
    on : Engine
        What computed it.
    """

    assignment: npt.NDArray[np.int32]
    centroids: Vectors
    on: Engine = neighbours.ON_CPU


def default_k(n: int) -> int:
    """Return round(√n), the number of clusters unless another is asked for."""
    return max(1, round(math.sqrt(n)))


def spherical_kmeans(
    vectors: Vectors,
    k: int,
    seed: int,
    iterations: int = 25,
    train_per_cluster: int = 512,
) -> Clusters:
    """Cluster unit vectors by cosine into at most `k` clusters.

    Parameters
    ----------
    vectors : float32 array, shape (n, d)
        Unit length.
    k : int
        1 to n. Clusters that no row is nearest to (fewer distinct rows than k) are left out.
    seed : int
        Draws the training sample and the first centroids.
    iterations : int
        Rounds of assignment and mean.
    train_per_cluster : int
        At most this many rows per cluster train the centroids, drawn at random; all are assigned.

    Raises
    ------
    DataError
        If `k` is not in 1 to n.

    Notes
    -----
    See `core.neighbours` for what computes it. Time
    O(iterations · min(n, train_per_cluster · k) · k · d), memory O(n · d).
    Dhillon & Modha 2001, doi:10.1023/A:1007612920971.
    """
    n = len(vectors)
    if not 1 <= k <= n:
        raise DataError(f"macro: k is {k:,} but there are {n:,} samples; lower `k`")
    on = neighbours.engine()
    sample = vectors
    if n > train_per_cluster * k:
        rng = seeding.generator(seed, "macro", "train")
        sample = vectors[np.sort(rng.choice(n, train_per_cluster * k, replace=False))]
    draw = seeding.derive(seed, "macro", "kmeans") % 2**31
    centroids = neighbours.spherical_centroids(sample, k, iterations, draw, on)
    return compact(neighbours.assign(vectors, centroids, on), centroids, on)


def compact(
    nearest: npt.NDArray[np.int32], centroids: Vectors, on: Engine = neighbours.ON_CPU
) -> Clusters:
    """Leave out empty clusters and number the others by size, largest first (ties: as before)."""
    sizes = np.bincount(nearest[nearest >= 0], minlength=len(centroids))
    order = np.argsort(-sizes, kind="stable")[: int((sizes > 0).sum())]
    number = np.full(len(centroids) + 1, -1, np.int32)  # the last is that of -1
    number[order] = np.arange(len(order), dtype=np.int32)
    return Clusters(number[nearest], np.ascontiguousarray(centroids[order]), on)
