"""The verb `study`: subsets, then runs in processes of their own, then tables and the fit."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from sft_diversity.core import folder, lineage, locks, machine
from sft_diversity.core.cells import Cell, Run
from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.core.hashing import content_key
from sft_diversity.core.progress import clock, say
from sft_diversity.studies import cells as grid
from sft_diversity.studies import (
    collect,
    costs,
    plan,
    prepare,
    processes,
    race_words,
    runs,
    show,
)
from sft_diversity.studies.config import STAGE, StudyConfig, load_study
from sft_diversity.studies.costs import Cost
from sft_diversity.studies.race import Race, Ran
from sft_diversity.verbs.options import DryRun, Out
from sft_diversity.verbs.training import fit

VERSION = 3
RACE = "race.json"
Result = dict[str, Any]
#: Options that change where or how fast, but not what is made.
_NO_RESULT = {"corpus", "jobs", "budget", "sure"}


@dataclass(frozen=True)
class _Study:
    """A study at hand: its config, where it lies, its cells and runs."""

    config: StudyConfig
    place: Path
    work: Path
    cells: list[Cell]
    runs: list[Run]


def study(
    config: Annotated[str | Path, typer.Argument(help="YAML file of the grid; flags override it.")],
    *,
    out: Out,
    work: Annotated[
        str | Path | None,
        typer.Option(help="Folder for what is made on the way; default: in --out."),
    ] = None,
    run: Annotated[str | None, typer.Option(help="Do this run of a prepared study alone.")] = None,
    prepare_only: Annotated[
        bool, typer.Option("--prepare", help="Only make subsets and the table of costs.")
    ] = False,
    collect_only: Annotated[
        bool, typer.Option("--collect", help="Only collect what is finished.")
    ] = False,
    dry_run: DryRun = False,
    **options: Any,
) -> Result:
    """Make a grid of subsets, train and score a model on each, and fit what diversity pays.

    Parameters
    ----------
    config : path
        A YAML file; its keys, and `options` that override them, are those of `StudyConfig`.
    out : path
        Folder of the study; the same call goes on with what it holds.
    work : path, optional
        Work folder for passes, embeddings, incidences; default: in `out`.
    run : str, optional
        Do this one run of a prepared study and nothing else.
    prepare_only, collect_only : bool
        Only make what runs read; only collect what is finished.

    Returns
    -------
    dict
        `plan, cells, baselines, results, failures, missing, fit, out`.

    Raises
    ------
    UsageError
        If an option is wrong, or cells are not comparable.
    Interrupted
        If a signal came; the same call resumes.
    """
    asked, place = load_study(Path(config), options), Path(out)
    here = _Study(
        asked,
        place,
        Path(work) if work else place / "work",
        grid.cells(asked),
        grid.runs(asked),
    )
    if run is not None and not dry_run:
        with machine.torch_threads(asked.threads):  # as in the whole study
            return runs.one(place, run)
    if not collect_only:
        prepare.check_study(asked, place, here.work)
    if dry_run:
        return _planned(here)
    with locks.alone(place, STAGE):
        (place / prepare.BEGUN).mkdir(parents=True, exist_ok=True)
        made, sizes = _prepare(here)
        frozen = runs.freeze(asked, here.runs, here.work, place)
        left, unmeasured = _left(here, frozen)
        own = _on_samples_of_their_own(here, frozen, left)
        groups, estimate, shown = _costs(here, sizes, own, len(unmeasured))
        say(shown)
        if left and (short := plan.memory_warning(asked)):
            say(short)
        if prepare_only:
            return _plan(here, estimate, shown) | {"cells": groups}
        if asked.budget is not None and not collect_only:
            _race(here, frozen, {name: one["draw"] for name, one in made.items()}, sizes)
            there = {run.cell.name for run in here.runs if run.cell and _done(here, frozen, run)}
            left, unmeasured = [], [name for name in unmeasured if name in there]
        elif not collect_only:
            (place / RACE).unlink(missing_ok=True)
        if not collect_only:
            _do(here, [r.name for r in left] + [runs.measuring(c) for c in unmeasured])
        return _collect(here, frozen, made, groups)


def _race(
    here: _Study, frozen: Mapping[str, Any], draw_of: Mapping[str, int], sizes: Mapping[str, Cost]
) -> None:
    """Do the runs that a race asks for; write what it came to, and its ledger, a line a round."""
    jobs = plan.jobs_of(here.config)
    expected = plan.run_seconds(here.config, here.runs, sizes)

    def do(asked: Sequence[Run]) -> dict[str, Ran]:
        _do(here, [run.name for run in asked if _done(here, frozen, run) is None])
        return {run.name: ran(run) for run in asked}

    def ran(run: Run) -> Ran:
        made = _done(here, frozen, run)
        score = None if made is None else float(made["scores"]["score"])
        return Ran(score, sum(runs.seconds(here.place, run.name).values()) / jobs)

    def note(one: Mapping[str, Any]) -> None:
        counts = ", ".join(f"{n:,} {status}" for status, n in one.items() if isinstance(n, int))
        say(f"study: race, {len(one['runs']):,} runs: {counts} ({clock(3600 * one['hours'])})")
        collect.write_lines(here.place / "logs" / "race.jsonl", race.rounds)

    race = Race(here.config, here.runs, draw_of, lambda run: expected[run.name] / jobs)
    race.run(do, note)
    folder.write_json(here.place / RACE, race_words.outcome(race), STAGE)


def _done(here: _Study, frozen: Mapping[str, Any], run: Run) -> dict[str, Any] | None:
    return runs.finished(here.place, frozen, run.name)


def _prepare(here: _Study) -> tuple[dict[str, Any], dict[str, Cost]]:
    """Make corpus, subsets and sizes; return figures and costs by cell."""
    corpus = prepare.make_corpus(here.config, here.place)
    made = prepare.make_subsets(here.config, corpus, here.place, here.work)
    if here.config.metrics:
        prepare.make_embeddings(here.config, corpus, here.work)
    training = here.config.finetuning
    sizes = prepare.sizes(here.config, here.cells, here.place)
    return made, {name: costs.cost(one, training) for name, one in sizes.items()}


def _costs(
    here: _Study, sizes: Mapping[str, Cost], left: Sequence[Run], unmeasured: int
) -> tuple[dict[str, Any], plan.Estimate, str]:
    """Return what groups of cells read, what the study takes, and both for people.

    Raises
    ------
    UsageError
        If cells are not comparable.
    """
    groups = costs.by_group(here.cells, sizes)
    estimate = plan.estimate_study(here.config, here.runs, left, sizes, unmeasured)
    shown = show.costs(groups, costs.spread(groups), estimate)
    costs.check_comparable(here.config, groups, shown)
    return groups, estimate, shown


def _left(here: _Study, frozen: Mapping[str, Any]) -> tuple[list[Run], list[str]]:
    """Return the runs that are not finished, and the cells that are not measured."""
    left = []
    # Draw by draw, so that a study which is stopped early has every cell the same number of times.
    for run in sorted(
        here.runs, key=lambda run: (run.train_seed, run.cell.seed if run.cell else -1)
    ):
        if _done(here, frozen, run) is None:
            left.append(run)
        elif run.cell and not here.config.keep_models:
            runs.lighten(here.place / "models" / run.name)  # it may have been killed right before
    unmeasured = []
    for cell in here.cells if here.config.metrics else []:
        steps = runs.measure_subset(here.place, dict(frozen), cell.name, dry_run=True)["plan"]
        if steps[-1]["state"] != "cached":
            unmeasured.append(cell.name)
    return left, unmeasured


def _on_samples_of_their_own(
    here: _Study, frozen: Mapping[str, Any] | None, left: Sequence[Run]
) -> list[Run]:
    """Return the runs that take time: of equal ones the first, and none that equals one done.

    Runs that are not frozen yet, in a folder that is begun, count each.
    """
    known = frozen["runs"] if frozen else {}
    keys = {run.name: known.get(run.name, {}).get("key", run.name) for run in here.runs}
    waiting = {run.name for run in left}
    done = {keys[run.name] for run in here.runs if run.name not in waiting}
    first = {keys[run.name]: run for run in reversed(left) if keys[run.name] not in done}
    return [run for run in left if first.get(keys[run.name]) is run]


def _do(here: _Study, names: Sequence[str]) -> None:
    jobs, threads = plan.jobs_of(here.config), here.config.threads
    started, done = time.monotonic(), 0

    def ended(name: str, seconds: float, well: bool) -> None:
        nonlocal done
        done += 1
        left = (time.monotonic() - started) / done * (len(names) - done)
        failed = None if well else runs.failure(here.place, name)
        how = "done" if well else f"FAILED: {failed['error'] if failed else 'see its log'}"
        say(f"study: {done}/{len(names)} {name}: {how} ({clock(seconds)}), {clock(left)} left")

    if names:
        cards = machine.cards()
        on = f" on {len(cards)} GPUs" if cards else ""
        say(f"study: {len(names):,} to do, {jobs} at a time{on} with {threads} threads each")
        processes.run_all(here.place, names, jobs, threads, ended, cards)


def _collect(
    here: _Study,
    frozen: Mapping[str, Any],
    made: Mapping[str, Any],
    groups: Mapping[str, Any],
) -> Result:
    """Write the tables and the manifest of what is finished; return the figures."""
    place = here.place
    records = {run.name: found for run in here.runs if (found := _done(here, frozen, run))}
    results = collect.result_rows(here.runs, records, made)
    measured = collect.metric_rows(here.cells, place)
    names = [run.name for run in here.runs] + [runs.measuring(c.name) for c in here.cells]
    failed = collect.failure_rows(names, place)
    collect.write_csv(place / "results.csv", results)
    collect.write_csv(place / "metrics.csv", measured)
    collect.write_lines(place / "failures.jsonl", failed)
    raced = runs.read(place / RACE)
    # What a race looked at again and again is fitted as its last look is, with half of the error.
    confidence = {} if raced is None else {"confidence": (1 + raced["sure"]) / 2}
    fitted = _fit(place, confidence) if results else None
    missing = [run.name for run in here.runs if run.name not in records]
    seconds = sum(sum(runs.seconds(place, name).values()) for name in records)
    found = {
        "subsets": len(here.cells),
        "runs": len(here.runs),
        "finished": len(records),
        "missing": missing,
        "failures": failed,
        "measured": len(measured),
        "cells": dict(groups),
    }
    _write_manifest(here, frozen, found, seconds)
    return found | {
        "results": results,
        "fit": fitted,
        "race": raced,
        "run_seconds": round(seconds, 1),
        "out": str(place),
    }


def _fit(place: Path, options: Mapping[str, Any]) -> Result | None:
    """Fit the results where that can be done; a table too small for it is no failure."""
    try:
        metrics = place / "metrics.csv"
        named = metrics if metrics.stat().st_size > 1 else None
        found: Result = fit(place / "results.csv", metrics=named, **options)
    except (DataError, UsageError) as fault:
        say(f"study: no fit: {fault}")
        return None
    found.pop("seconds", None)
    folder.write_json(place / "fit.json", found, STAGE)
    return found


def _write_manifest(
    here: _Study, frozen: Mapping[str, Any], found: Mapping[str, Any], seconds: float
) -> None:
    """Write what the study was made of; a folder inside it has its own manifest.

    Equal studies have equal manifests but for `run`: `study.json`, in which the paths of this place
    are, is none of the files, and options name paths by their last part.
    """
    names = ["failures.jsonl", "fit.json", "metrics.csv", RACE, "results.csv"]
    names += [f"runs/{run.name}.json" for run in here.runs]
    keys = {name: run["key"] for name, run in frozen["runs"].items()}
    body = {
        "stage": STAGE,
        "version": VERSION,
        "inputs": {"runs": content_key(keys)},
        "config": lineage.public(here.config.model_dump(mode="json", exclude=_NO_RESULT))[0],
        "key": content_key([VERSION, keys]),
        "seeds": {},
        "rows": {},
        "result": dict(found),
        "files": folder.inventory(here.place, names),
        "grows": True,  # cells and runs lie in folders with manifests of their own
    }
    body["digest"] = content_key(body)
    body["run"] = {"run_seconds": round(seconds, 1), "versions": folder.versions()}
    folder.write_json(here.place / folder.MANIFEST, body, STAGE)


def _planned(here: _Study) -> Result:
    """Say what the study would take, touching nothing; a guess until its subsets are made."""
    study, done = here.config, here.place / "runs"
    left = [run for run in here.runs if not (done / f"{run.name}.json").is_file()]
    measured = here.place / "measures"
    unmeasured = [c for c in here.cells if study.metrics and not (measured / c.name).is_dir()]
    sizes = prepare.sizes_at_hand(here.cells, here.place)
    if sizes is not None:
        known = {name: costs.cost(one, study.finetuning) for name, one in sizes.items()}
        left = _on_samples_of_their_own(here, runs.read(here.place / runs.FROZEN), left)
        _, estimate, shown = _costs(here, known, left, len(unmeasured))
        lines = [shown, *_race_plan(here, known), "nothing was written (--dry-run)"]
        return _plan(here, estimate, "\n".join(lines))
    guessed = {"": plan.guess(study)}
    estimate = plan.estimate_study(study, here.runs, left, guessed, len(unmeasured))
    lines = [
        *(run.name for run in here.runs),
        f"{show.estimated(estimate)}; a guess from the corpus: --prepare makes the subsets and "
        "shows what each cell reads",
        *_race_plan(here, guessed),
        "nothing was written (--dry-run)",
    ]
    return _plan(here, estimate, "\n".join(lines))


def _race_plan(here: _Study, sizes: Mapping[str, Cost]) -> list[str]:
    """Say what a race runs first, and what it runs at most."""
    if here.config.budget is None:
        return []
    jobs, expected = plan.jobs_of(here.config), plan.run_seconds(here.config, here.runs, sizes)
    race = Race(here.config, here.runs, {}, lambda run: expected[run.name] / jobs)
    return [race_words.planned(race)]


def _plan(here: _Study, estimate: plan.Estimate, text: str) -> Result:
    names = [run.name for run in here.runs]
    return {
        "plan": asdict(estimate),
        "runs": names,
        "measures": [cell.name for cell in here.cells] if here.config.metrics else [],
        "plan_text": text,
        "out": str(here.place),
    }
