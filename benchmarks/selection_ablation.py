"""What the choices behind the dial change: eligibility, order of peeling, fill.

    python benchmarks/selection_ablation.py --corpus reference/corpus --work reference/work

The study (arXiv 2505.24768) does not publish how it prunes to k kinds and samples from what is
left. Ours: a sample is eligible while all its kinds survive, the rarest kind is dropped first, and
kind-aware draws fill. Each is replaced in turn, everything else kept, at seven levels of each
variant's own dial. Writes benchmarks/results/selection_ablation.json and
docs/experiments/selection-ablation-tables.md; how they read is in selection-ablation.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr
from select_grid import DIVERSITIES, ROOT, open_all

from sft_diversity.core import folder, machine, vectors
from sft_diversity.core.incidence import Incidence
from sft_diversity.core.kernels import Rows
from sft_diversity.core.numbers import evenness
from sft_diversity.core.seeding import generator
from sft_diversity.selection.choices import describe_picks
from sft_diversity.selection.dial import Dial
from sft_diversity.selection.draws import draw_by_kind
from sft_diversity.selection.engine import choose_at
from sft_diversity.selection.greedy import cover
from sft_diversity.selection.peeling import Peeling, peel
from sft_diversity.selection.problem import Problem

STRATEGIES = ("micro-response", "micro-instruction", "meso-response", "macro-response")
MEASURES = ("kinds", "evenness", "entropy_bits", "distance", "response_tokens")


def main() -> None:
    """Run every variant on every strategy and size; write figures and tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--embeddings", type=Path, help="output of embed with both components")
    parser.add_argument("--sizes", type=int, nargs="+", default=[2_000, 10_000])
    parser.add_argument("--tokenizer")
    asked = parser.parse_args()
    pools = open_all(asked.corpus, asked.work, asked.tokenizer)
    rows: list[dict[str, Any]] = []
    for strategy in STRATEGIES:
        made = pools[strategy].kinds
        component = strategy.split("-")[1]
        points = None
        if asked.embeddings:
            points = vectors.read_component(asked.embeddings / component, component)[1]
        for size in asked.sizes:
            for variant, diversity, picks in chosen(made, size):
                held = np.bincount(made.take(picks).indices, minlength=made.n_kinds)
                told = describe_picks(picks, pools[strategy].tokens, component)  # type: ignore[arg-type]
                row = {"strategy": strategy, "size": size, "variant": variant}
                row |= {"diversity": diversity, "kinds": int((held > 0).sum())}
                row |= {"evenness": round(evenness(held), 4), **told}
                if points is not None:
                    mean = points[picks].mean(axis=0)
                    row["distance"] = round(1 - float(mean @ mean), 4)
                rows.append(row)
            print(strategy, size, flush=True)
    report = {"benchmark": "selection_ablation", "machine": machine.measured_on(), "cells": rows}
    place = ROOT / "benchmarks/results/selection_ablation.json"
    place.write_text(folder.dump_json(report), "utf-8")
    (ROOT / "docs/experiments/selection-ablation-tables.md").write_text(tables(rows), "utf-8")


def chosen(made: Incidence, size: int) -> Iterator[tuple[str, int, Rows]]:
    """Yield variant, level and picks."""
    ours = peel(made)
    lengths = np.diff(made.indptr)
    order = generator(0, "ablation").permutation(made.n_kinds)
    peelings = {
        "all, rarest kind": ours,
        "all, fullest sample": by_times(made, lengths.max() - lengths),
        "all, random kind": by_times(made, earliest(made, order)),
    }
    for name, peeling in peelings.items():
        dial = Dial(peeling, size)
        for fill in ("draws", "balance", "uniform") if peeling is ours else ("draws",):
            for diversity in DIVERSITIES:
                picks = choose_at(dial, diversity, fill=fill, seed=0).rows
                yield f"{name}, {fill}", diversity, picks
    for diversity, picks in by_any(made, size):
        yield "any, rarest kind, draws", diversity, picks


def earliest(made: Incidence, order: Any) -> Any:
    """Return for every sample when the first of its kinds goes, kinds going in `order`."""
    place = np.empty(made.n_kinds, np.int64)
    place[order] = np.arange(made.n_kinds)
    times = np.zeros(made.n_samples, np.int64)
    some = np.diff(made.indptr) > 0
    times[some] = np.minimum.reduceat(place[made.indices], made.indptr[:-1][some])
    return times


def by_times(made: Incidence, times: Any) -> Peeling:
    """Return the peeling in which samples leave by `times`, a kind with its last sample."""
    some = np.diff(made.indptr) > 0
    of_entry = np.repeat(times, np.diff(made.indptr))
    kind_times = np.full(made.n_kinds, -1, np.int64)
    np.maximum.at(kind_times, made.indices, of_entry)
    steps = np.unique(kind_times[kind_times >= 0])
    kind_left = np.where(kind_times >= 0, np.searchsorted(steps, kind_times) + 1, 0)
    sample_left = np.where(some, np.searchsorted(steps, times) + 1, 0)
    after = np.arange(len(steps) + 1)
    kinds_after = (kind_left[:, None] > after[None, :]).sum(axis=0)
    pools = np.array([(sample_left > step).sum() for step in after])
    return Peeling(
        made, sample_left.astype(np.int32), kind_left.astype(np.int32), kinds_after, pools
    )  # fmt: skip


def by_any(made: Incidence, size: int) -> Iterator[tuple[int, Rows]]:
    """Yield picks where a sample is eligible while any of its kinds is among the k left."""
    degrees = np.bincount(made.indices, minlength=made.n_kinds)
    frequent = np.argsort(-degrees, kind="stable")
    rank = np.empty(made.n_kinds, np.int64)
    rank[frequent] = np.arange(made.n_kinds)
    total = int((degrees > 0).sum())

    def cut(k: int) -> tuple[Incidence, Rows]:
        keep = rank[made.indices] < k
        of_row = np.repeat(np.arange(made.n_samples), np.diff(made.indptr))
        sizes = np.bincount(of_row[keep], minlength=made.n_samples)
        indptr = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        part = Incidence(indptr, made.indices[keep], made.counts[keep], made.n_kinds)
        return part, np.flatnonzero(sizes).astype(np.int64)

    def reached(step: int) -> bool:
        part, rows = cut(total - step)
        problem = Problem(part, rows, size)
        return problem.kinds(cover(problem)) == total - step

    low = total - next(k for k in range(1, total + 1) if len(cut(k)[1]) >= size)
    high, fails = low, -1
    while high - fails > 1:  # nearly monotone in k
        middle = (high + fails) // 2
        high, fails = (middle, fails) if reached(middle) else (high, middle)
    for diversity in DIVERSITIES:
        step = round(low + diversity / 100 * (high - low))
        part, rows = cut(total - step)
        yield diversity, draw_by_kind(Problem(part, rows, size), generator(0, "select", "draws"))


def tables(rows: list[dict[str, Any]]) -> str:
    """Return each measure over the dial, a row a variant, with its rank correlation."""
    lines = ["# What the choices behind the dial change: tables", ""]
    lines.append("By `benchmarks/selection_ablation.py`; ρ is Spearman's over the seven levels.")
    for strategy in STRATEGIES:
        for size in sorted({row["size"] for row in rows}):
            lines += ["", f"## {strategy}, N = {size:,}"]
            cells = [r for r in rows if r["strategy"] == strategy and r["size"] == size]
            for measure in MEASURES:
                if measure not in cells[0]:
                    continue
                head = " | ".join(f"{d} %" for d in DIVERSITIES)
                lines += ["", f"| {measure} | {head} | ρ |", "| --- |" + " --: |" * 8]
                for variant in dict.fromkeys(row["variant"] for row in cells):
                    found = [row[measure] for row in cells if row["variant"] == variant]
                    shown = " | ".join(f"{value:,.4g}" for value in found)
                    steady = len(set(found)) > 1
                    rho = f"{spearmanr(DIVERSITIES, found)[0]:.2f}" if steady else "-"
                    lines.append(f"| {variant} | {shown} | {rho} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
