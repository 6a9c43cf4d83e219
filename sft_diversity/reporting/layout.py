"""A 2-D map of the corpus: a seeded sample laid out, subsets beside their nearest samples."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from sft_diversity.core import neighbours, seeding, vectors
from sft_diversity.core.corpus import rows_among
from sft_diversity.core.numbers import Floats, Ints
from sft_diversity.core.seeding import rows_drawn
from sft_diversity.core.vectors import Vectors
from sft_diversity.reporting.config import ReportConfig

SIDE = 1_000  # points are whole numbers in 0..SIDE
_REGIONS = 10
_PERPLEXITY = 30
_PRINCIPAL = 50  # components that t-SNE reads
_WORD = re.compile(r"[^\W\d_]{3,}")


def draw_map(
    embeddings: Path, component: str, picked: Mapping[str, pa.Array], texts: Any,
    config: ReportConfig,
) -> dict[str, Any]:  # fmt: skip
    """Return the map of a corpus with subsets on it.

    Parameters
    ----------
    embeddings : Path
        Output of `embed`.
    picked : mapping of name to ids
        Subsets of the embedded corpus.
    texts : callable
        From row numbers of the corpus to its texts, to name the regions.

    Returns
    -------
    dict
        `component`, `layout`, `corpus` and `drawn` (samples), `points` (flat x, y, ...), `subsets`
        (name, points, and share of its samples by region) and `regions` (words, x, y, share of
        the corpus).

    Notes
    -----
    Subsets' samples are drawn by seed and put beside the nearest corpus sample of the map, at a
    small random step, so that a subset's points do not move those of the corpus, nor of another.
    t-SNE (van der Maaten & Hinton 2008) of 2,500 points takes about 10 s on one core.
    """
    known = vectors.ids(embeddings, component)
    rows = rows_drawn(len(known), config.map_points, config.seed, "report", "map")
    anchors = vectors.take(embeddings, component, rows)
    flat = scaled(plane_of(anchors, config))
    region, centres = regions(flat, config.seed)
    step = spacing(flat)
    subsets: list[dict[str, Any]] = []
    own = {name: _own(ids, known, name, config) for name, ids in picked.items()}
    asked = np.unique(np.concatenate([*own.values(), np.empty(0, np.int64)]))
    vectors_of = vectors.take(embeddings, component, asked)  # one read for all
    nearby = neighbours.assign(vectors_of, anchors)
    for name, some in own.items():
        near = nearby[np.searchsorted(asked, some)]
        rng = seeding.generator(config.seed, "report", "jitter", name)
        at = flat[near] + rng.normal(0.0, step, (len(near), 2))
        subsets.append({
            "name": name, "points": whole_numbers(at), "drawn": len(near),
            "samples": len(picked[name]), "shares": _by_region(region[near], len(centres)),
        })  # fmt: skip
    words = name_regions(texts(rows), region, len(centres))
    by_region = _by_region(region, len(centres))
    order = sorted(range(len(centres)), key=lambda one: -by_region[one])
    for one in subsets:  # regions by size
        one["shares"] = [one["shares"][i] for i in order]
    return {
        "component": component,
        "layout": config.layout,
        "corpus": len(known),
        "drawn": len(rows),
        "points": whole_numbers(flat),
        "subsets": subsets,
        "regions": [
            {"words": words[i], "x": round(float(centres[i, 0])), "y": round(float(centres[i, 1])),
             "share": by_region[i]}
            for i in order
        ],
    }  # fmt: skip


def _own(ids: pa.Array, known: pa.Array, name: str, config: ReportConfig) -> Ints:
    rows = np.sort(rows_among(ids, known, "report", "the embeddings"))
    return rows[rows_drawn(len(rows), config.map_picks, config.seed, "report", "map picks", name)]


def plane_of(points: Vectors, config: ReportConfig) -> Floats:
    """Return a place in the plane for every vector, by the method of `config`."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    size = min(_PRINCIPAL, *points.shape)
    with threadpool_limits(1):  # sums in one order: equal runs give equal maps
        principal = PCA(size, svd_solver="full").fit_transform(points.astype(np.float64))
        if config.layout == "pca" or len(points) < 20:
            return np.hstack([principal, principal])[:, :2] if size < 2 else principal[:, :2]
        laid = TSNE(
            2, init="pca", perplexity=min(_PERPLEXITY, (len(points) - 1) / 4),
            random_state=config.seed % 2**32, max_iter=500, n_jobs=1,
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


def regions(points: Floats, seed: int) -> tuple[Ints, Floats]:
    """Return the region of every point, and where its name goes: its point nearest the middle."""
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    number = min(_REGIONS, max(1, len(points) // 50))
    with threadpool_limits(1):
        fitted = KMeans(number, n_init=4, random_state=seed % 2**32).fit(points)
    region = np.asarray(fitted.labels_).astype(np.int64)
    middles = []
    for one in range(number):
        inside = points[region == one]
        far = np.linalg.norm(inside - fitted.cluster_centers_[one], axis=1)
        middles.append(inside[far.argmin()])
    return region, np.array(middles)


def name_regions(texts: Sequence[str], region: Ints, number: int) -> list[list[str]]:
    """Return the three words that mark each region most.

    A word's mark is the share of the region's texts that hold it, times the logarithm of how much
    more frequent it is there than in all; ties go by the alphabet. Words of more than a sixth of
    all texts name nothing, unless there are no others.
    """
    held = [set(_WORD.findall(text[:2_000].lower())) for text in texts]
    everywhere = Counter(word for words in held for word in words)
    named = []
    for one in range(number):
        inside = [words for words, at in zip(held, region, strict=True) if at == one]
        here = Counter(word for words in inside for word in words)
        n = len(inside)
        marks = {
            word: count / n * np.log((count / n) / (everywhere[word] / len(held)))
            for word, count in here.items()
            if count > 1
        }
        rare = {word: mark for word, mark in marks.items() if everywhere[word] <= len(held) / 6}
        marks = rare or marks
        named.append(sorted(marks, key=lambda word: (-marks[word], word))[:3])
    return named


def _by_region(region: Ints, number: int) -> list[float]:
    counts = np.bincount(region, minlength=number)
    return [round(float(share), 4) for share in counts / max(1, counts.sum())]
