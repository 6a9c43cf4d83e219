"""All strategies over the dial from stored incidences: time, exactness, what each level reaches.

    python benchmarks/select_grid.py --corpus reference/corpus --work reference/work

For every size, 6 strategies × 7 diversities are selected and written; then one cell of each
strategy again (same bytes?) and with another seed (another set?); then both micro strategies with
the entropy objective. Writes benchmarks/results/select_grid.json and docs/selection-tables.md.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from sft_diversity.core import folder, incidence, machine
from sft_diversity.core.corpus import COMPONENTS
from sft_diversity.core.stage import Made
from sft_diversity.core.store import Store, corpus_at
from sft_diversity.core.tokens import TokenPass
from sft_diversity.selection.config import SelectConfig
from sft_diversity.selection.grid import STRATEGIES
from sft_diversity.selection.pool import Pool
from sft_diversity.stages import store

DIVERSITIES = (0, 17, 33, 50, 67, 83, 100)
ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Select every cell, check it, write figures and tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--sizes", type=int, nargs="+", default=[200, 2_000, 10_000])
    parser.add_argument("--tokenizer")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks/results")
    parser.add_argument("--tables", type=Path, default=ROOT / "docs/selection-tables.md")
    asked = parser.parse_args()
    kept = store(asked.work)
    corpus = corpus_at(asked.corpus)
    scratch = Path(tempfile.mkdtemp(prefix="select-grid-"))
    try:
        report = run(Cells(kept, corpus, asked.tokenizer, scratch), asked.sizes)
    finally:
        shutil.rmtree(scratch)
    report |= {"corpus_rows": corpus.rows, "machine": machine.measured_on()}
    asked.results.mkdir(exist_ok=True)
    (asked.results / "select_grid.json").write_text(folder.dump_json(report), "utf-8")
    asked.tables.write_text(tables(report), "utf-8")
    print(json.dumps(report["checks"], indent=1))


def open_all(corpus: Path, work: Path, tokenizer: str | None) -> dict[str, Pool]:
    """Return a pool a strategy, incidences made where they are missing."""
    kept, counted, shared = store(work), {"tokenizer": tokenizer}, dict[Any, Any]()
    passes = {
        name: TokenPass(kept.get("tokens", {"component": name, **counted}, corpus).path)
        for name in COMPONENTS
    }
    pools = {}
    for strategy in STRATEGIES:
        place = kept.get("index", {"strategy": strategy, **counted}, corpus).path
        manifest = folder.read_manifest(place)
        said = manifest["config"] | manifest["result"]
        held = incidence.load(place)
        pools[strategy] = Pool(corpus, passes, held, said, key=strategy, kept=shared)
    return pools


@dataclass(frozen=True)
class Cells:
    """Makes the subsets of a corpus, each in its own folder of `scratch`."""

    kept: Store
    corpus: Made
    tokenizer: str | None
    scratch: Path

    def config(self, **options: Any) -> SelectConfig:
        """Return the options of a cell."""
        return SelectConfig(tokenizer=self.tokenizer, **options)

    def cell(self, config: SelectConfig, name: str = "") -> dict[str, Any]:
        """Select and write one subset; return its figures, distinct ids and a hash of its bytes."""
        named = f"{config.strategy}-{config.objective}-{config.size}-{config.diversity:g}{name}"
        out = self.scratch / named
        started = time.perf_counter()
        self.kept.get("select", config, self.corpus, out=out)
        seconds = time.perf_counter() - started
        files = sorted((out / "samples").glob("*.parquet"))
        digest = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
        return {
            "strategy": config.strategy,
            "size": config.size,
            "diversity": config.diversity,
            "seconds": round(seconds, 3),
            "distinct": len(set(ids_of(out))),
            "sha256": digest,
            "figures": folder.read_manifest(out)["result"],
        }


def run(made: Cells, sizes: list[int]) -> dict[str, Any]:
    """Return the cells and what was checked over them."""
    made.kept.say = _hush
    started = time.perf_counter()
    for strategy in STRATEGIES:
        made.kept.prepare("select", made.config(strategy=strategy, size=1), made.corpus)
    making_s = time.perf_counter() - started
    cells, seconds = [], {}
    for size in sizes:
        started = time.perf_counter()
        for strategy in STRATEGIES:
            for diversity in DIVERSITIES:
                config = made.config(strategy=strategy, size=size, diversity=diversity)
                cells.append(made.cell(config))
        seconds[str(size)] = round(time.perf_counter() - started, 2)
    entropy = [
        made.cell(made.config(strategy=s, size=sizes[-1], diversity=d, objective="entropy"))
        for s in ("micro-instruction", "micro-response")
        for d in DIVERSITIES
    ]
    return {
        "seconds_for_42": seconds,
        "seconds_to_find_the_inputs": round(making_s, 2),
        "cells": cells,
        "entropy": entropy,
        "checks": checks(cells, entropy) | again(made, sizes),
    }


def _hush(line: str) -> None:
    """Say nothing."""


def ids_of(subset: Path) -> list[str]:
    """Return the ids of a subset in pick order."""
    files = sorted((subset / "samples").glob("*.parquet"))
    return [i for path in files for i in pq.read_table(path, columns=["id"])["id"].to_pylist()]


def checks(cells: list[dict[str, Any]], entropy: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what holds over all cells; a list names those for which it does not."""
    named = [(f"{c['strategy']} {c['size']:,} {c['diversity']:g} %", c) for c in cells]
    rising = [
        f"{a['strategy']} {a['size']:,} {a['diversity']:g} to {b['diversity']:g} %"
        for a, b in itertools.pairwise(cells)
        if (a["strategy"], a["size"]) == (b["strategy"], b["size"])
        and b["figures"]["kinds_covered"] < a["figures"]["kinds_covered"]
    ]
    bits = [(e["strategy"], e["figures"]["entropy_bits"]) for e in entropy]
    return {
        "not_exactly_n_distinct": [n for n, c in named if c["distinct"] != c["size"]],
        "kinds_off_their_target": [
            n for n, c in named if c["figures"]["kinds_covered"] != c["figures"]["kinds_target"]
        ],
        "covered_above_bound": [
            n for n, c in named if c["figures"]["kinds_covered"] > c["figures"]["coverage_bound"]
        ],
        "kinds_fall_on_the_dial": rising,
        "entropy_does_not_rise": [
            f"{a[0]} {a[1]:.4f} to {b[1]:.4f}"
            for a, b in itertools.pairwise(bits)
            if a[0] == b[0] and b[1] <= a[1]
        ],
    }


def again(made: Cells, sizes: list[int]) -> dict[str, Any]:
    """Return whether a repeated cell has equal bytes, and how far another seed's set overlaps."""
    differ, overlap = [], {}
    for strategy in STRATEGIES:
        one = made.config(strategy=strategy, size=sizes[-1], diversity=50)
        first, second = (made.cell(one, name) for name in ("-a", "-b"))
        if first["sha256"] != second["sha256"]:
            differ.append(strategy)
        other = one.model_copy(update={"seed": 1})
        made.cell(other, "-c")
        sets = [
            set(ids_of(made.scratch / f"{strategy}-kinds-{one.size}-50{name}"))
            for name in ("-a", "-c")
        ]
        overlap[strategy] = round(len(sets[0] & sets[1]) / one.size, 4)
    return {"repeat_differs": differ, "overlap_of_two_seeds_at_50_percent": overlap}


def tables(report: dict[str, Any]) -> str:
    """Return the tables of docs/selection-tables.md."""
    lines = [
        "# What the dial reaches on the reference corpus",
        "",
        "Made by `benchmarks/select_grid.py`; figures in `benchmarks/results/select_grid.json`.",
        f"{report['corpus_rows']:,} samples; 42 subsets of a size, written, took "
        + ", ".join(f"{s} s (N = {int(n):,})" for n, s in report["seconds_for_42"].items())
        + "; the first reads the corpus.",
        "",
        "Overlap of two seeds at 50 %: "
        + ", ".join(
            f"{name} {share:.0%}"
            for name, share in report["checks"]["overlap_of_two_seeds_at_50_percent"].items()
        )
        + ".",
    ]
    by_group: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for one in report["cells"]:
        by_group.setdefault((one["strategy"], one["size"]), []).append(one)
    for (strategy, size), group in by_group.items():
        first = group[0]["figures"]
        lines += [
            "",
            f"## {strategy}, N = {size:,}",
            "",
            f"{first['kinds_total']:,} kinds; {first['eligible']:,} samples eligible, "
            f"{first['no_kind']:,} hold none; from {first['k_min']:,} to {first['k_max']:,} kinds "
            f"held, where no {size:,} eligible samples hold more than "
            f"{first['coverage_bound']:,}. {_random(first, size)}",
            "",
            "| diversity | kinds | pool | free picks | evenness | entropy, bits | "
            "instr. tokens | resp. tokens | most from |",
            "| ---: |" + " ---: |" * 7 + " --- |",
        ]
        for one in group:
            lines.append(_row(one))
    size = report["entropy"][0]["size"]
    lines += ["", f"## Objective entropy, N = {size:,}", ""]
    for one in report["entropy"][:: len(DIVERSITIES)]:
        lines.append(f"{one['strategy']}: {_random(one['figures'], size)}")
    lines.append("")
    lines += [
        "| strategy | diversity | target, bits | reached | β | greedy picks | instr. tokens | "
        "resp. tokens |",
        "| --- |" + " ---: |" * 7,
    ]
    for one in report["entropy"]:
        f = one["figures"]
        missed = " (missed)" if f["target_missed"] else ""
        lines.append(
            f"| {one['strategy']} | {one['diversity']:g} | {f['target_bits']:.4f} | "
            f"{f['entropy_bits']:.4f}{missed} | {f['beta']:.3f} | "
            f"{f['greedy_picks']:,} | {f['instruction_tokens']:.0f} | {f['response_tokens']:.0f} |"
        )
    return "\n".join(lines) + "\n"


def _random(figures: dict[str, Any], size: int) -> str:
    """Say where random samples stand, in kinds or in bits."""
    place = figures["random_percent"]
    at = "the dial has no range" if place is None else f"**{place:.0f} %**"
    held = (
        f"{figures['random_bits']:.3f} bits"
        if "random_bits" in figures
        else f"{figures['random_kinds']:,.0f} kinds"
    )
    return f"A random {size:,} holds {held}: {at}."


def _row(one: dict[str, Any]) -> str:
    f = one["figures"]
    source, count = next(iter(f["sources"].items()))
    return (
        f"| {one['diversity']:g} | {f['kinds_covered']:,} | {f['pool']:,} | "
        f"{f['free_picks']:,} | {f['evenness']:.3f} | "
        f"{f['entropy_bits']:.3f} | {f['instruction_tokens']:.0f} | {f['response_tokens']:.0f} | "
        f"{source} {count / one['size']:.0%} |"
    )


if __name__ == "__main__":
    main()
