"""Places in a plane for all samples: some laid out, the rest beside their nearest of these."""

from __future__ import annotations

from typing import Literal

import numpy as np

from sft_diversity.core import seeding
from sft_diversity.core.incidence import Incidence
from sft_diversity.core.numbers import Floats
from sft_diversity.core.vectors import Vectors

SIDE = 1_000  # places are in 0..SIDE
_PERPLEXITY = 30
_PRINCIPAL = 50  # components that t-SNE reads
_BLOCK = 2_000
_NEAREST = 3  # landmarks that a sample's place is made of

Layout = Literal["tsne", "pca"]


def laid_out(points: Vectors, layout: Layout, seed: int) -> Floats:
    """Return a place in the plane for every vector.

    t-SNE (van der Maaten & Hinton 2008) of 2,500 points takes about 10 s on one core; pca is
    linear and instant.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    size = min(_PRINCIPAL, *points.shape)
    with threadpool_limits(1):  # sums in one order: equal runs give equal maps
        principal = PCA(size, svd_solver="full").fit_transform(points.astype(np.float64))
        if layout == "pca" or len(points) < 20:
            return np.hstack([principal, principal])[:, :2] if size < 2 else principal[:, :2]
        laid = TSNE(
            2, init="pca", perplexity=min(_PERPLEXITY, (len(points) - 1) / 4),
            random_state=seed % 2**32, max_iter=500, n_jobs=1,
        ).fit_transform(principal.astype(np.float32))  # fmt: skip
    return np.asarray(laid, dtype=np.float64)


def scaled(points: Floats) -> Floats:
    """Return points in 20..SIDE−20, both axes by one factor; stray ones are drawn at the edge."""
    low, high = np.quantile(points, [0.002, 0.998], axis=0)
    middle, width = (low + high) / 2, float((high - low).max()) or 1.0
    inside = (points - middle) / width * (SIDE - 60) + SIDE / 2
    return np.asarray(np.clip(inside, 20, SIDE - 20))


def whole_numbers(points: Floats) -> list[int]:
    """Return x, y, x, y, ... as whole numbers."""
    return np.clip(np.rint(points), 0, SIDE).astype(np.int64).reshape(-1).tolist()


def spacing(points: Floats) -> float:
    """Return the median distance to the nearest other point of a map, at most 8."""
    from scipy.spatial import cKDTree

    if len(points) < 2:
        return 0.0
    near = cKDTree(points).query(points, 2)[0][:, 1]
    return float(min(np.median(near), 8.0))


def all_places(points: Vectors, anchors: Vectors, flat: Floats, seed: int) -> Floats:
    """Return a place for every vector: amid its nearest landmarks, at a small random step.

    Parameters
    ----------
    points, anchors : float32 arrays, shapes (n, d) and (m, d)
        Unit vectors.
    flat : float64 array, shape (m, 2)
        Places of the anchors.

    Notes
    -----
    Time O(n · m · d). The weights of the three nearest fall with the cube of their distance, so
    that a landmark stays about where it was laid out.
    """
    at = np.empty((len(points), 2))
    many = min(_NEAREST, len(anchors))
    for start in range(0, len(points), _BLOCK):
        cosines = points[start : start + _BLOCK] @ anchors.T
        near = np.argpartition(-cosines, many - 1, axis=1)[:, :many]
        far = np.maximum(1.0 - np.take_along_axis(cosines, near, axis=1), 1e-4).astype(np.float64)
        # landmarks that lie far apart in the plane have no place between them: the nearest counts
        closest = flat[near[np.arange(len(near)), far.argmin(axis=1)]][:, None]
        apart = np.linalg.norm(flat[near] - closest, axis=2) > SIDE / 20
        weights = np.where(apart, 0.0, far**-3)
        weights /= weights.sum(axis=1, keepdims=True)
        at[start : start + len(near)] = (flat[near] * weights[..., None]).sum(axis=1)
    rng = seeding.generator(seed, "map", "step")
    return np.clip(at + rng.normal(0.0, spacing(flat) / 2, at.shape), 0, SIDE)


def vectors_of_kinds(held: Incidence, seed: int) -> Vectors:
    """Return a unit vector for every sample, by the kinds it holds; zeros where it holds none.

    Latent semantic analysis: kinds weighed by log(n / samples that hold them), rows of unit
    length, the 50 leading singular directions (randomized SVD). Time O(nnz · 60).
    """
    from scipy.sparse import csr_array
    from sklearn.decomposition import TruncatedSVD
    from sklearn.preprocessing import normalize
    from threadpoolctl import threadpool_limits

    n = held.n_samples
    frequent = np.bincount(held.indices, minlength=held.n_kinds)
    weights = np.log(n / np.maximum(frequent, 1))[held.indices].astype(np.float32)
    shape = (n, max(held.n_kinds, 2))
    rows = normalize(csr_array((weights, held.indices, held.indptr), shape=shape))
    size = min(_PRINCIPAL, n, shape[1] - 1)
    with threadpool_limits(1):
        found = TruncatedSVD(size, random_state=seed % 2**32).fit_transform(rows)
    return np.asarray(normalize(found), np.float32)
