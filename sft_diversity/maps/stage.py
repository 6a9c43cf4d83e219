"""`map`: a place in the plane for every sample of a corpus, and regions with their words."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from sft_diversity.core import corpus as corpora
from sft_diversity.core import folder, incidence, neighbours, stopping, vectors
from sft_diversity.core.config import Config
from sft_diversity.core.corpus import Component
from sft_diversity.core.seeding import rows_drawn
from sft_diversity.core.stage import Ask, Job, Result, Stage
from sft_diversity.core.vectors import Vectors
from sft_diversity.maps.plane import (
    Layout,
    all_places,
    laid_out,
    scaled,
    vectors_of_kinds,
)
from sft_diversity.maps.regions import name_regions, regions, share_of_each

STAGE = "map"
TABLE = "map.parquet"

By = Literal["embeddings", "kinds"]


class LayoutOptions(Config):
    """How a map is laid out."""

    layout: Layout = Field(
        default="tsne",
        description="tsne (neighbours stay together; the last digits may differ between machines) "
        "or pca (linear, instant, blurred)",
    )
    landmarks: int = Field(
        default=3_000, ge=100, le=20_000,
        description="samples that are laid out; the others stand beside their nearest of these",
    )  # fmt: skip
    regions: int = Field(default=24, ge=1, le=200, description="regions that are named by words")
    seed: int = Field(default=0, ge=0, description="draws the landmarks")


class MapConfig(LayoutOptions):
    """What a map shows: samples near by the `by` that lie in the folder `place`."""

    by: By = Field(default="kinds", description="what samples are near by")
    component: Component = Field(default="response", description="whose text names regions")
    place: Path = Field(description="output of `index` or of `embed`, found by its contents")


def needs(config: MapConfig, ask: Ask) -> None:
    """Read the corpus, and what samples are near by."""
    ask.corpus()
    if config.by == "embeddings":
        ask.key("points", vectors.key(config.place, config.component))
    else:
        ask.key("points", folder.contents_key(folder.read_input(config.place, "index")))


def points_of(config: MapConfig) -> Vectors:
    """Return a unit vector for every sample, zeros for those that hold no kind."""
    if config.by == "kinds":
        return vectors_of_kinds(incidence.load(config.place), config.seed)
    return vectors.read_component(config.place, config.component)[1]


@stopping.at_once(STAGE)
def join(job: Job[MapConfig]) -> Result:
    """Write `map.parquet`: id, x, y in 0..1000, region; null for samples that hold no kind."""
    config, points = job.config, points_of(job.config)
    there = np.flatnonzero(np.einsum("nd,nd->n", points, points) > 0)
    held = points[there]
    chosen = rows_drawn(len(there), config.landmarks, config.seed, STAGE)
    anchors = held[chosen]
    flat = scaled(laid_out(anchors, config.layout, config.seed)) if len(there) else np.zeros((0, 2))
    places = all_places(held, anchors, flat, config.seed) if len(there) else flat
    region, centres = regions(flat, config.seed, config.regions) if len(there) else (chosen, flat)
    of_all = region[neighbours.assign(held, anchors)] if len(there) else chosen
    missing = np.ones(len(points), bool)
    missing[there] = False
    columns = {"id": corpora.ids(job.corpus)}
    for name, values, kind in (
        ("x", places[:, 0], pa.float32()),
        ("y", places[:, 1], pa.float32()),
        ("region", of_all, pa.int16()),
    ):
        filled = np.zeros(len(points))
        filled[there] = values
        columns[name] = pa.array(filled, mask=missing).cast(kind)
    job.write_table(TABLE, pa.table(columns))
    taken = corpora.take(job.corpus, there[chosen], [config.component])
    texts = taken[config.component].to_pylist()
    words, shares = name_regions(texts, region, len(centres)), share_of_each(of_all, len(centres))
    figures = {
        "by": config.by,
        "samples": len(points),
        "landmarks": len(anchors),
        "without_place": int(missing.sum()),
        "regions": [
            {"words": words[i], "x": round(float(x)), "y": round(float(y)), "share": shares[i]}
            for i, (x, y) in enumerate(centres)
        ],
    }
    rows = folder.rows_account(len(points), len(points), {})
    return Result(rows=rows, figures=figures, seeds={"seed": config.seed})


def _options(config: MapConfig) -> dict[str, Any]:
    return config.model_dump(mode="json", exclude={"place"})  # it counts by its contents


def _cost(config: MapConfig, ask: Ask) -> dict[str, Any]:
    rows = ask.inputs["corpus"].rows
    landmarks = min(config.landmarks, rows)
    seconds = 0.004 * landmarks * (config.layout == "tsne") + rows * landmarks * 2e-8
    return {"by": config.by, "seconds": round(seconds, 1), "bytes": rows * 60}


MAP = Stage(STAGE, 2, MapConfig, needs=needs, join=join, options=_options, cost=_cost)
