"""All that one page tells, as one JSON value: of a subset, of two, of a study."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from sft_diversity.core import lineage
from sft_diversity.core.corpus import COMPONENTS
from sft_diversity.core.folder import read_manifest
from sft_diversity.core.lineage import Found
from sft_diversity.reporting import answers, portrait, reading, samples, study
from sft_diversity.reporting.config import ReportConfig
from sft_diversity.reporting.layout import draw_map
from sft_diversity.reporting.reading import SourceCorpus, Subset, open_kinds, open_subset

Page = dict[str, Any]


def of_one(place: Path, found: Found, measures: Page | None, config: ReportConfig) -> Page:
    """Return the portrait of a subset or corpus."""
    subset, pool = open_subset(place), SourceCorpus(found)
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
        "sources": portrait.source_facts(subset, pool),
        "lengths": portrait.length_facts(subset, pool),
        "kinds": [portrait.kind_facts(made, subset, pool) for made in _first(opened, strategy)],
        "map": _map({subset.name: subset}, pool, strategy, config),
        "samples": samples.sample_groups(subset, pool, own, config),
        "measures": measures,
        "lineage": _lineage([subset], pool),
    }


def of_two(first: Path, second: Path, found: Found, measures: Page | None, config: ReportConfig
        ) -> Page:  # fmt: skip
    """Return the comparison of two subsets."""
    sides, pool = (open_subset(first), open_subset(second)), SourceCorpus(found)
    names = [side.name for side in sides]
    if names[0] == names[1]:
        names = [f"{side.place.resolve().parent.name}/{side.name}" for side in sides]
    strategies = [str(side.manifest["config"].get("strategy", "")) for side in sides]
    opened = {name: open_kinds(name, at) for name, at in found.indexes.items()}
    lead = next((s for s in reversed(strategies) if s in opened), "")
    lengths = [portrait.length_facts(side, pool) for side in sides]
    return {
        "kind": "comparison",
        "title": config.title or f"{names[0]} and {names[1]}",
        "names": names,
        "rows": [len(side.ids) for side in sides],
        "pool": pool.size,
        "overlap": samples.overlap(*sides),
        "by_chance": samples.overlap_by_chance(*sides, pool),
        "figures": samples.plain_figures(*(side.manifest for side in sides)),
        "sources": study.source_shift(*(portrait.source_facts(side, pool) for side in sides)),
        "lengths": {part: [side[part] for side in lengths] for part in COMPONENTS},
        "kinds": [samples.kinds_of_two(made, *sides, pool) for made in _first(opened, lead)],
        "map": _map(dict(zip(names, sides, strict=True)), pool, lead or strategies[1], config),
        "samples": samples.pair_groups(*sides, config),
        "measures": measures,
        "lineage": _lineage(sides, pool),
    }


def of_study(place: Path, found: Found, config: ReportConfig) -> Page:
    """Return a study."""
    rows = study.study_results(place)
    fit = reading.json_of(place / "fit.json")
    pool = SourceCorpus(found)
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
        "cells": study.cell_figures(rows),
        "failures": reading.lines_of(place / "failures.jsonl"),
        "metric_values": study.metric_values(reading.csv_rows(place / "metrics.csv"), regime),
        "changes": study.dial_changes(shown, opened, pool, few),
        "map": _map(opened, pool, "", config),
        "samples": study.gather_samples(shown, opened, pool, few),
        "answers": answers.answers_to_read(place, *study.answering(rows, shown), few),
        "race": reading.json_of(place / "race.json"),
        "time": answers.run_times(place, rows),
        "training": study.training_curves(place, shown),
        "lineage": ([made_by(place.resolve().name, made)] if made else [])
        + _lineage(list(opened.values()), pool),
    }


def _manifest(place: Path) -> dict[str, Any] | None:
    return read_manifest(place) if (place / "manifest.json").is_file() else None


def _first(opened: dict[str, Any], strategy: str) -> list[Any]:
    """Return the incidences, that of `strategy` first."""
    return [opened[name] for name in sorted(opened, key=lambda name: (name != strategy, name))]


def _map(
    subsets: dict[str, Subset], pool: SourceCorpus, strategy: str, config: ReportConfig
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


def _lineage(subsets: Sequence[Subset], pool: SourceCorpus) -> list[dict[str, Any]]:
    """Return what made the data sets, then what made their corpus, the last stage first."""
    told = [made_by(subset.name, subset.manifest) for subset in subsets]
    before = stages_before(subsets[0].manifest) if subsets else []
    if pool.found.corpus is not None and all(s.place != pool.found.corpus for s in subsets):
        manifest = read_manifest(pool.found.corpus)
        told.append(made_by(pool.found.corpus.resolve().name, manifest))
        before = before[1:]
    return told + before


def made_by(name: str, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return what made a folder, from its manifest; nothing that differs between equal runs."""
    command, config = _again(name, manifest)
    return {
        "name": name,
        "stage": manifest["stage"],
        "version": manifest.get("version"),
        "key": manifest.get("key"),
        "digest": manifest.get("digest"),
        "inputs": dict(manifest.get("inputs", {})),
        "seeds": dict(manifest.get("seeds", {})),
        "rows": dict(manifest.get("rows", {})),
        "command": command,
        "config": config,
    }


def stages_before(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what made the corpus of a data set, as its manifest tells it, the last stage first."""
    return [made_by("CORPUS", one) for one in lineage.corpora_of(manifest)[::-1]]


def _again(name: str, manifest: Mapping[str, Any]) -> tuple[str, str]:
    if manifest["stage"] == "study":
        config = yaml.safe_dump(manifest.get("config", {}), sort_keys=False, allow_unicode=True)
        return f"sftdiv study STUDY.yaml --out {shlex.quote(name)}", config
    return lineage.again(manifest, name)
