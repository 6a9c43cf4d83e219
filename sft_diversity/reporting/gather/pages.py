"""All that one page tells, as one JSON value: of a subset, of two, of a study."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sft_diversity.core.corpus import COMPONENTS
from sft_diversity.core.folder import read_manifest
from sft_diversity.reporting.config import ReportConfig
from sft_diversity.reporting.gather import compare, lineage, portrait, samples, study, tables
from sft_diversity.reporting.gather.layout import draw_map
from sft_diversity.reporting.gather.reading import Pool, Subset, open_kinds, open_subset
from sft_diversity.reporting.locate import Found

Page = dict[str, Any]


def one(place: Path, found: Found, measures: Page | None, config: ReportConfig) -> Page:
    """Return the portrait of a subset or corpus."""
    subset, pool = open_subset(place), Pool(found)
    strategy = str(subset.manifest["config"].get("strategy", ""))
    opened = {name: open_kinds(name, at) for name, at in found.indexes.items()}
    own = opened.get(strategy) or next(iter(opened.values()), None)
    return {
        "kind": "subset" if subset.manifest["stage"] == "select" else "corpus",
        "title": config.title or subset.name,
        "name": subset.name,
        "rows": len(subset.ids),
        "pool": pool.size,
        "config": subset.manifest["config"],
        "result": subset.manifest["result"],
        "sources": portrait.sources(subset, pool),
        "lengths": portrait.lengths(subset, pool),
        "kinds": [portrait.kinds(made, subset, pool) for made in _first(opened, strategy)],
        "map": _map({subset.name: subset}, pool, strategy, config),
        "samples": samples.groups(subset, pool, own, config),
        "measures": measures,
        "lineage": _lineage([subset], pool),
    }


def two(first: Path, second: Path, found: Found, measures: Page | None, config: ReportConfig
        ) -> Page:  # fmt: skip
    """Return the comparison of two subsets."""
    sides, pool = (open_subset(first), open_subset(second)), Pool(found)
    names = [side.name for side in sides]
    if names[0] == names[1]:
        names = [f"{side.place.resolve().parent.name}/{side.name}" for side in sides]
    strategies = [str(side.manifest["config"].get("strategy", "")) for side in sides]
    opened = {name: open_kinds(name, at) for name, at in found.indexes.items()}
    lead = next((s for s in reversed(strategies) if s in opened), "")
    lengths = [portrait.lengths(side, pool) for side in sides]
    return {
        "kind": "comparison",
        "title": config.title or f"{names[0]} and {names[1]}",
        "names": names,
        "rows": [len(side.ids) for side in sides],
        "pool": pool.size,
        "overlap": compare.overlap(*sides),
        "by_chance": compare.chance(*sides, pool),
        "figures": compare.figures(*(side.manifest for side in sides)),
        "sources": study._sources(*(portrait.sources(side, pool) for side in sides)),
        "lengths": {part: [side[part] for side in lengths] for part in COMPONENTS},
        "kinds": [compare.kinds(made, *sides, pool) for made in _first(opened, lead)],
        "map": _map(dict(zip(names, sides, strict=True)), pool, lead or strategies[1], config),
        "samples": compare.groups(*sides, config),
        "measures": measures,
        "lineage": _lineage(sides, pool),
    }


def many(place: Path, found: Found, config: ReportConfig) -> Page:
    """Return a study."""
    rows = study.results(place)
    fit = tables.json_of(place / "fit.json")
    pool = Pool(found)
    regime = study.main_regime(rows)
    shown = study.firsts(rows, regime)
    opened = study.subsets_of(place, shown)
    few = config.model_copy(update={"samples": (config.samples + 1) // 2})
    made = _manifest(place)
    return {
        "kind": "study",
        "title": config.title or place.resolve().name,
        "name": place.resolve().name,
        "regime": regime,
        "fit": fit,
        "runs": rows,
        "cells": study.cells(rows),
        "failures": tables.lines_of(place / "failures.jsonl"),
        "metric_values": study.metric_values(tables.rows(place / "metrics.csv"), regime),
        "changes": study.changes(shown, opened, pool, few),
        "map": _map(opened, pool, "", config),
        "samples": study.gather_samples(shown, opened, pool, few),
        "training": study.training(place, shown),
        "lineage": ([lineage.lineage(place.resolve().name, made)] if made else [])
        + _lineage(list(opened.values()), pool),
    }


def _manifest(place: Path) -> dict[str, Any] | None:
    return read_manifest(place) if (place / "manifest.json").is_file() else None


def _first(opened: dict[str, Any], strategy: str) -> list[Any]:
    """Return the incidences, that of `strategy` first."""
    return [opened[name] for name in sorted(opened, key=lambda name: (name != strategy, name))]


def _map(
    subsets: dict[str, Subset], pool: Pool, strategy: str, config: ReportConfig
) -> Page | None:
    component = config.component or (
        "response" if strategy.endswith("-response") else "instruction"
    )
    embedded = pool.found.embeddings.get(component)
    if config.layout == "none" or embedded is None or pool.found.corpus is None or not subsets:
        return None
    picked = {name: subset.ids for name, subset in subsets.items()}

    def texts(rows: np.ndarray[Any, np.dtype[np.int64]]) -> list[str]:
        return [sample[component] for sample in pool.texts(rows)]

    return draw_map(embedded, component, picked, texts, config)


def _lineage(subsets: Sequence[Subset], pool: Pool) -> list[dict[str, Any]]:
    """Return what made the data sets, then what made their corpus, the last stage first."""
    told = [lineage.lineage(subset.name, subset.manifest) for subset in subsets]
    before = lineage.stages_before(subsets[0].manifest) if subsets else []
    if pool.found.corpus is not None and all(s.place != pool.found.corpus for s in subsets):
        manifest = read_manifest(pool.found.corpus)
        told.append(lineage.lineage(pool.found.corpus.resolve().name, manifest))
        before = before[1:]
    return told + before
