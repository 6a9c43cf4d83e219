"""The command line: a thin shell over `sft_diversity.workflow`. Parse, call, report."""

from __future__ import annotations

import json
import os
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from sft_diversity import picking, printing, printing_fit, workflow
from sft_diversity.cleaning.config import CleanConfig
from sft_diversity.cluster import stage as batch
from sft_diversity.cluster import table as batch_table
from sft_diversity.core import resources, stopping
from sft_diversity.core.errors import SftdivError, UsageError
from sft_diversity.describe import MeasureOptions
from sft_diversity.embedding.stage import EmbedConfig
from sft_diversity.exporting.stage import ExportConfig
from sft_diversity.fitting.config import FitConfig
from sft_diversity.levels.stage import IndexConfig
from sft_diversity.options import options_of
from sft_diversity.rewriting.stage import RewriteConfig
from sft_diversity.scoring.suites import ScoreOptions
from sft_diversity.studies import stage as studying
from sft_diversity.studies import table as study_table
from sft_diversity.studies.config import StudyConfig
from sft_diversity.training.config import FinetuneConfig
from sft_diversity.training.curves import ScheduleOptions

app = typer.Typer(
    help="Select, fine-tune on, score and export diverse subsets of SFT data.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="YAML file of options; flags override it.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the plan and touch nothing.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Work = Annotated[Path, typer.Option(help="Folder for what is made on the way and reused.")]
Corpus = Annotated[
    Path, typer.Argument(help="Output folder of `sftdiv ingest`, `clean` or `rewrite`.")
]
Out = Annotated[Path, typer.Option(help="Folder to write.")]
OutOrWork = Annotated[
    Path | None, typer.Option("--out", help="Folder to write; default: in --work.")
]
PartOption = Annotated[
    str | None,
    typer.Option(help="Only the I-th of N parts of the corpus, I/N; then run without."),
]


def _finish(result: dict[str, Any], as_json: bool, table: Callable[[dict[str, Any]], str]) -> None:
    """Print the result: one JSON object for machines, else what `table` makes of it."""
    if os.environ.get("RANK", "0") != "0":
        return  # one of several processes of a run: the first of them speaks
    if as_json:
        typer.echo(json.dumps(result, ensure_ascii=False))
    elif "plan" in result:
        typer.echo(printing.plan_text(result))
    else:
        typer.echo(table(result))


@app.command("ingest")
@options_of(workflow.IngestOptions)
def ingest_command(
    source: Annotated[
        list[str] | None, typer.Argument(help="Files, folders, hub:org/name.")
    ] = None,
    *,
    out: Out,
    config: ConfigFile = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    **options: Any,
) -> None:
    """Make a corpus of raw files in any known format."""
    result = workflow.ingest(*(source or []), out=out, config=config, dry_run=dry_run, **options)
    _finish(result, as_json, printing.ingested)


@app.command("embed")
@options_of(EmbedConfig)
def embed_command(
    corpus: Corpus,
    out: OutOrWork = None,
    part: PartOption = None,
    work: Work = workflow.WORK,
    config: ConfigFile = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    **options: Any,
) -> None:
    """Embed both components of a corpus."""
    options |= {"out": out, "part": part, "work": work, "config": config, "dry_run": dry_run}
    _finish(workflow.embed(corpus, **options), as_json, printing.figures)


@app.command("index")
@options_of(IndexConfig)
def index_command(
    corpus: Corpus,
    out: OutOrWork = None,
    part: PartOption = None,
    work: Work = workflow.WORK,
    config: ConfigFile = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    **options: Any,
) -> None:
    """Make the incidence of one strategy: which kinds each sample holds."""
    options |= {"out": out, "part": part, "work": work, "config": config, "dry_run": dry_run}
    _finish(workflow.index(corpus, **options), as_json, printing.figures)


@app.command("select")
@options_of(picking.SelectOptions)
def select_command(
    source: Annotated[list[str], typer.Argument(help="A corpus, or raw files to ingest first.")],
    out: Annotated[Path | None, typer.Option(help="Folder to write.")] = None,
    work: Work = workflow.WORK,
    config: ConfigFile = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    grid: Annotated[
        str | None,
        typer.Option(
            help="Many subsets at once: strategy=all diversity=0,50,100 size=2000 seed=0,1"
        ),
    ] = None,
    **options: Any,
) -> None:
    """Select exactly N samples at a chosen diversity, or a grid of such subsets."""
    options |= {"out": out, "work": work, "grid": grid}
    _finish(
        workflow.select(*source, config=config, dry_run=dry_run, **options),
        as_json,
        printing.selected,
    )


CorpusOption = Annotated[Path | None, typer.Option("--corpus", help="Where its corpus is.")]


@app.command("explain")
def explain_command(
    subset: Annotated[Path, typer.Argument(help="A subset.")],
    id: Annotated[str, typer.Argument(help="A sample's id.")],
    corpus: CorpusOption = None,
    work: Work = workflow.WORK,
    as_json: AsJson = False,
) -> None:
    """Say why a sample is in a subset, or why it is not."""
    _finish(workflow.explain(subset, id, corpus=corpus, work=work), as_json, printing.explained)


@app.command("diff")
def diff_command(
    first: Annotated[Path, typer.Argument(help="A subset.")],
    second: Annotated[Path, typer.Argument(help="Another subset of the same corpus.")],
    corpus: CorpusOption = None,
    work: Work = workflow.WORK,
    as_json: AsJson = False,
) -> None:
    """Say how two subsets differ: rows, kinds, sources, figures."""
    _finish(workflow.diff(first, second, corpus=corpus, work=work), as_json, printing.differences)


@app.command("measure")
@options_of(MeasureOptions)
def measure_command(
    dataset: Annotated[list[str], typer.Argument(help="Subsets, corpora or raw files.")],
    out: OutOrWork = None,
    work: Work = workflow.WORK,
    config: ConfigFile = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    **options: Any,
) -> None:
    """Measure diversity: all metrics of one or many data sets, side by side, by component."""
    _finish(
        workflow.measure(*dataset, out=out, work=work, config=config, dry_run=dry_run, **options),
        as_json,
        printing.measured,
    )


PhasesOption = Annotated[
    str | None,
    typer.Option(
        help="Restarts after warm-up, each with its length, peak, floor and phi: "
        '"0.6 phi=1, 0.4 peak=0.3 phi=5".',
    ),
]


@app.command("schedule")
@options_of(ScheduleOptions)
def schedule_command(
    png: Annotated[Path | None, typer.Option(help="Picture to draw.")] = None,
    phases: PhasesOption = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
    **options: Any,
) -> None:
    """Print or draw a learning-rate schedule beside cosine, linear, WSD, step and constant."""
    result = workflow.schedule(png=png, config=config, phases=phases, **options)
    _finish(result, as_json, printing.scheduled)


@app.command("finetune")
@options_of(FinetuneConfig)
def finetune_command(
    subset: Annotated[Path, typer.Argument(help="A subset, corpus or exported folder.")],
    out: Out,
    phases: PhasesOption = None,
    report_to: Annotated[
        list[str] | None, typer.Option(help="trackio, tensorboard or wandb; repeat for several.")
    ] = None,
    config: ConfigFile = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    **options: Any,
) -> None:
    """Fine-tune a model on a subset: TRL, AdamW or LION, the UBA schedule."""
    options |= {"phases": phases, "report_to": report_to or None}
    _finish(
        workflow.finetune(subset, out=out, config=config, dry_run=dry_run, **options),
        as_json,
        printing.figures,
    )


@app.command("score")
@options_of(ScoreOptions)
def score_command(
    model: Annotated[str, typer.Argument(help="Model folder, Hub id or an endpoint's URL.")],
    out: Out,
    work: Work = workflow.WORK,
    config: ConfigFile = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    **options: Any,
) -> None:
    """Score a model: likelihood of held-out references, a judge's verdicts, or lm-eval's tasks."""
    _finish(
        workflow.score(model, out=out, work=work, config=config, dry_run=dry_run, **options),
        as_json,
        printing.scored,
    )


@app.command("study")
@options_of(StudyConfig)
def study_command(
    config: Annotated[Path, typer.Argument(help="YAML file of the grid; flags override it.")],
    out: Out,
    work: Annotated[
        Path | None, typer.Option(help="Folder for what is made on the way; default: in --out.")
    ] = None,
    run: Annotated[str | None, typer.Option(help="Do this run of a prepared study alone.")] = None,
    prepare: Annotated[
        bool, typer.Option("--prepare", help="Only make subsets and the table of costs.")
    ] = False,
    collect: Annotated[
        bool, typer.Option("--collect", help="Only collect what is finished.")
    ] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    **options: Any,
) -> None:
    """Train and score a model on every subset of a grid; fit what diversity pays."""
    result = studying.study(
        config,
        out=out,
        work=work,
        run=run,
        prepare_only=prepare,
        collect_only=collect,
        dry_run=dry_run,
        **options,
    )
    if as_json:
        typer.echo(json.dumps(result, ensure_ascii=False))
    else:
        typer.echo(study_table.shown(result))
    if result.get("failures"):
        raise typer.Exit(1)


@app.command("fit")
@options_of(FitConfig)
def fit_command(
    results: Annotated[
        Path, typer.Argument(help="CSV strategy,size,diversity,seed,score; or a study's folder.")
    ],
    metrics: Annotated[Path | None, typer.Option(help="CSV of metrics, a row a subset.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write; default: none.")] = None,
    config: ConfigFile = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    **options: Any,
) -> None:
    """Fit a table of scores: slopes, best levels, comparisons with random, a verdict."""
    result = workflow.fit(
        results, metrics=metrics, out=out, config=config, dry_run=dry_run, **options
    )
    _finish(result, as_json, printing_fit.fitted)


@app.command("report")
@options_of(workflow.ReportOptions)
def report_command(
    source: Annotated[
        list[Path], typer.Argument(help="A study, a subset or a corpus; or two subsets.")
    ],
    out: Annotated[
        Path, typer.Option(help="Page to write (.html), or a folder for it and its data.")
    ] = Path("report.html"),
    corpus: CorpusOption = None,
    work: Work = workflow.WORK,
    config: ConfigFile = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    **options: Any,
) -> None:
    """Show a study, a subset or the difference of two as one HTML page that needs no network."""
    _finish(
        workflow.report(
            *source, out=out, corpus=corpus, work=work, config=config, dry_run=dry_run, **options
        ),
        as_json,
        printing.reported,
    )


@app.command("clean")
@options_of(CleanConfig)
def clean_command(
    corpus: Annotated[Path, typer.Argument(help="A corpus, subset or export, or a raw file.")],
    out: Out,
    against: Annotated[
        list[str] | None,
        typer.Option(help="Evaluation file or folder that no sample may overlap; repeatable."),
    ] = None,
    work: Work = workflow.WORK,
    config: ConfigFile = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    **options: Any,
) -> None:
    """Take near-duplicates and overlap with evaluation sets out of a corpus, each with its twin."""
    result = workflow.clean(
        corpus,
        out=out,
        work=work,
        config=config,
        dry_run=dry_run,
        against=against or None,
        **options,
    )
    _finish(result, as_json, printing.cleaned)


@app.command("rewrite")
@options_of(RewriteConfig)
def rewrite_command(
    source: Annotated[Path, typer.Argument(help="A corpus or a subset.")],
    out: Out,
    work: Work = workflow.WORK,
    config: ConfigFile = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    **options: Any,
) -> None:
    """Make a corpus whose responses one model wrote; the originals stay in `meta`."""
    _finish(
        workflow.rewrite(source, out=out, work=work, config=config, dry_run=dry_run, **options),
        as_json,
        printing.figures,
    )


@app.command("export")
@options_of(ExportConfig)
def export_command(
    source: Annotated[
        list[Path], typer.Argument(help="Subset, corpus or model folders; several for hub: only.")
    ],
    *,
    to: Annotated[str, typer.Option(help="Folder, or hub:org/name.")],
    config: ConfigFile = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    **options: Any,
) -> None:
    """Export as Parquet shards with a data card, or a model, to a folder or the Hub."""
    _finish(
        workflow.export(*source, to=to, config=config, dry_run=dry_run, **options),
        as_json,
        printing.figures,
    )


@app.command("verify")
def verify_command(
    place: Annotated[Path, typer.Argument(metavar="DIR", help="Any output folder.")],
    as_json: AsJson = False,
) -> None:
    """Check a folder against its manifest; exit code 1 if anything differs."""
    result = workflow.verify(place)
    _finish(result, as_json, printing.verified)
    if result["faults"]:
        raise typer.Exit(1)


@app.command("doctor")
def doctor_command(work: Work = workflow.WORK, as_json: AsJson = False) -> None:
    """Say what this machine has for each part of the job, and what to do where it lacks."""
    result = workflow.doctor(work)
    _finish(result, as_json, printing.examined)
    if not result["ok"]:
        raise typer.Exit(1)


@app.command("submit")
def submit_command(
    command: Annotated[list[str], typer.Argument(help="Behind `--`: a verb and its arguments.")],
    profile: Annotated[Path | None, typer.Option(help="A file of configs/cluster/.")] = None,
    executor: Annotated[
        str | None, typer.Option(help="local or slurm; default: the profile's, or what is here.")
    ] = None,
    work: Work = workflow.WORK,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Run a command as batch jobs: Slurm, or processes that outlive this one."""
    result = batch.submit(command, profile=profile, executor=executor, work=work, dry_run=dry_run)
    _finish(result, as_json, batch_table.submitted)


JobName = Annotated[str, typer.Argument(help="Its name, number or folder.")]


@app.command("status")
def status_command(
    job: Annotated[str | None, typer.Argument(help="Its name or number; default: all.")] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Hash finished outputs again, not sizes alone.")
    ] = False,
    work: Work = workflow.WORK,
    as_json: AsJson = False,
) -> None:
    """Say what waits, runs, is finished and failed, and why."""
    _finish(batch.status(job, work=work, verify=verify), as_json, batch_table.states)


@app.command("cancel")
def cancel_command(
    job: JobName,
    step: Annotated[str | None, typer.Option(help="This step's tasks alone.")] = None,
    work: Work = workflow.WORK,
    as_json: AsJson = False,
) -> None:
    """End a job's tasks; what is finished stays."""
    _finish(batch.cancel(job, step=step, work=work), as_json, batch_table.ended)


@app.command("retry")
def retry_command(
    job: JobName,
    failed: Annotated[
        bool, typer.Option("--failed", help="What is neither finished nor on its way.")
    ] = False,
    work: Work = workflow.WORK,
    as_json: AsJson = False,
) -> None:
    """Submit again what failed, was cancelled or is lost, and what comes after it."""
    batch.only_failed(failed)
    _finish(batch.retry(job, work=work), as_json, batch_table.ended)


@app.command("run", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def run_command(
    context: typer.Context,
    recipe: Annotated[str, typer.Argument(help="Name of a recipe of pipelines/, or a path.")],
) -> None:
    """Run a recipe; further arguments are its own (`sftdiv run reference --help`)."""
    shipped = resources.shipped("pipelines")
    path = Path(recipe) if recipe.endswith(".py") else shipped / f"{recipe}.py"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in shipped.glob("*.py")))
        raise UsageError(f"run: no recipe {recipe!r}; known: {known}, or give a path ending in .py")
    runpy.run_path(str(path))["main"](context.args)


def main() -> None:
    """Run the command line; expected failures become one line and their exit code."""
    stopping.install()
    try:
        app()
    except SftdivError as fault:
        print(f"error: {fault}", file=sys.stderr)
        sys.exit(fault.exit_code)
    except KeyboardInterrupt:
        print("error: interrupted; run the same command to resume", file=sys.stderr)
        sys.exit(75)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
