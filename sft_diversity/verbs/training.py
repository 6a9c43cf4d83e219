"""Verbs that train and judge: schedules, fine-tuning, scores, fits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from sft_diversity.core import folder, parts
from sft_diversity.core.errors import UsageError
from sft_diversity.core.parts import Part
from sft_diversity.core.progress import say
from sft_diversity.core.stage import Made
from sft_diversity.core.store import Store
from sft_diversity.fitting import advising
from sft_diversity.fitting import stage as fitting
from sft_diversity.fitting.config import AdviseConfig, FitConfig
from sft_diversity.scoring import suites
from sft_diversity.stages import store
from sft_diversity.training import curves, samples
from sft_diversity.training import stage as finetuning
from sft_diversity.training.config import FinetuneConfig
from sft_diversity.verbs.options import WORK, ConfigFile, DryRun, Out, OutOrNone, Phases, Work
from sft_diversity.verbs.results import Result, made, options_from
from sft_diversity.verbs.sources import corpus_of


def schedule(
    *,
    png: Annotated[str | Path | None, typer.Option(help="Picture to draw.")] = None,
    phases: Phases = None,
    config: ConfigFile = None,
    **options: Any,
) -> Result:
    """Compare a learning-rate schedule with others; options are those of `ScheduleOptions`."""
    asked = options_from(curves.ScheduleOptions, config, options | {"phases": phases})
    if png is not None:
        curves.draw_schedules(asked, Path(png))
    return curves.compare_schedules(asked) | ({} if png is None else {"out": str(png)})


def finetune(
    *subset: Annotated[
        str | Path,
        typer.Argument(help="Subset, corpus or exported folder, raw file or hub:org/name."),
    ],
    out: OutOrNone = None,
    work: Work = WORK,
    show_masks: Annotated[
        int | None,
        typer.Option(min=1, help="Show what is trained of so many samples, train nothing."),
    ] = None,
    phases: Phases = None,
    weights: Annotated[
        str | Sequence[float] | None,
        typer.Option(help="Of several subsets: shares of what is read, as 0.7,0.3."),
    ] = None,
    report_to: Annotated[
        list[str] | None, typer.Option(help="trackio, tensorboard or wandb; repeat for several.")
    ] = None,
    config: ConfigFile = None,
    dry_run: DryRun = False,
    **options: Any,
) -> Result:
    """Fine-tune a model on a subset, or on several; options are those of `FinetuneConfig`.

    Raw data (a file of JSON lines, a folder of `datasets`, Alpaca's columns) is ingested first, all
    rows of it, also those that are there twice.
    """
    options |= {"phases": phases, "weights": weights, "report_to": report_to}
    asked = options_from(FinetuneConfig, config, options)
    if bool(subset) == bool(asked.sets):
        raise UsageError("finetune: name the samples to train on, or `sets` in a file")
    named, asked = subset or [one.data for one in asked.sets], asked.of_sets()
    if out is None and show_masks is None:
        raise UsageError("finetune: name the folder to write with --out")
    kept = store(work, dry_run)
    trained = [_samples(kept, one) for one in named]
    measured = [] if asked.eval_data is None else [_samples(kept, asked.eval_data)]
    plan, rows = kept.plan, sum(one.rows for one in trained)
    if not all(one.there for one in (*trained, *measured)):
        step = {"stage": "finetune", "rows": rows, "seconds": None, "bytes": None}
        return {"plan": [*plan, {"state": "to do", **step, "out": str(out)}]}
    places = [one.path for one in trained]
    if measured:
        asked = asked.model_copy(update={"eval_data": str(measured[0].path)})
    if show_masks is not None:
        shown = [one for at in places for one in finetuning.show_masks(at, asked, show_masks)]
        return {"masks": shown}
    assert out is not None
    if dry_run:
        step = finetuning.plan(places, Path(out), asked)
        return {"plan": [*plan, {"state": "cached" if step["cached"] else "to do", **step}]}
    return folder.figures(finetuning.finetune(places, Path(out), asked, say, Path(work)), out)


def _samples(kept: Store, subset: str | Path) -> Made:
    """Return a folder of samples, raw data ingested: all rows, those that are there twice too."""
    if samples.is_raw(subset):
        return corpus_of(kept, [subset], {"dedup": "none"})
    return Made(Path(subset), None)


def check_training(**options: Any) -> None:
    """Refuse options of `finetune` whose model, packages or GPU are not there."""
    finetuning.check_options(options_from(FinetuneConfig, None, options))


def score(
    model: Annotated[
        str | Path, typer.Argument(help="Model folder, Hub id or an endpoint's URL."), str
    ],
    *,
    out: Out,
    work: Work = WORK,
    part: Annotated[
        str | Part | None,
        typer.Option(help="Only the I-th of N parts of the answers of suite generate, I/N."),
    ] = None,
    config: ConfigFile = None,
    dry_run: DryRun = False,
    **options: Any,
) -> Result:
    """Score a model: suite heldout, generate, pairwise or harness; options are those of its suite.

    With `part`, "I/N", only the I-th of N parts of a model's answers, into the work folder; the
    call without `part` then goes on from there.
    """
    asked = suites.config_of(Path(config) if config else None, options)
    kept, stage = store(work, dry_run), f"score {asked.suite}"
    if part is not None:
        return made(kept, kept.get_part(stage, asked, None, parts.parse(part, "score"), str(model)))
    return made(kept, kept.get(stage, asked, subject=model, out=Path(out)))


def fit(
    results: Annotated[
        str | Path,
        typer.Argument(help="CSV strategy,size,diversity,seed,score; or a study's folder."),
    ],
    *,
    metrics: Annotated[
        str | Path | None, typer.Option(help="CSV of metrics, a row a subset.")
    ] = None,
    out: Annotated[str | Path | None, typer.Option(help="Folder to write; default: none.")] = None,
    config: ConfigFile = None,
    dry_run: DryRun = False,
    **options: Any,
) -> Result:
    """Fit a table of scores, or a study's; options are those of `FitConfig`."""
    asked = options_from(FitConfig, config, options | {"metrics": metrics})
    if out is None and not dry_run:
        return fitting.fit(Path(results), asked)
    kept = store(WORK, dry_run)
    output = kept.get("fit", asked, subject=results, out=Path(out) if out else None)
    if out is None:
        return {"plan": [step | {"bytes": 0, "out": "-"} for step in kept.plan]}
    return made(kept, output) if dry_run else fitting.fitted(output.path) | {"out": str(out)}


def advise(
    scores: Annotated[
        str | Path,
        typer.Argument(help="CSV size,score and maybe seed,strategy,task,model; a study."),
    ],
    *,
    at: Annotated[
        list[int] | None, typer.Option(help="Size to predict at; repeat for several.")
    ] = None,
    out: Annotated[str | Path | None, typer.Option(help="Folder to write; default: none.")] = None,
    config: ConfigFile = None,
    dry_run: DryRun = False,
    **options: Any,
) -> Result:
    """Predict scores at larger sizes and advise; options are those of `AdviseConfig`."""
    asked = options_from(AdviseConfig, config, options | {"at": at})
    if out is None and not dry_run:
        return advising.advise(Path(scores), asked)
    kept = store(WORK, dry_run)
    output = kept.get("advise", asked, subject=scores, out=Path(out) if out else None)
    if out is None:
        return {"plan": [step | {"bytes": 0, "out": "-"} for step in kept.plan]}
    return made(kept, output) if dry_run else advising.advice_at(output.path) | {"out": str(out)}
