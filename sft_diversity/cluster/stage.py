"""The verbs `submit`, `status`, `cancel` and `retry`."""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import typer

from sft_diversity.cluster import jobs, local, offline, plan, secrets, slurm
from sft_diversity.cluster import status as looking
from sft_diversity.cluster.jobs import Executor, Job, Task
from sft_diversity.cluster.profile import Profile
from sft_diversity.core import config as configs
from sft_diversity.core import locks
from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.verbs.options import WORK, DryRun, Work

Result = dict[str, Any]
JobName: TypeAlias = Annotated[str, typer.Argument(help="Its name, number or folder.")]


EXECUTORS: dict[str, Executor] = {"local": local, "slurm": slurm}


def submit(
    command: Annotated[list[str], typer.Argument(help="Behind `--`: a verb and its arguments.")],
    *,
    profile: Annotated[str | Path | None, typer.Option(help="A file of configs/cluster/.")] = None,
    executor: Annotated[
        Literal["local", "slurm"] | None,
        typer.Option(help="Default: the profile's, or what is here."),
    ] = None,
    work: Work = WORK,
    dry_run: DryRun = False,
) -> Result:
    """Run a command as steps that depend on each other: handed to Slurm, or here and now.

    Parameters
    ----------
    command : list of str
        Arguments of `sftdiv`, the first a verb.
    profile : path, optional
        YAML file of a `Profile`.
    executor : {"local", "slurm"}, optional
        Overrides the profile's. `slurm` returns at once, `local` when all is done.
    work : path
        Work folder; the job's is made in it.

    Returns
    -------
    dict
        `job, folder, executor, command, steps` (name, tasks, after), `fetched` (what jobs without
        internet will read) and `submitted` (Slurm's numbers).

    Raises
    ------
    UsageError, DataError
        If the command, the profile or the executor would not do, or a task failed here.
    Interrupted
        If a signal came while tasks ran here.
    """
    asked = configs.load(
        Path(profile) if profile else None, Profile, {"executor": executor}, "profile"
    )
    chosen = asked.executor
    if chosen == "auto":
        chosen = "slurm" if shutil.which("sbatch") else "local"
    argv = plan.checked(command)
    secrets.refuse([*argv, asked.model_dump_json()], asked.environment)
    call = plan.parse(argv)
    steps = plan.steps(call, asked)
    fetched = [] if dry_run else offline.stage(call, asked)
    shown = [{"name": s.name, "tasks": len(s.tasks), "after": list(s.after)} for s in steps]
    if dry_run:
        return {"executor": chosen, "command": list(argv), "steps": shown}
    EXECUTORS[chosen].check(asked, steps)
    python = asked.python or sys.executable
    job = jobs.create(Path(work), Job(Path(), argv, Path.cwd(), chosen, python, asked, steps))
    with jobs.changing(job, "submit"):
        numbers = EXECUTORS[chosen].start(job, job.tasks)
    _insist(job)
    return {
        "job": job.name,
        "folder": str(job.place),
        "executor": chosen,
        "command": list(argv),
        "steps": shown,
        "fetched": fetched,
        "submitted": numbers,
    }


def status(
    job: Annotated[str | None, typer.Argument(help="Its name or number; default: all.")] = None,
    *,
    verify: Annotated[
        bool, typer.Option("--verify", help="Hash finished outputs again, not sizes alone.")
    ] = False,
    work: Work = WORK,
) -> Result:
    """Say what waits, runs, is finished and failed, of one job or of all.

    "Finished" means that the output's manifest was verified by the task and that its files are
    still there in their sizes; with `verify` they are read and hashed again.

    Returns
    -------
    dict
        `jobs`: for each `job, command, executor, folder, counts, tasks`; a task is `step, label,
        number, state, reason, attempts, requeues, slurm, log, tail`.
    """
    chosen = jobs.listed(Path(work)) if job is None else [jobs.named(Path(work), job)]
    return {"jobs": [looking.shown(one, EXECUTORS[one.executor], verify) for one in chosen]}


def cancel(
    job: JobName,
    *,
    step: Annotated[str | None, typer.Option(help="This step's tasks alone.")] = None,
    work: Work = WORK,
) -> Result:
    """End a job's tasks, or those of one step; what is finished stays."""
    found = jobs.named(Path(work), job)
    if step is not None:
        found.step(step)
    executor = EXECUTORS[found.executor]
    seen = looking.states(found, executor, busy=locks.held(found.lock))
    targets = [
        task for task, (state, _) in seen.items()
        if state in ("waiting", "running") and step in (None, task.step)
    ]  # fmt: skip
    for task in targets:
        found.file(task, "cancel").touch()
        found.note(task, "cancelled", "cancelled")
    executor.cancel(found, targets)
    return {"job": found.name, "cancelled": dict(Counter(task.step for task in targets))}


def retry(
    job: JobName,
    *,
    failed: Annotated[
        bool, typer.Option("--failed", help="What is neither finished nor on its way.")
    ] = False,
    work: Work = WORK,
) -> Result:
    """Submit again what is neither finished, nor running, nor waiting, and all that comes after.

    Raises
    ------
    UsageError
        If `failed` is not said, so that nobody expects finished work to be done again.
    DataError, Interrupted
        As `submit`.
    """
    if not failed:
        raise UsageError("retry: say --failed: finished tasks are never done again")
    found = jobs.named(Path(work), job)
    executor = EXECUTORS[found.executor]
    executor.check(found.profile, found.steps)
    with jobs.changing(found, "retry"):
        again = _again(found, executor)
        for task in again:
            found.file(task, "cancel").unlink(missing_ok=True)
            found.note(task, "waiting", requeues=0, slurm=None)
        if again:
            executor.start(found, again)
    _insist(found)
    return {"job": found.name, "retried": dict(Counter(task.step for task in again))}


def _again(job: Job, executor: Executor) -> list[Task]:
    """Return the tasks to start again: what is lost, and all steps behind it.

    What waits there leaves the queue: it is queued behind what was lost, not behind its retry.
    """
    seen = looking.states(job, executor)
    lost = {task.step for task, (state, _) in seen.items() if state in ("failed", "cancelled")}
    late = set(lost)
    for step in job.steps:  # they are in the order of their dependencies
        if late & set(step.after):
            late.add(step.name)
    stale = [task for task, (state, _) in seen.items() if state == "waiting" and task.step in late]
    if stale:
        executor.cancel(job, stale)
    return [
        task for task, (state, _) in seen.items()
        if task.step in late
        and (task.step not in lost or state in ("failed", "cancelled", "waiting"))
    ]  # fmt: skip


def _insist(job: Job) -> None:
    """Refuse to call a job done that ended here without all of its tasks finished."""
    if job.executor != "local":
        return
    seen = looking.states(job, EXECUTORS["local"])
    lost = [(task, reason) for task, (state, reason) in seen.items() if state != "finished"]
    for task, reason in lost[:1]:
        raise DataError(
            f"{job.name}: {len(lost):,} of {len(seen):,} tasks did not finish; {task.step} "
            f"{task.label}: {reason}; mend that, then `sftdiv retry --failed {job.name}`"
        )
