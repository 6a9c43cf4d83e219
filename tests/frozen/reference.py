"""What is picked of the reference corpus must not change either: 42 subsets and some more.

    python -m tests.frozen.reference --sources DIR --work DIR [--write]

`DIR` of `--sources` has the published files that configs/ingest/reference-117k.yaml names. Ingests
them, indexes both components at the micro and meso level through the command line, and compares a
digest of each incidence and of each subset with `reference.json`; exits with 1 where any differs.
`--write` writes the file anew, and what selecting took to benchmarks/results (twice: the first run
compiles).

A subset is digested as its row numbers in pick order. Embeddings differ from processor to processor
in their last digits, so the macro incidences are read from `clusters.npz`: a label for each sample
in the order of ids, made once of hashed TF-IDF (2¹⁶ features), 64 singular vectors and spherical
k-means with k = round(√n). They stand for topic clusters and are no better than that.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sft_diversity.core import corpus as corpora
from sft_diversity.core import incidence, machine
from sft_diversity.core.incidence import Incidence
from sft_diversity.selection.config import Fill
from sft_diversity.selection.dial import Dial
from sft_diversity.selection.engine import choose_at
from sft_diversity.selection.peeling import peel
from sft_diversity.selection.problem import FREE, PickLimits
from tests.frozen.recording import ROOT, digest, figures, of_json

HERE = Path(__file__).parent
FROZEN = HERE / "reference.json"
SECONDS = ROOT / "benchmarks/results/select_reference.json"
COMPONENTS = ("instruction", "response")
LEVELS = (0, 17, 33, 50, 67, 83, 100)
FIGURES = ("k_min", "k_max", "kinds_target", "kinds_covered", "coverage_bound")
BITS = ("low_bits", "tilt_bits", "high_bits", "target_bits", "entropy_bits", "entropy_bound")
Step = tuple[str, Any, float]  # name, what is frozen, seconds
#: Max per kind: a little above the smallest with which 10,000 samples remain.
CAPS = {
    "macro-instruction": 32, "macro-response": 32, "meso-instruction": 4, "meso-response": 4,
    "micro-instruction": 4, "micro-response": 5,
}  # fmt: skip


def prepare(sources: Path, work: Path) -> tuple[Path, dict[str, Incidence]]:
    """Make, or find, the corpus and its six incidences, by strategy."""
    place = work / "corpus"
    config = ROOT / "configs/ingest/reference-117k.yaml"
    figures("ingest", "--config", config, "--root", sources, "--out", place)
    options = work / "options.yaml"
    options.write_text("meso: {merge: none}\n")
    labels = np.load(HERE / "clusters.npz")
    made = {f"macro-{name}": of_labels(labels[name].astype(np.int32)) for name in COMPONENTS}
    for strategy in (f"{level}-{name}" for level in ("meso", "micro") for name in COMPONENTS):
        out = work / "index" / strategy
        common = ("--config", options, "--work", work / "work", "--out", out)
        figures("index", place, "--strategy", strategy, *common)
        made[strategy] = incidence.load(out)
    return place, made


def of_labels(labels: Any) -> Incidence:
    """Return the incidence of samples that hold one kind each, shape (n,)."""
    n = len(labels)
    return Incidence(np.arange(n + 1), labels, np.ones(n, np.int32), int(labels.max()) + 1)


def record(place: Path, made: dict[str, Incidence], work: Path) -> Iterator[Step]:
    """Yield the name, digest and seconds of the corpus, each incidence and each subset."""
    ids = corpora.read(place, ["id"])["id"].combine_chunks()
    yield "corpus", digest(*(part.as_py().encode() for part in ids)), 0.0
    for strategy, source in made.items():
        arrays = (source.indptr, source.indices, source.counts)
        yield strategy, digest(*(np.asarray(a).astype(np.int64).tobytes() for a in arrays)), 0.0
        yield from by_kinds(strategy, source)
    for component in COMPONENTS:
        started = time.perf_counter()
        found = by_entropy(place, f"micro-{component}", ids, work)
        yield f"micro-{component} 10000 entropy 50", found, time.perf_counter() - started


def by_kinds(strategy: str, source: Incidence) -> Iterator[Step]:
    """Yield the subsets of a strategy; the first of a size or cap bears its range."""
    peeling = peel(source)
    sizes = (10_000, 500) if strategy.startswith("micro") else (10_000,)
    asked: list[tuple[str, int, Fill, int, PickLimits]]
    asked = [(f"{size} draws {p}", size, "draws", p, FREE) for size in sizes for p in LEVELS]
    asked += [
        ("10000 balance 67", 10_000, "balance", 67, FREE),
        ("10000 uniform 50", 10_000, "uniform", 50, FREE),
        (f"10000 cap {CAPS[strategy]} 50", 10_000, "draws", 50, PickLimits(cap=CAPS[strategy])),
    ]
    dials: dict[tuple[int, int], Dial] = {}
    for name, size, fill, percent, limits in asked:
        started = time.perf_counter()
        key = (size, limits.cap)
        if key not in dials:
            dials[key] = Dial(peeling, size, limits=limits)
        picked = choose_at(dials[key], percent, fill=fill)
        said = {name: value for name, value in picked.figures().items() if name in FIGURES}
        found = said | {"rows": digest(picked.rows.astype(np.int64).tobytes())}
        yield f"{strategy} {name}", found, time.perf_counter() - started


def by_entropy(place: Path, strategy: str, ids: Any, work: Path) -> dict[str, Any]:
    """Return the figures and rows of a subset by the entropy objective."""
    out = work / "subsets" / strategy
    options = ("--objective", "entropy", "--size", 10_000, "--diversity", 50, "--out", out)
    said = figures("select", place, "--strategy", strategy, *options, "--work", work / "work")
    picked = pq.read_table(out / "samples", columns=["id"])["id"]
    rows = pc.index_in(picked, value_set=ids).to_numpy()
    return {"figures": of_json([said[k] for k in BITS]), "rows": digest(rows.astype(np.int64))}


def main() -> None:
    """Compare, or write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sources", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    place, incidences = prepare(asked.sources, asked.work)
    found: dict[str, Any] = {}
    seconds: dict[str, float] = {}
    for name, value, took in record(place, incidences, asked.work):
        found[name], seconds[name] = value, took
    of_42 = {name: s for name, s in seconds.items() if " 10000 draws " in name}
    print(f"{len(found)} digests; the 42 took {sum(of_42.values()):.2f} s, peeling aside")
    if asked.write:
        FROZEN.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
        told = {
            "benchmark": "select_reference",
            "machine": machine.measured_on(),
            "seconds_for_42": round(sum(of_42.values()), 3),
            "cells": {name: round(took, 4) for name, took in seconds.items() if took},
        }
        SECONDS.write_text(json.dumps(told, indent=1) + "\n", "utf-8")
        return
    frozen = json.loads(FROZEN.read_text("utf-8"))
    differ = [name for name in frozen | found if frozen.get(name) != found.get(name)]
    for name in differ:
        print(f"{name}: {frozen.get(name)} became {found.get(name)}")
    sys.exit(1 if differ else 0)


if __name__ == "__main__":
    main()
