"""Verbs for batch jobs: submit a command, look at its tasks, end them, do them again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sft_diversity.cluster import stage
from sft_diversity.verbs.options import WORK, DryRun, Work
from sft_diversity.verbs.results import Result

JobName = Annotated[str, typer.Argument(help="Its name, number or folder.")]


def submit(
    command: Annotated[list[str], typer.Argument(help="Behind `--`: a verb and its arguments.")],
    *,
    profile: Annotated[str | Path | None, typer.Option(help="A file of configs/cluster/.")] = None,
    executor: Annotated[
        str | None, typer.Option(help="local or slurm; default: the profile's, or what is here.")
    ] = None,
    work: Work = WORK,
    dry_run: DryRun = False,
) -> Result:
    """Hand a command to an executor; see `cluster.stage.submit`."""
    return stage.submit(command, profile=profile, executor=executor, work=work, dry_run=dry_run)


def status(
    job: Annotated[str | None, typer.Argument(help="Its name or number; default: all.")] = None,
    *,
    verify: Annotated[
        bool, typer.Option("--verify", help="Hash finished outputs again, not sizes alone.")
    ] = False,
    work: Work = WORK,
) -> Result:
    """Return the jobs of a work folder, or one with its tasks; see `cluster.stage.status`."""
    return stage.status(job, work=work, verify=verify)


def cancel(
    job: JobName,
    *,
    step: Annotated[str | None, typer.Option(help="This step's tasks alone.")] = None,
    work: Work = WORK,
) -> Result:
    """End a job's tasks, or one step's; what is finished stays."""
    return stage.cancel(job, step=step, work=work)


def retry(
    job: JobName,
    *,
    failed: Annotated[
        bool, typer.Option("--failed", help="What is neither finished nor on its way.")
    ] = False,
    work: Work = WORK,
) -> Result:
    """Submit again what failed, was cancelled or is lost, and what comes after it."""
    stage.only_failed(failed)
    return stage.retry(job, work=work)
