"""How often a study without any effect says that there is one: the whole grid, and a race.

    python benchmarks/study_null.py

Every run of a study has a score of noise alone, as real studies have it: draws and training seeds,
few draws, and spreads that differ by cell (`uneven`: log-normal, as much as in the public runs and
in the study in miniature; `dial`: three times as wide at 0 % as at 100 %; `answers`: the other way
round, as where only diverse data teach answers of any length), or scores that are counts of
instructions kept, two of which are the spread of a draw (`coarse`) or 0.7 of one, so that draws
often score the same (`coarser`). In lay-outs that are `alike` all draws of 100 % are one. The table
goes through the real `fit_table`, the runs through the real race; a study counts once for each kind
of claim that its sentences make (`verdict_rates.claimed` reads them and holds them against the list
of claims). Of a race, its own sentences are read as well, and the verdict on the runs that it made.
A count is held against 5 % by a one-sided binomial test at 1 %, corrected over lay-outs and noises.
Writes benchmarks/results/study_null.json.
"""

from __future__ import annotations

import argparse
import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import verdict_rates

from sft_diversity.core import config as configs
from sft_diversity.core import folder, machine, seeding
from sft_diversity.core.cells import Run
from sft_diversity.fitting.config import FitConfig
from sft_diversity.fitting.table import fit_table
from sft_diversity.studies import cells, collect, race_words
from sft_diversity.studies.config import StudyConfig
from sft_diversity.studies.race import Race, Ran

RESULTS = Path(__file__).parent / "results" / "study_null.json"
UNEVEN = 0.55  # standard deviation of the logarithm of a cell's spread
SEEDS = 0.6  # spread over training seeds, of that over draws with their training
PROMPTS = 150  # instructions that a coarse score counts
CONFIG = FitConfig(draws=200)
RACED = FitConfig(draws=200, confidence=0.975)  # as `study` fits what a race has looked at
HOWS = ("above", "below")
NOISES = ("even", "uneven", "dial", "answers", "coarse", "coarser")
KEPT = {"coarse": 2.0, "coarser": 0.7}  # instructions that are the spread of a draw


class Layout(NamedTuple):
    """The form of a study."""

    levels: int
    draws: int
    strategies: int
    random: int
    alike: bool = False  # all draws of 100 % pick the same samples


LAYOUTS = (
    Layout(2, 3, 2, 3),
    Layout(3, 2, 2, 3),
    Layout(3, 3, 2, 5),
    Layout(4, 3, 3, 5),
    Layout(4, 5, 3, 5),
    Layout(2, 3, 2, 5, alike=True),
    Layout(3, 3, 2, 5, alike=True),
)


def study_of(layout: Layout) -> StudyConfig:
    """Return a study of this form, its last training-noise cell included."""
    dial = np.linspace(0, 100, layout.levels).round().tolist()
    given = {
        "corpus": "none",
        "grid": {
            "strategy": list(verdict_rates.NAMES[: layout.strategies]),
            "size": [1000],
            "diversity": dial,
            "seed": list(range(layout.draws)),
        },
        "regimes": ["B"],
        "baselines": {"random": layout.random, "random_common": 0},
        "noise": {"strategy": verdict_rates.NAMES[0], "diversity": 100, "train_seeds": 3},
    }
    return configs.build(StudyConfig, given, "benchmark")


def draws_of(layout: Layout, runs: Sequence[Run]) -> dict[str, int]:
    """Return the draw that each cell counts as."""
    return {
        run.cell.name: 0 if layout.alike and run.cell.diversity == 100 else run.cell.seed
        for run in runs
        if run.cell is not None
    }


def noise(
    runs: Sequence[Run], draw_of: dict[str, int], kind: str, rng: np.random.Generator
) -> dict[str, float]:
    """Return a score of noise for every run; runs of one draw, trained alike, have the same."""
    groups = list(dict.fromkeys(run.cell.group if run.cell else "" for run in runs))
    spread = dict(zip(groups, np.exp(UNEVEN * rng.normal(size=len(groups))), strict=True))
    drawn: dict[tuple[str, int], float] = {}
    trained: dict[tuple[str, int, int], float] = {}
    found = {}
    for run in runs:
        if run.cell is None:
            found[run.name] = 0.0
            continue
        wide = 1.0
        if kind == "uneven":
            wide = spread[run.cell.group]
        elif kind == "dial" and run.cell.diversity is not None:
            wide = 3 - run.cell.diversity / 50
        elif kind == "answers" and run.cell.diversity is not None:
            wide = 1 + run.cell.diversity / 50
        draw = run.cell.group, draw_of[run.cell.name]
        own = drawn.setdefault(draw, float(rng.normal()))
        again = trained.setdefault((*draw, run.train_seed), float(rng.normal()))
        found[run.name] = float(wide * (np.sqrt(1 - SEEDS**2) * own + SEEDS * again))
    if kind in KEPT:
        found = {n: round(30 + KEPT[kind] * value) / PROMPTS * 100 for n, value in found.items()}
    return found


def table(runs: Sequence[Run], scores: dict[str, float], draw_of: dict[str, int]) -> pl.DataFrame:
    """Return the runs as `results.csv` has them."""
    rows = [
        collect.cell_columns(run.cell) | {"train_seed": run.train_seed, "score": scores[run.name]}
        | {"draw": draw_of[run.cell.name] if run.cell else None}
        for run in runs
    ]  # fmt: skip
    return pl.DataFrame(rows, infer_schema_length=None)


def raced(
    study: StudyConfig, runs: Sequence[Run], scores: dict[str, float], draw_of: dict[str, int]
) -> Race:
    """Return a race over runs that take a second each, with all the hours it wants."""
    race = Race(study, runs, draw_of, lambda run: 1.0)
    race.run(lambda asked: {run.name: Ran(scores[run.name], 1.0) for run in asked}, lambda _: None)
    return race


def race_claims(race: Race) -> set[str]:
    """Return what the sentences of a race claim; refuse those that say other than its list."""
    found = race_words.outcome(race)
    text = "\n".join(found["sentences"])
    said = {
        f"race: {how}" for how in ("above", "below") if re.search(rf"[:;] {how} random: ", text)
    }
    if said != {f"race: {a['status']}" for a in found["arms"] if a["status"] in ("above", "below")}:
        raise AssertionError(found["sentences"])
    if said:
        said.add("race: any")
    if re.search(r"the best is .*, told from all others", text):
        said.add("race: best told")
    return said


def studies(layout: Layout, kind: str, seed: int) -> Iterator[tuple[StudyConfig, list[Run], Any]]:
    """Yield studies without an effect, each with a score a run."""
    study = study_of(layout)
    runs = cells.runs(study)
    rng = seeding.generator(seed, "study-null", kind, *layout)
    while True:
        yield study, runs, noise(runs, draws_of(layout, runs), kind, rng)


def counts(layout: Layout, kind: str, times: int) -> tuple[Counter[str], float]:
    """Return in how many studies each kind of claim was made, and a race's share of the runs."""
    found: Counter[str] = Counter()
    share = 0.0
    for (study, runs, scores), _ in zip(studies(layout, kind, 0), range(times), strict=False):
        draw_of = draws_of(layout, runs)
        found.update(verdict_rates.claimed(fit_table(table(runs, scores, draw_of), CONFIG)))
        race = raced(study, runs, scores, draw_of)
        found.update(race_claims(race))
        made = {name for one in race.rounds for name in one["runs"]}
        frame = table([run for run in runs if run.name in made], scores, draw_of)
        after = verdict_rates.claimed(fit_table(frame, RACED))
        found.update(f"after a race: {claim}" for claim in after)
        share += len(made) / len(runs) / times
    return found, share


def main() -> None:
    """Simulate, test, write; exit 1 if a kind of claim is above its rate."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=500)
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args()
    start, rows, above = time.process_time(), [], []
    with verdict_rates.claims_alone():
        for kind in NOISES:
            for layout in LAYOUTS:
                found, share = counts(layout, kind, asked.studies)
                rows.append({
                    "noise": kind, **layout._asdict(), "race_share_of_runs": round(share, 3),
                    "claims": {k: round(n / asked.studies, 4) for k, n in sorted(found.items())},
                })  # fmt: skip
                tests = len(NOISES) * len(LAYOUTS)
                above += [
                    f"{claim}, {kind}, {tuple(layout)}: {n} of {asked.studies}"
                    for claim, n in sorted(found.items())
                    if verdict_rates.excess(n, asked.studies) * tests < verdict_rates.SIGNIFICANCE
                ]
                print(kind, tuple(layout), rows[-1]["claims"], flush=True)
    report = {
        "benchmark": "study_null",
        "command": "python benchmarks/study_null.py",
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine.measured_on(),
        "cpu_s": round(time.process_time() - start),
        "studies": asked.studies,
        "stated_rate": verdict_rates.RATE,
        "rows": rows,
        "highest": _highest(rows),
        "above_rate": above,
    }
    asked.out.write_text(folder.dump_json(report), "utf-8")
    print("above the stated rate:", "; ".join(above) or "none")
    raise SystemExit(bool(above))


def _highest(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    kinds = sorted({claim for row in rows for claim in row["claims"]})
    return {kind: max(row["claims"].get(kind, 0.0) for row in rows) for kind in kinds}


if __name__ == "__main__":
    main()
