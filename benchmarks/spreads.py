"""Four t tests of cells against random where cells spread unequally: false claims, and power.

    python benchmarks/spreads.py

A table has k cells of n draws each and some random subsets; the logarithm of a cell's spread varies
by 0.55 (public runs 0.51, the study in miniature 0.62). Without an effect a claim is any cell told
from random at 5 %, Bonferroni over cells; with one, the first cell stands six of its own standard
deviations above random and is to be told. The tests: one spread pooled over all cells; Welch's; the
spread of a cell drawn towards the pooled one with d0 degrees of freedom, d0 by the moments of the
table's own log variances (Smyth 2004, section 6.2) or fixed, which is `core.spreads`.
Writes benchmarks/results/spreads.json.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from scipy import optimize, special, stats

from sft_diversity.core import folder, machine, seeding, spreads
from sft_diversity.core.numbers import Floats

RESULTS = Path(__file__).parent / "results" / "spreads.json"
UNEVEN, RISE, LEVEL = 0.55, 6.0, 0.05
LAYOUTS = ((12, 3, 5), (12, 2, 3), (12, 5, 5))

Cells = Sequence[Floats]
#: Squared standard error of each cell's difference from the first cell, and degrees of freedom.
Test = Callable[[Cells], list[tuple[float, float]]]


def pooled(cells: Cells) -> list[tuple[float, float]]:
    """One spread for all."""
    parts = [spreads.squares(cell) for cell in cells]
    df = sum(own for _, own in parts)
    variance = sum(square for square, _ in parts) / df
    return [(variance * (1 / len(cells[0]) + 1 / len(cell)), df) for cell in cells[1:]]


def welch(cells: Cells) -> list[tuple[float, float]]:
    """Return errors of each cell's own spread."""
    shares = [(float(cell.var(ddof=1)) / len(cell), len(cell) - 1.0) for cell in cells]
    (first, df), found = shares[0], []
    for share, own in shares[1:]:
        total = first + share
        found.append((total, total**2 / (first**2 / df + share**2 / own)))
    return found


def _towards(cells: Cells, prior: float, variance: float, most: float) -> list[tuple[float, float]]:
    parts: list[tuple[float, float]] = []
    for cell in cells:
        square, own = spreads.squares(cell)
        parts.append(((prior * variance + square) / (prior + own) / len(cell), prior + own))
    (first, df), found = parts[0], []
    for share, beside in parts[1:]:
        total = first + share
        found.append((total, min(total**2 / (first**2 / df + share**2 / beside), most)))
    return found


def learnt(cells: Cells) -> list[tuple[float, float]]:
    """Return errors of spreads drawn together, by as much as the table's own differ."""
    square, own = np.array([spreads.squares(cell) for cell in cells]).T
    logs = np.log(square / own) - special.digamma(own / 2) + np.log(own / 2)
    beyond = logs.var(ddof=1) - special.polygamma(1, own / 2).mean()
    if beyond <= 0:
        return pooled(cells)
    half = optimize.brentq(lambda x: float(special.polygamma(1, x)) - beyond, 1e-3, 1e6)
    variance = math.exp(logs.mean() + float(special.digamma(half)) - math.log(half))
    return _towards(cells, 2 * half, variance, float(own.sum()))


def fixed(cells: Cells) -> list[tuple[float, float]]:
    """Return errors as `fit` has them."""
    pool = spreads.pool(cells)
    assert pool is not None
    own = [(pool.cell(cell), float(len(cell))) for cell in cells]
    return [(error**2, df) for error, df in (pool.error([own[0], one]) for one in own[1:])]


TESTS: dict[str, Test] = {"pooled": pooled, "welch": welch, "learnt": learnt, "fixed": fixed}


def claims(cells: Cells, test: Test) -> list[bool]:
    """Return for each cell but the first whether it is told from that one."""
    k = len(cells) - 1
    return [
        2 * stats.t.sf(abs(cell.mean() - cells[0].mean()) / math.sqrt(square), df) * k < LEVEL
        for cell, (square, df) in zip(cells[1:], test(cells), strict=True)
    ]


def shares(layout: tuple[int, int, int], tables: int, rise: float) -> dict[str, float]:
    """Return the share of tables with a claim (of the first cell where it rises), by test."""
    k, draws, random = layout
    rng = seeding.generator(0, "spreads", k, draws, random, f"{rise:g}")
    found = dict.fromkeys(TESTS, 0)
    for _ in range(tables):
        wide = np.exp(UNEVEN * rng.normal(size=k + 1))
        cells = [
            spread * rng.normal(size=n)
            for spread, n in zip(wide, [random] + [draws] * k, strict=True)
        ]
        cells[1] += rise * wide[1]
        for name, test in TESTS.items():
            told = claims(cells, test)
            found[name] += int(told[0] if rise else any(told))
    return {name: round(n / tables, 4) for name, n in found.items()}


def main() -> None:
    """Simulate and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tables", type=int, default=4_000)
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args()
    start, rows = time.process_time(), []
    for layout in LAYOUTS:
        row: dict[str, Any] = dict(zip(("cells", "draws", "random"), layout, strict=True))
        row |= {"false": shares(layout, asked.tables, 0.0)}
        row |= {"power": shares(layout, asked.tables // 2, RISE)}
        rows.append(row)
        print(row, flush=True)
    report = {
        "benchmark": "spreads", "command": "python benchmarks/spreads.py",
        "date": datetime.now(UTC).date().isoformat(), "machine": machine.measured_on(),
        "cpu_s": round(time.process_time() - start), "tables": asked.tables, "rows": rows,
    }  # fmt: skip
    asked.out.write_text(folder.dump_json(report), "utf-8")


if __name__ == "__main__":
    main()
