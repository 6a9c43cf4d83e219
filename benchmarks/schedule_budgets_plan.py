"""Which runs `schedule_budgets.py` makes: cells, rates, seeds, and the choice of the rate."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sft_diversity.training import optimizers, schedules

TOKENS = {"100 %": 40_000, "25 %": 10_000}  # response tokens read
SCHEDULES: dict[str, tuple[schedules.Kind, float]] = {
    "UBA 0.5": ("uba", 0.5),
    "UBA 1": ("uba", 1.0),
    "cosine": ("cosine", 2.0),
    "UBA 5": ("uba", 5.0),
    "linear": ("linear", 2.0),
    "WSD": ("wsd", 2.0),
}
FIRST_RATES: dict[optimizers.Name, tuple[float, float, float]] = {
    "adamw": (2.5e-3, 5e-3, 1e-2),
    "lion": (1e-3, 2e-3, 4e-3),
}
SHIFTS = 2  # further rates, a factor of two apart, while the best is the first or the last
SEEDS, MORE_SEEDS = (0, 1, 2), (3, 4)


class Job(NamedTuple):
    """A run; `rate` is a peak learning rate."""

    optimizer: optimizers.Name
    budget: str
    schedule: str
    rate: float
    seed: int


def cells() -> Iterator[tuple[optimizers.Name, str, str]]:
    """Return all (optimizer, budget, schedule), the small budget first."""
    for budget in reversed(TOKENS):
        for optimizer in FIRST_RATES:
            for schedule in SCHEDULES:
                yield optimizer, budget, schedule


def tried(cell: tuple[str, str, str], done: dict[Job, dict[str, Any]]) -> list[float]:
    """Return the rates a cell was run with under the first seed, in order."""
    return sorted(job.rate for job in done if job[:3] == cell and job.seed == SEEDS[0])


def beyond(rates: list[float], best: float) -> list[float]:
    """Return the next rate outside `rates` if the best is the first or the last of them."""
    if len(rates) >= len(FIRST_RATES["adamw"]) + SHIFTS:
        return []
    return [best / 2] * (best == rates[0]) + [best * 2] * (best == rates[-1])


def chosen(cell: tuple[str, str, str], done: dict[Job, dict[str, Any]]) -> float:
    """Return the rate of lowest mean validation loss among those with all of `SEEDS`."""
    rates = {job.rate for job in done if job[:3] == cell}
    losses = {
        rate: [done[job]["valid"] for seed in SEEDS if (job := Job(*cell, rate, seed)) in done]  # type: ignore[arg-type]
        for rate in rates
    }
    most = max(map(len, losses.values()))
    full = {rate: np.mean(loss) for rate, loss in losses.items() if len(loss) == most}
    return min(full, key=lambda rate: full[rate])


def next_jobs(done: dict[Job, dict[str, Any]]) -> list[Job]:
    """Return what is to be run next.

    Rates with one seed; three seeds of the best two; of a further rate where the best is now at an
    edge; two more seeds of the best.
    """
    stages: list[list[Job]] = [[], [], [], [], []]
    for cell in cells():
        rates, first = tried(cell, done), FIRST_RATES[cell[0]]
        stages[0] += [Job(*cell, rate, SEEDS[0]) for rate in first]
        if not set(first) <= set(rates):
            continue
        losses = {rate: done[Job(*cell, rate, SEEDS[0])]["valid"] for rate in rates}
        order = sorted(rates, key=lambda rate: losses[rate])
        stages[0] += [Job(*cell, rate, SEEDS[0]) for rate in beyond(rates, order[0])]
        stages[1] += [Job(*cell, order[0], seed) for seed in SEEDS[1:]]
        stages[2] += [Job(*cell, order[1], seed) for seed in SEEDS[1:]]
        best = chosen(cell, done)
        # The first seed last: it is what makes the rate one that was tried.
        stages[3] += [Job(*cell, r, seed) for r in beyond(rates, best) for seed in SEEDS[::-1]]
        stages[4] += [Job(*cell, best, seed) for seed in MORE_SEEDS]
    for stage in stages:
        left = [job for job in stage if job not in done]
        if left:
            return left
    return []


def read_runs(path: Path) -> dict[Job, dict[str, Any]]:
    """Return the finished runs; a lost loss counts as infinite."""
    runs: dict[Job, dict[str, Any]] = {}
    for line in path.read_text("utf-8").splitlines() if path.exists() else ():
        run = json.loads(line)
        job = Job(*(run[name] for name in Job._fields))
        runs[job] = run | {k: math.inf for k in ("valid", "test") if run[k] is None}
    return runs
