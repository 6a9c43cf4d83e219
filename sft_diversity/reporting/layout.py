"""A 2-D map of the corpus: a seeded sample laid out, subsets beside their nearest samples."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from sft_diversity.core import neighbours, seeding, vectors
from sft_diversity.core.corpus import rows_among
from sft_diversity.core.numbers import Ints
from sft_diversity.core.seeding import rows_drawn
from sft_diversity.maps.plane import laid_out, scaled, spacing, whole_numbers
from sft_diversity.maps.regions import name_regions, regions, share_of_each
from sft_diversity.reporting.config import ReportConfig

_REGIONS = 10


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
    layout: Any = config.layout
    flat = scaled(laid_out(anchors, layout, config.seed))
    region, centres = regions(flat, config.seed, _REGIONS)
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
            "samples": len(picked[name]), "shares": share_of_each(region[near], len(centres)),
        })  # fmt: skip
    words = name_regions(texts(rows), region, len(centres))
    by_region = share_of_each(region, len(centres))
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
