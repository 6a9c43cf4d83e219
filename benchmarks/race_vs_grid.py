"""A race against the whole grid: how often the same answer, at what share of the cost.

    python benchmarks/race_vs_grid.py

The real race over runs whose scores are known: simulated studies with effects of some standard
deviations of a draw and spreads that differ by cell; the 98 runs of the study in miniature, their
draws in random order; and the public runs (data/runs), a study for each model, pool and task, whose
arms are selection methods at five sizes, a run costing as much as its samples. The answer is which
arms are above random, and which is best; the grid's is that of the same test at one look at all
runs. Regret is by how much the true mean of what a race would take is below that of what the grid
would take, in standard deviations of a draw (0 for random), where the truth is known. Intervals are
Wilson's, 95 %; orders of one set of records are no independent studies, and theirs are too narrow.
Writes benchmarks/results/race_vs_grid.json.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import study_null
from scipy import stats

from sft_diversity.core import folder, machine, seeding
from sft_diversity.core.cells import RANDOM, Cell, Run
from sft_diversity.studies import cells
from sft_diversity.studies.config import StudyConfig
from sft_diversity.studies.looks import contrast, error_at
from sft_diversity.studies.race import Arm, Race, Ran

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results" / "race_vs_grid.json"
#: True differences from random, in standard deviations of a draw, by strategy and diversity.
EFFECTS: dict[str, Callable[[int, float], float]] = {
    "none": lambda strategy, at: 0.0,
    "one level, 4 sd": lambda strategy, at: 4.0 * (strategy == 0 and at == 100),
    "one level, 8 sd": lambda strategy, at: 8.0 * (strategy == 0 and at == 100),
    "low ends, -12 sd": lambda strategy, at: -12.0 * (1 - at / 100) ** 2 * (strategy < 2),
    "two levels, 8 and 6 sd": lambda strategy, at: (8.0, 6.0, 0.0)[min(strategy, 2)] * (at == 100),
}
Scores = Mapping[str, float]
Answer = tuple[frozenset[str], frozenset[str], frozenset[str]]


def answer_of(race: Race) -> Answer:
    """Return the arms above random, those below, and the best ones of each place."""
    above, below = (
        frozenset(name for name, one in race.standing.items() if one.status == status)
        for status in ("above", "below")
    )
    return above, below, frozenset(b[0].name for p in race.rivals if (b := race.best(p)))


def grid_answer(race: Race, scores: Scores) -> Answer:
    """Return the answer of all runs, looked at once."""
    every = [*race.arms.values(), *race.rivals.values()]
    drawn = {arm.name: _draws(arm, scores) for arm in every}
    above: set[str] = set()
    below: set[str] = set()
    best: set[str] = set()
    regimes = [arm.cell.regime for arm in race.arms.values()]
    for place, rival in race.rivals.items():
        own = [arm for arm in race.arms.values() if arm.place == place]
        here = {arm.name: drawn[arm.name] for arm in [*own, rival]}
        full = {name: len(draws) for name, draws in here.items()}
        top = []
        for arm in own:
            found = contrast(here, full, arm.name, rival.name)
            rate = error_at(1, 1, regimes.count(arm.cell.regime), race.sure)
            if found is not None and abs(found.difference) > found.reach(rate):
                (above if found.difference > 0 else below).add(arm.name)
                top += [(float(np.mean(here[arm.name])), arm.name)] * (found.difference > 0)
        best |= {max(top)[1]} if top else set()
    return frozenset(above), frozenset(below), frozenset(best)


def _draws(arm: Arm, scores: Scores) -> list[float]:
    return [math.fsum(scores[run.name] for run in own) / len(own) for own in arm.draws]


def compared(
    study: StudyConfig, runs: Sequence[Run], scores: Scores, cost: Callable[[Run], float]
) -> tuple[Answer, Answer, float, int]:
    """Race over runs; return its answer, the grid's, the share of the cost, and the arms."""
    race = Race(study, runs, {}, cost)
    made: list[Run] = []

    def do(asked: Sequence[Run]) -> dict[str, Ran]:
        made.extend(asked)
        return {run.name: Ran(scores[run.name], cost(run)) for run in asked}

    race.run(do, lambda _: None)
    every = [*race.arms.values(), *race.rivals.values()]
    grid = [run for arm in every for own in arm.draws for run in own]
    whole = sum(map(cost, [*grid, *(run for run in runs if run.cell is None)]))
    return answer_of(race), grid_answer(race, scores), sum(map(cost, made)) / whole, len(race.arms)


def summary(found: Sequence[tuple[Answer, Answer, float, int]]) -> dict[str, Any]:
    """Return how often a race and the grid agree, and the mean share of the cost."""
    shares = np.array([share for _, _, share, _ in found])
    arms = sum(n for *_, n in found)
    unlike = sum(len(a[0] ^ b[0] | a[1] ^ b[1]) for a, b, *_ in found)
    return {
        "studies": len(found),
        "same_above_and_best": _share([(a[0], a[2]) == (b[0], b[2]) for a, b, *_ in found]),
        "same_best": _share([a[2] == b[2] for a, b, *_ in found]),
        "same_of_every_arm": _share([a == b for a, b, *_ in found]),
        "arms_alike": round(1 - unlike / arms, 4),
        "grid_finds_some_above": round(float(np.mean([bool(b[0]) for _, b, *_ in found])), 4),
        "race_finds_what_grid_does_not": _share([bool(a[0] - b[0]) for a, b, *_ in found]),
        "share_of_cost": [
            round(float(q), 3) for q in (shares.mean(), *np.quantile(shares, [0.1, 0.9]))
        ],
    }


def _share(held: Sequence[bool]) -> list[float]:
    """Return a share with Wilson's interval."""
    found = stats.binomtest(sum(held), len(held)).proportion_ci(method="wilson")
    return [round(float(one), 4) for one in (np.mean(held), found.low, found.high)]


# ---- simulated


def simulated(
    layout: study_null.Layout, effect: str, times: int, budget: float | None
) -> dict[str, Any]:
    """Return how races do over simulated studies; `budget` is a share of the grid's cost."""
    study = study_null.study_of(layout)
    runs = cells.runs(study)
    grid = [run for run in runs if run.train_seed == 0]
    if budget is not None:
        study = study.model_copy(update={"budget": budget * len(grid) / 3600})
    rng = seeding.generator(0, "race-vs-grid", effect, *layout[:4])
    order = {name: i for i, name in enumerate(study.grid["strategy"])}
    truth = {
        run.cell.group: EFFECTS[effect](order[run.cell.strategy], run.cell.diversity)
        for run in runs
        if run.cell and run.cell.diversity is not None
    }
    found, regret = [], []
    for _ in range(times):
        drawn = study_null.draws_of(layout, runs)
        scores = study_null.noise(runs, drawn, "uneven", rng)
        scores = {
            run.name: scores[run.name] + (truth.get(run.cell.group, 0.0) if run.cell else 0.0)
            for run in runs
        }
        found.append(compared(study, runs, scores, lambda run: 1.0))
        race, whole = (max((truth[n] for n in a[2]), default=0.0) for a in found[-1][:2])
        regret.append(whole - race)
    told = {"effect": effect, **layout._asdict(), "budget_of_grid": budget}
    return told | summary(found) | {"mean_regret_sd": round(float(np.mean(regret)), 3)}


# ---- records


def reordered(runs: Sequence[Run], scores: Scores, rng: np.random.Generator) -> dict[str, float]:
    """Return the scores with the draws of every cell in another order."""
    groups: dict[str, list[str]] = {}
    for run in runs:
        groups.setdefault(run.cell.group if run.cell else "", []).append(run.name)
    found = {}
    for names in groups.values():
        for name, place in zip(names, rng.permutation(len(names)), strict=True):
            found[name] = scores[names[place]]
    return found


def miniature(times: int) -> Iterator[dict[str, Any]]:
    """Yield how races do over the records of the study in miniature, a regime each."""
    table = pl.read_csv(ROOT / "docs/experiments/miniature/results.csv")
    table = table.filter((pl.col("strategy") != "base") & (pl.col("train_seed") == 0))
    for regime in ("A", "B"):
        rows = table.filter(pl.col("regime") == regime).to_dicts()
        runs = [Run(Cell.of(row)) for row in rows]
        scores = {run.name: row["score"] for run, row in zip(runs, rows, strict=True)}
        rng = seeding.generator(0, "race-vs-grid", "miniature", regime)
        study = study_null.study_of(study_null.LAYOUTS[0])
        found = [
            compared(study, runs, reordered(runs, scores, rng), lambda run: 1.0)
            for _ in range(times)
        ]
        yield {"records": "docs/experiments/miniature", "regime": regime} | summary(found)


def public(times: int) -> dict[str, Any]:
    """Return how races do over the public runs: methods at five sizes, against random."""
    table = pl.read_csv(ROOT / "data/runs/targeted_selection.csv")
    table = table.filter(pl.col("method") != "base").with_columns(
        pl.col("method").replace("Random", RANDOM)
    )
    study = study_null.study_of(study_null.LAYOUTS[0])
    found = []
    for key, own in table.group_by("pool", "model", "task", maintain_order=True):
        rows = own.to_dicts()
        runs = [Run(Cell("B", r["method"], r["samples"], None, r["seed"])) for r in rows]
        scores = {run.name: row["score"] for run, row in zip(runs, rows, strict=True)}
        rng = seeding.generator(0, "race-vs-grid", *map(str, key))
        for _ in range(times):
            mixed = reordered(runs, scores, rng)
            found.append(compared(study, runs, mixed, _samples))
    return {"records": "data/runs"} | summary(found)


def _samples(run: Run) -> float:
    return float(run.cell.size if run.cell else 0)


def main() -> None:
    """Race, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=200)
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args()
    start, rows = time.process_time(), []
    layouts = (study_null.Layout(4, 3, 3, 5), study_null.Layout(4, 5, 3, 5))
    for layout in layouts:
        for effect in EFFECTS:
            for budget in (None, 0.5):
                rows.append(simulated(layout, effect, asked.studies, budget))
                print(rows[-1], flush=True)
    records = [*miniature(asked.studies), public(max(asked.studies // 40, 1))]
    print(*records, sep="\n", flush=True)
    report = {
        "benchmark": "race_vs_grid",
        "command": "python benchmarks/race_vs_grid.py",
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine.measured_on(),
        "cpu_s": round(time.process_time() - start),
        "simulated": rows,
        "records": records,
    }
    asked.out.write_text(folder.dump_json(report), "utf-8")


if __name__ == "__main__":
    main()
