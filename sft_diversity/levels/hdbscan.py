"""HDBSCAN as in the study (the BERTopic line): reduce, find dense groups, decide about noise."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from sft_diversity.core import extras, neighbours
from sft_diversity.core import vectors as core_vectors
from sft_diversity.core.errors import DataError
from sft_diversity.core.vectors import Vectors
from sft_diversity.levels.kmeans import Clusters, compact

Library = Literal["hdbscan", "hdbscan-sklearn"]  # fast-hdbscan, or scikit-learn's
Reduce = Literal["umap", "pca"]
Noise = Literal["nearest", "own-kind", "drop"]
#: UMAP keeps groups apart in few dimensions; PCA needs more to keep them at all.
DIMENSIONS: dict[Reduce, int] = {"umap": 5, "pca": 30}


def hdbscan(
    vectors: Vectors,
    min_cluster_size: int,
    reduce: Reduce,
    dimensions: int | None,
    seed: int,
    library: Library = "hdbscan",
) -> npt.NDArray[np.int32]:
    """Return the cluster of each row, -1 for noise, shape (n,).

    Parameters
    ----------
    vectors : float32 array, shape (n, d)
    min_cluster_size : int
        Fewest rows that make a cluster.
    reduce : str
        `umap` or `pca`: distances in hundreds of dimensions are slow to search and show no density.
    dimensions : int or None
        To reduce to; None: 5 with UMAP, 30 with PCA.
    seed : int
        Of the reduction.
    library : str
        `hdbscan` is fast-hdbscan, `hdbscan-sklearn` scikit-learn's; they differ in details.

    Raises
    ------
    UsageError
        If the extra `hdbscan` is not installed.
    DataError
        If no cluster is found.

    Notes
    -----
    UMAP is reproducible on one machine (one thread, fixed seed), not across machines.
    Campello, Moulavi & Sander 2013, doi:10.1007/978-3-642-37456-2_14; McInnes, Healy & Melville
    2018, arXiv:1802.03426.
    """
    require_hdbscan(reduce, library)
    points = reduced(vectors, reduce, dimensions or DIMENSIONS[reduce], seed)
    model: Any
    if library == "hdbscan":
        from fast_hdbscan import HDBSCAN

        model = HDBSCAN(min_cluster_size=min_cluster_size)
    else:
        from sklearn import cluster

        model = cluster.HDBSCAN(min_cluster_size=min_cluster_size, copy=True)
    labels: npt.NDArray[np.int32] = model.fit_predict(points).astype(np.int32)
    if labels.max(initial=-1) < 0:
        raise DataError(
            f"macro: HDBSCAN finds no cluster of {min_cluster_size} samples among "
            f"{len(vectors):,}; lower `min_cluster_size`, or use method kmeans"
        )
    return labels


def require_hdbscan(reduce: Reduce, library: Library) -> None:
    """Refuse where a package of the extra `hdbscan` is not installed."""
    needed = {"fast_hdbscan": library == "hdbscan", "umap": reduce == "umap"}
    for module in (name for name, there in needed.items() if there):
        extras.require(module, "index: macro by hdbscan", "use method kmeans")


def reduced(vectors: Vectors, reduce: Reduce, dimensions: int, seed: int) -> Vectors:
    """Return the rows in `dimensions` dimensions, float32, shape (n, dimensions)."""
    if dimensions >= min(vectors.shape):
        raise DataError(
            f"macro: cannot reduce {len(vectors):,} vectors of {vectors.shape[1]} dimensions to "
            f"{dimensions}; lower `dimensions`"
        )
    if reduce == "pca":
        from sklearn.decomposition import PCA

        reducer: Any = PCA(dimensions, svd_solver="covariance_eigh")
    else:
        from umap import UMAP

        reducer = UMAP(
            n_neighbors=15,
            n_components=dimensions,
            min_dist=0.0,
            metric="cosine",
            init="random",  # spectral starts take longer than the layout at this size
            n_jobs=1,
            random_state=seed % 2**32,
        )
    return np.ascontiguousarray(reducer.fit_transform(vectors), dtype=np.float32)


def settle_noise(vectors: Vectors, labels: npt.NDArray[np.int32], noise: Noise) -> Clusters:
    """Turn labels into clusters, deciding about the rows of label -1.

    `nearest` gives each to the cluster of nearest centroid (mean direction), `own-kind` puts them
    together into one cluster more, `drop` leaves them without a kind: selection will not take them.
    """
    labels = labels.copy()
    is_noise = labels < 0
    k = int(labels.max()) + 1
    if noise == "own-kind" and is_noise.any():
        labels[is_noise] = k
        k += 1
    centroids = _mean_directions(vectors, labels, k)
    if noise == "nearest" and is_noise.any():
        on = neighbours.engine()
        labels[is_noise] = neighbours.assign(vectors[is_noise], centroids, on)
        return compact(labels, centroids, on)
    return compact(labels, centroids)


def _mean_directions(vectors: Vectors, labels: npt.NDArray[np.int32], k: int) -> Vectors:
    sums = np.zeros((k, vectors.shape[1]), np.float64)
    held = labels >= 0
    np.add.at(sums, labels[held], vectors[held])
    return core_vectors.unit(sums)
