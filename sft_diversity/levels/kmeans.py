"""Spherical k-means with FAISS: topic clusters of unit vectors, assigned exactly."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sft_diversity.core import extras, machine, seeding
from sft_diversity.core.errors import DataError
from sft_diversity.core.vectors import Vectors

#: Rows assigned at a time: memory stays at block × k similarities.
_BLOCK = 16_384


@dataclass(frozen=True)
class Clusters:
    """A clustering of n unit vectors.

    Attributes
    ----------
    assignment : int32 array, shape (n,)
        Cluster of each row, -1 for none; clusters are numbered by size, largest first.
    centroids : float32 array, shape (k, d)
        Unit vectors; no cluster is empty.
    device : str
        `cpu` or `cuda`.
    """

    assignment: npt.NDArray[np.int32]
    centroids: Vectors
    device: str = "cpu"


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
    UsageError
        If no FAISS package is installed.

    Notes
    -----
    Runs on a GPU where faiss-gpu is installed and one is visible. Time
    O(iterations · min(n, train_per_cluster · k) · k · d), memory O(n · d).
    Dhillon & Modha 2001, doi:10.1023/A:1007612920971.
    """
    n, dim = vectors.shape
    if not 1 <= k <= n:
        raise DataError(f"macro: k is {k:,} but there are {n:,} samples; lower `k`")
    faiss = load_faiss()
    gpus = gpus_of(faiss)
    sample = vectors
    if n > train_per_cluster * k:
        rng = seeding.generator(seed, "macro", "train")
        sample = vectors[np.sort(rng.choice(n, train_per_cluster * k, replace=False))]
    trainer = faiss.Kmeans(
        dim,
        k,
        niter=iterations,
        spherical=True,
        seed=seeding.derive(seed, "macro", "kmeans") % 2**31,
        gpu=gpus > 0,
        min_points_per_centroid=1,
        max_points_per_centroid=2**31 - 1,
    )
    trainer.train(np.ascontiguousarray(sample))
    centroids = np.asarray(trainer.centroids, np.float32)
    nearest = assign(vectors, centroids)
    return compact(nearest, centroids, "cuda" if gpus else "cpu")


def assign(vectors: Vectors, centroids: Vectors) -> npt.NDArray[np.int32]:
    """Return for each row the centroid of largest inner product (ties: lowest), shape (n,).

    Exact: all products are formed, block by block. Time O(n · k · d).
    """
    nearest = np.empty(len(vectors), np.int32)
    for start in range(0, len(vectors), _BLOCK):
        block = slice(start, start + _BLOCK)
        nearest[block] = (vectors[block] @ centroids.T).argmax(axis=1)
    return nearest


def compact(nearest: npt.NDArray[np.int32], centroids: Vectors, device: str = "cpu") -> Clusters:
    """Leave out empty clusters and number the others by size, largest first (ties: as before)."""
    sizes = np.bincount(nearest[nearest >= 0], minlength=len(centroids))
    order = np.argsort(-sizes, kind="stable")[: int((sizes > 0).sum())]
    number = np.full(len(centroids) + 1, -1, np.int32)  # the last is that of -1
    number[order] = np.arange(len(order), dtype=np.int32)
    return Clusters(number[nearest], np.ascontiguousarray(centroids[order]), device)


def load_faiss() -> Any:
    """Import FAISS, or say which extra brings it."""
    require_faiss()
    import faiss

    return faiss


def require_faiss() -> None:
    """Refuse where FAISS is not installed."""
    gpu = "'sft-diversity[embed,gpu]' on a machine with an NVIDIA GPU (never both)"
    extras.require("faiss", "index: macro", gpu)


def gpus_of(faiss: Any) -> int:
    """Return how many GPUs this FAISS computes on: none where it is built for CPUs."""
    return machine.gpus(faiss.get_num_gpus) if hasattr(faiss, "StandardGpuResources") else 0
