"""Macro level: kinds are topic clusters of the embeddings; a sample holds one, or none."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from sft_diversity.core import corpus as corpora
from sft_diversity.core import neighbours
from sft_diversity.core import vectors as core_vectors
from sft_diversity.core.config import Config
from sft_diversity.core.errors import DataError
from sft_diversity.core.incidence import Incidence
from sft_diversity.core.numbers import Ints
from sft_diversity.core.stage import Ask, Job
from sft_diversity.core.vectors import Vectors
from sft_diversity.levels.base import Indexed
from sft_diversity.levels.hdbscan import (
    Library,
    Noise,
    Reduce,
    hdbscan,
    require_hdbscan,
    settle_noise,
)
from sft_diversity.levels.kmeans import Clusters, default_k, spherical_kmeans

if TYPE_CHECKING:
    from sft_diversity.levels.stage import IndexConfig

_EXAMPLES = 3


class MacroOptions(Config):
    """How the embeddings are clustered."""

    method: Literal["kmeans"] | Library = Field(
        default="kmeans",
        description="kmeans: spherical, exact, reproducible; hdbscan: the study's, by fast-hdbscan "
        "(extra `hdbscan`); hdbscan-sklearn: scikit-learn's, slower, with reduce pca no extra",
    )
    k: int | None = Field(
        default=None, ge=1, description="clusters of kmeans; default: round(√samples)"
    )
    iterations: int = Field(default=25, ge=1, le=1000, description="rounds of kmeans")
    train_per_cluster: int = Field(
        default=512, ge=1, description="samples per cluster that train kmeans; all are assigned"
    )
    min_cluster_size: int = Field(default=15, ge=2, description="hdbscan: samples of a cluster")
    reduce: Reduce = Field(
        default="umap", description="hdbscan: reduction before it; umap differs between machines"
    )
    dimensions: int | None = Field(
        default=None, ge=2, le=50, description="hdbscan: reduce to; default: 5 (umap), 30 (pca)"
    )
    noise: Noise = Field(
        default="nearest",
        description="hdbscan: samples in no cluster go to the nearest, into one kind of their own, "
        "or hold no kind (drop)",
    )
    seed: int = Field(default=0, ge=0, description="seed of the clustering")


def check(options: MacroOptions, rows: int | None) -> None:
    """Refuse a clustering whose package is not installed, or of more clusters than `rows`."""
    if options.method != "kmeans":
        require_hdbscan(options.reduce, options.method)
        return
    neighbours.require_engine("index: macro")
    if options.k is not None and rows is not None and options.k > rows:
        raise DataError(f"index: macro.k is {options.k:,} but there are {rows:,} samples; lower it")


class Macro:
    """Level over the embeddings of the component."""

    def needs(self, config: IndexConfig, ask: Ask) -> None:
        """Read the component's embeddings."""
        corpus = ask.corpus()
        check(config.macro, corpus.rows if corpus.there else None)
        options = config.encoding | {"components": (config.component,)}
        ask.stage("embeddings", "embed", options)
        neighbours.count_engine(ask)

    def make(self, job: Job[IndexConfig]) -> Indexed:
        """Return the incidence of the clusters, with the centroids as a file."""
        place = job.inputs["embeddings"].path
        ids, vectors = core_vectors.read_component(place, job.config.component)
        rows = _with_text(job)
        clusters, figures = macro(vectors if rows is None else vectors[rows], job.config.macro)
        if rows is not None:
            assignment = np.full(len(vectors), -1, np.int32)
            assignment[rows] = clusters.assignment
            clusters = replace(clusters, assignment=assignment)
        return Indexed(
            incidence_of(clusters),
            ids,
            kinds_table(clusters, vectors, ids),
            result=figures,
            run=clusters.on.facts(),
            files={"centroids.npy": clusters.centroids},
        )


def _with_text(job: Job[IndexConfig]) -> Ints | None:
    """Return the rows that have a text, of a component that not all have; None of the others."""
    component = job.config.component
    if component in corpora.COMPONENTS:
        return None
    texts = corpora.read(job.corpus, [component])[component]
    rows = np.flatnonzero(pc.not_equal(pc.utf8_trim_whitespace(texts), "").to_numpy())
    k = job.config.macro.k or 1
    if len(rows) < k:
        raise DataError(
            f"index: {len(rows):,} of {len(texts):,} samples have a text of the component "
            f"{component}, too few for {k:,} clusters; lower macro.k or take another component"
        )
    return rows


def macro(vectors: Vectors, options: MacroOptions) -> tuple[Clusters, dict[str, object]]:
    """Cluster unit vectors as `options` say.

    Parameters
    ----------
    vectors : float32 array, shape (n, d)
        Unit length.

    Returns
    -------
    clusters : Clusters
    figures : dict
        `method`, `clusters_asked`, `mean_cosine` (of samples to their centroid), and for hdbscan
        `noise_samples`; equal between equal runs.
    """
    figures: dict[str, object] = {"method": options.method}
    if options.method == "kmeans":
        k = options.k or default_k(len(vectors))
        figures["clusters_asked"] = k
        clusters = spherical_kmeans(
            vectors, k, options.seed, options.iterations, options.train_per_cluster
        )
    else:
        labels = hdbscan(
            vectors, options.min_cluster_size, options.reduce, options.dimensions, options.seed,
            options.method,
        )  # fmt: skip
        figures["noise_samples"] = int((labels < 0).sum())
        clusters = settle_noise(vectors, labels, options.noise)
    held = clusters.assignment >= 0
    figures["mean_cosine"] = round(float(_cosines(clusters, vectors)[held].mean()), 4)
    return clusters, figures


def incidence_of(clusters: Clusters) -> Incidence:
    """Return samples × clusters: one kind a sample, none where the assignment is -1."""
    held = clusters.assignment >= 0
    indptr = np.concatenate([[0], np.cumsum(held)]).astype(np.int64)
    indices = clusters.assignment[held].astype(np.int32)
    return Incidence(indptr, indices, np.ones(len(indices), np.int32), len(clusters.centroids))


def kinds_table(clusters: Clusters, vectors: Vectors, ids: pa.Array) -> pa.Table:
    """Return one row a cluster: `kind`, `samples`, and `examples`, the ids nearest its centroid."""
    cosines = _cosines(clusters, vectors)
    order = np.lexsort((-cosines, clusters.assignment))
    order = order[clusters.assignment[order] >= 0]
    k = len(clusters.centroids)
    sizes = np.bincount(clusters.assignment[order], minlength=k)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    examples = [
        ids.take(pa.array(order[low : min(low + _EXAMPLES, high)])).to_pylist()
        for low, high in itertools.pairwise(starts.tolist())
    ]
    return pa.table(
        {
            "kind": [f"cluster-{number:04d}" for number in range(k)],
            "samples": pa.array(sizes, pa.int64()),
            "examples": pa.array(examples, pa.list_(pa.string())),
        }
    )


def _cosines(clusters: Clusters, vectors: Vectors) -> npt.NDArray[np.float32]:
    """Return each row's cosine to its centroid (of rows without one: to the last)."""
    cosines = np.empty(len(vectors), np.float32)
    for start in range(0, len(vectors), 16_384):
        block = slice(start, start + 16_384)
        own = clusters.centroids[clusters.assignment[block]]
        cosines[block] = np.einsum("nd,nd->n", vectors[block], own)
    return cosines
