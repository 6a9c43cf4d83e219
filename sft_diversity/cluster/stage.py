"""The verbs `submit`, `status`, `cancel` and `retry`."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sft_diversity.cluster import jobs, local, offline, plan, secrets, slurm
from sft_diversity.cluster import status as states
from sft_diversity.cluster.jobs import Executor, Job
from sft_diversity.cluster.profile import Profile
from sft_diversity.core import config as configs
from sft_diversity.core import locks
from sft_diversity.core.errors import DataError, UsageError

WORK = Path(".sftdiv")
Result = dict[str, Any]


EXECUTORS: dict[str, Executor] = {"local": local, "slurm": slurm}


def submit(
    command: Sequence[str],
    *,
    profile: str | Path | None = None,
    executor: str | None = None,
    work: str | Path = WORK,
    dry_run: bool = False,
) -> Result:
    """Run a command as steps that depend on each other: handed to Slurm, or here and now.

    Parameters
    ----------
    command : sequence of str
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
    asked = configs.load(Path(profile) if profile else None, Profile, {"executor": executor})
    chosen = asked.executor
    if chosen == "auto":
        chosen = "slurm" if shutil.which("sbatch") else "local"
    argv = plan.checked(list(command))
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
        numbers = EXECUTORS[chosen].start(job, {s.name: range(len(s.tasks)) for s in steps})
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


def status(job: str | None = None, *, work: str | Path = WORK, verify: bool = False) -> Result:
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
    return {"jobs": [states.state(one, EXECUTORS[one.executor], verify) for one in chosen]}


def cancel(job: str, *, step: str | None = None, work: str | Path = WORK) -> Result:
    """End a job's tasks, or those of one step; what is finished stays."""
    found = jobs.named(Path(work), job)
    if step is not None:
        found.step(step)
    seen = states.tasks(found, EXECUTORS[found.executor], busy=locks.held(found.lock))
    targets = states.numbers(seen, {"waiting", "running"}, step)
    for name, tasks in targets.items():
        for number in tasks:
            found.file(name, number, "cancel").touch()
            found.note(name, number, "cancelled", reason="cancelled")
    EXECUTORS[found.executor].cancel(found, targets)
    return {"job": found.name, "cancelled": {name: len(tasks) for name, tasks in targets.items()}}


def retry(job: str, *, work: str | Path = WORK) -> Result:
    """Submit again what is neither finished, nor running, nor waiting, and all that comes after."""
    found = jobs.named(Path(work), job)
    executor = EXECUTORS[found.executor]
    executor.check(found.profile, found.steps)
    with jobs.changing(found, "retry"):
        again = _again(found, executor)
        for name, tasks in again.items():
            for number in tasks:
                found.file(name, number, "cancel").unlink(missing_ok=True)
                found.note(name, number, "waiting", reason="", requeues=0, slurm=None)
        if again:
            executor.start(found, again)
    _insist(found)
    return {"job": found.name, "retried": {name: len(tasks) for name, tasks in again.items()}}


def _again(job: Job, executor: Executor) -> dict[str, list[int]]:
    """Return the tasks to start again; those that wait behind what failed leave the queue.

    They are queued behind what failed, not behind its retry.
    """
    seen = states.tasks(job, executor)
    again = states.numbers(seen, {"failed", "cancelled"})
    if not again:
        return {}
    waiting = states.numbers(seen, {"waiting"})
    late = set(again)
    for step in job.steps:  # they are in the order of their dependencies
        if late & set(step.after) and step.name not in late:
            late.add(step.name)
            again[step.name] = list(range(len(step.tasks)))
    stale = {name: tasks for name, tasks in waiting.items() if name in late}
    executor.cancel(job, stale)
    return {
        step.name: sorted({*again[step.name], *stale.get(step.name, [])})
        for step in job.steps if step.name in late
    }  # fmt: skip


def _insist(job: Job) -> None:
    """Refuse to call a job done that ended here without all of its tasks finished."""
    if job.executor != "local":
        return
    seen = states.tasks(job, EXECUTORS["local"])
    lost = [one for one in seen if one.state != "finished"]
    if lost:
        raise DataError(
            f"{job.name}: {len(lost):,} of {len(seen):,} tasks did not finish; {lost[0].step} "
            f"{lost[0].label}: {lost[0].reason}; mend that, then `sftdiv retry --failed {job.name}`"
        )


def only_failed(failed: bool) -> None:
    """Insist on `--failed`, so that nobody expects finished work to be done again."""
    if not failed:
        raise UsageError("retry: say --failed: finished tasks are never done again")
