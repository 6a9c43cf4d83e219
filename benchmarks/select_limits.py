"""Constraints over the dial on a real corpus: are they held, and what do they leave of the range?

    python benchmarks/select_limits.py --corpus reference/corpus --work reference/work

Response-micro at every level of the dial, free and under each constraint and some of them joined.
Checks every subset: exactly N distinct samples, mean response length within 2 % and each decile bin
within 1 % under a length match, the token budget within 0.5 %, quotas exact, rows that must be in,
rows that must not, kinds rising with the dial. Writes benchmarks/results/select_limits.json and
docs/selection-limits.md.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from select_grid import DIVERSITIES, ROOT, open_all

from sft_diversity.core import corpus as corpora
from sft_diversity.core import folder, machine
from sft_diversity.selection.choices import choose_rows
from sft_diversity.selection.config import SelectConfig
from sft_diversity.selection.pool import Pool

RESULTS = ROOT / "benchmarks/results/select_limits.json"
PAGE = ROOT / "docs/selection-limits.md"


def main() -> None:
    """Select every cell, check it, write figures and the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--table", action="store_true", help="write the page of the last results")
    parser.add_argument("--sizes", type=int, nargs="+", default=[2_000, 10_000])
    parser.add_argument("--strategy", default="micro-response")
    parser.add_argument("--tokenizer")
    asked = parser.parse_args()
    if asked.table:
        last = json.loads(RESULTS.read_text("utf-8"))
        PAGE.write_text(table(last["strategy"], last["cells"]), "utf-8")
        return
    if asked.corpus is None or asked.work is None:
        parser.error("name --corpus and --work, or --table")
    pool = open_all(asked.corpus, asked.work, asked.tokenizer)[asked.strategy]
    sources = corpora.read(asked.corpus, ["source"])["source"].combine_chunks()
    names = sources.dictionary_encode()
    codes, labels = names.indices.to_numpy(), names.dictionary.to_pylist()
    rows: list[dict[str, Any]] = []
    for size in asked.sizes:
        for title, options in constraints(pool, size).items():
            rows += over_the_dial(pool, asked.strategy, size, title, options, codes, labels)
    faults = [
        f"{r['limits']} N={r['size']} {r['diversity']} %: {f}" for r in rows for f in r["faults"]
    ]
    report = {
        "benchmark": "select_limits",
        "strategy": asked.strategy,
        "corpus_rows": pool.n_samples,
        "machine": machine.measured_on(),
        "faults": faults,
        "cells": rows,
    }
    RESULTS.write_text(folder.dump_json(report), "utf-8")
    PAGE.write_text(table(asked.strategy, rows), "utf-8")
    print(json.dumps(faults, indent=1))


def constraints(pool: Pool, size: int) -> dict[str, dict[str, Any]]:
    """Return the options of each constraint by its title."""
    lengths = np.asarray(pool.tokens["response"].lengths)
    rng = np.random.default_rng(0)
    ids = pool.ids.take(rng.choice(pool.n_samples, size // 5, replace=False)).to_pylist()
    place = Path(tempfile.mkdtemp(prefix="select-limits-"))
    for name, part in (("in", ids[: size // 10]), ("out", ids[size // 10 :])):
        (place / f"{name}.txt").write_text("\n".join(part) + "\n", "utf-8")
    named = {"must_include": str(place / "in.txt"), "exclude": str(place / "out.txt")}
    budget = {"token_budget": round(float(lengths.mean()) * size)}
    return {
        "none": {},
        "match length": {"match_length": "eligible"},
        "token budget": budget,
        "quota on source": {"quota": "source=eligible"},
        "length and source": {"match_length": "eligible", "quota": "source=eligible"},
        "named in and out": named,
        "longer half": {"quality": "length", "quality_floor": 50.0},
        "all joined": {"match_length": "eligible", "quota": "source=eligible", **named},
    }


def over_the_dial(
    pool: Pool,
    strategy: str,
    size: int,
    title: str,
    options: dict[str, Any],
    codes: Any,
    labels: list[str],
) -> list[dict[str, Any]]:
    """Return the figures and faults of one constraint at every level."""
    rows: list[dict[str, Any]] = []
    for diversity in DIVERSITIES:
        config = SelectConfig(strategy=strategy, size=size, diversity=diversity, **options)
        started = time.perf_counter()
        picks, made = choose_rows(pool, config)
        seconds = time.perf_counter() - started
        row: dict[str, Any] = {
            "limits": title,
            "size": size,
            "diversity": diversity,
            "seconds": round(seconds, 3),
        }
        row |= {k: v for k, v in made.items() if k != "limits"}
        row["faults"] = faults_of(pool, config, picks, made, codes, labels)
        ranging = made["k_min"] < made["k_max"]
        if rows and ranging and made["kinds_covered"] <= rows[-1]["kinds_covered"]:
            row["faults"].append("kinds do not rise")
        if made["kinds_covered"] != made["kinds_target"]:
            row["faults"].append("kinds are not those aimed at")
        rows.append(row)
    return rows


def faults_of(
    pool: Pool,
    config: SelectConfig,
    picks: Any,
    made: dict[str, Any],
    codes: Any,
    labels: list[str],
) -> list[str]:
    """Return what the constraints asked for and the picks do not hold."""
    faults = []
    lengths = np.asarray(pool.tokens["response"].lengths)
    told = made.get("limits", {})
    if len(set(picks.tolist())) != config.size:
        faults.append("not N distinct samples")
    if config.match_length:
        eligible = np.asarray(pool.peeling(config).pool(0))
        want, got = lengths[eligible], lengths[picks]
        if abs(got.mean() / want.mean() - 1) > 0.02:
            faults.append(f"mean length off by {got.mean() / want.mean() - 1:+.2%}")
        edges = told["length_bins"]["up_to"]
        shares = [
            np.bincount(np.searchsorted(edges, x), minlength=10) / len(x) for x in (want, got)
        ]
        worst = np.abs(shares[0] - shares[1]).max()
        if worst > 0.01:
            faults.append(f"a length bin is off by {worst:.2%}")
    if config.token_budget and abs(lengths[picks].sum() / config.token_budget - 1) > 0.005:
        faults.append(f"{lengths[picks].sum():,} tokens")
    if config.quota:
        got = dict(zip(labels, np.bincount(codes[picks], minlength=len(labels)), strict=True))
        if any(got[name] != number for name, number in told["quota"]["source"].items()):
            faults.append("a quota is not met")
    ids = set(pool.ids.take(picks).to_pylist())
    if config.must_include and not set(Path(config.must_include).read_text().split()) <= ids:
        faults.append("a sample to include is missing")
    if config.exclude and set(Path(config.exclude).read_text().split()) & ids:
        faults.append("an excluded sample is in")
    return faults


def table(strategy: str, rows: list[dict[str, Any]]) -> str:
    """Return the figures as Markdown."""
    lines = [
        "# Constraints over the dial",
        "",
        f"`{strategy}` on the reference corpus, by `benchmarks/select_limits.py`, which checks",
        "every constraint in every subset. Mean tokens are of responses; the seconds of 0 % hold",
        "the search for the dial's ends. Named in and out: N/10 random samples each; longer half:",
        "`--quality length --quality-floor 50`. Random at: where as many random samples within the",
        "same constraints stand on the dial. What each flag does is in [limits](limits.md).",
        "`--table` writes this page anew from `benchmarks/results/select_limits.json`.",
    ]
    for size in sorted({row["size"] for row in rows}):
        lines += ["", f"## N = {size:,}", ""]
        lines.append(
            "| limits | % | k min–max | random at | kinds | pool | evenness | mean tokens "
            "| seconds |"
        )
        lines.append("| --- | --: | --: | --: | --: | --: | --: | --: | --: |")
        for row in rows:
            if row["size"] != size:
                continue
            lines.append(
                f"| {row['limits']} | {row['diversity']} | {row['k_min']:,}–{row['k_max']:,} "
                f"| {row['random_percent']:.0f} % | {row['kinds_covered']:,} | {row['pool']:,} "
                f"| {row['evenness']:.3f} "
                f"| {row['response_tokens']:.1f} | {row['seconds']:.2f} |"
            )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
