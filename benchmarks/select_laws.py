"""What the dial promises, on a real corpus: every strategy, size, fill and level.

    python benchmarks/select_laws.py --corpus CORPUS --work WORK --name reference

For each strategy and N: 100 % holds at least 98 % of plain greedy's kinds and no fewer than the
best of twenty random draws; kinds are those aimed at, never fall along the dial and rise wherever
targets differ; N is exact; no bound is passed. Writes
benchmarks/results/select_laws_NAME.json.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from select_grid import DIVERSITIES, ROOT, open_all

from sft_diversity.core import folder, machine
from sft_diversity.selection.config import Fill
from sft_diversity.selection.dial import Dial
from sft_diversity.selection.engine import choose_at
from sft_diversity.selection.greedy import cover
from sft_diversity.selection.grid import STRATEGIES
from sft_diversity.selection.peeling import Peeling, peel

SIZES = (25, 50, 100, 200, 500, 1_000, 2_000, 10_000)
FILLS: tuple[Fill, ...] = ("draws", "balance")
RANDOM = 20


def main() -> None:
    """Check every cell, write what was found, print what does not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--tokenizer")
    asked = parser.parse_args()
    pools = open_all(asked.corpus, asked.work, asked.tokenizer)
    cells = []
    for strategy in STRATEGIES:
        peeling = peel(pools[strategy].kinds)
        for size in SIZES:
            if size <= peeling.eligible:
                cells.append({"strategy": strategy} | checked(peeling, size))
                print(json.dumps(cells[-1]), flush=True)
    report = {
        "benchmark": "select_laws",
        "corpus_rows": next(iter(pools.values())).n_samples,
        "machine": machine.measured_on(),
        "broken": [f"{c['strategy']} {c['size']}: {f}" for c in cells for f in c["broken"]],
        "cells": cells,
    }
    place = ROOT / f"benchmarks/results/select_laws_{asked.name}.json"
    place.write_text(folder.dump_json(report), "utf-8")
    print(json.dumps(report["broken"], indent=1))


def checked(peeling: Peeling, size: int) -> dict[str, Any]:
    """Return the range of one dial, what it is held against, and the promises that it breaks."""
    started = time.process_time()
    dial = Dial(peeling, size)
    dial.place(100)
    seconds = time.process_time() - started
    everyone = dial.problem(0)
    plain = everyone.kinds(cover(everyone))
    rng = np.random.default_rng(0)
    draws = [everyone.kinds(rng.permutation(everyone.rows)[:size]) for _ in range(RANDOM)]
    broken, slowest = [], 0.0
    if dial.k_max < 0.98 * plain:
        broken.append("100 % holds less than 98 % of plain greedy's kinds")
    if dial.k_max < max(draws):
        broken.append("100 % holds fewer kinds than a random draw")
    if not dial.k_max <= dial.bound:
        broken.append("the bound is passed")
    for fill in FILLS:
        faults, longest = over_the_dial(dial, fill)
        broken += faults
        slowest = max(slowest, longest)
    return {
        "size": size,
        "k_min": dial.k_min,
        "k_max": dial.k_max,
        "coverage_bound": dial.bound,
        "plain_greedy": plain,
        "best_random_of_20": max(draws),
        "random_kinds": round(dial.chance.mean, 1),
        "random_percent": round(dial.percent(dial.chance.mean) or 0.0, 1),
        "dial_s": round(seconds, 3),
        "slowest_subset_s": round(slowest, 3),
        "broken": broken,
    }


def over_the_dial(dial: Dial, fill: Fill) -> tuple[list[str], float]:
    """Return what a fill breaks over the levels, and the longest processor seconds of a subset."""
    broken, slowest, reached = [], 0.0, []
    for diversity in DIVERSITIES:
        started = time.process_time()
        chosen = choose_at(dial, diversity, fill=fill, seed=1)
        slowest = max(slowest, time.process_time() - started)
        held = dial.problem(0).kinds(chosen.rows)
        reached.append((chosen.place.target, held))
        if len(np.unique(chosen.rows)) != dial.size:
            broken.append(f"{fill} {diversity} %: not N distinct samples")
        if not held == chosen.kinds_covered == chosen.place.target:
            broken.append(f"{fill} {diversity} %: kinds are not those aimed at")
    for (target, held), (next_target, next_held) in itertools.pairwise(reached):
        if next_held < held or (next_target > target and next_held <= held):
            broken.append(f"{fill}: kinds do not rise from {held:,} to {next_held:,}")
    return broken, slowest


if __name__ == "__main__":
    main()
