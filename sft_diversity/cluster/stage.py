"""The verbs `submit`, `status`, `cancel` and `retry`."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sft_diversity.cluster import jobs, offline, plan, secrets
from sft_diversity.cluster import states as looking
from sft_diversity.cluster.base import Executor
from sft_diversity.cluster.jobs import Job
from sft_diversity.cluster.local import Local
from sft_diversity.cluster.profile import Profile
from sft_diversity.cluster.slurm import Slurm
from sft_diversity.core import config as configs
from sft_diversity.core import extras
from sft_diversity.core.errors import UsageError

WORK = Path(".sftdiv")
EXECUTORS: dict[str, Executor] = {"local": Local(), "slurm": Slurm()}
Result = dict[str, Any]


def submit(
    command: Sequence[str],
    *,
    profile: str | Path | None = None,
    executor: str | None = None,
    work: str | Path = WORK,
    dry_run: bool = False,
) -> Result:
    """Hand a command to an executor, as steps that depend on each other; returns at once.

    Parameters
    ----------
    command : sequence of str
        Arguments of `sftdiv`, the first a verb.
    profile : path, optional
        YAML file of a `Profile`.
    executor : {"local", "slurm"}, optional
        Overrides the profile's.
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
        If the command, the profile or the executor would not do.
    """
    asked = configs.load(Path(profile) if profile else None, Profile, {"executor": executor})
    chosen = asked.executor
    if chosen == "auto":
        chosen = "slurm" if shutil.which("sbatch") else "local"
    argv = plan.checked(list(command))
    secrets.refuse([*argv, asked.model_dump_json()], asked.environment)
    if chosen == "slurm":
        extras.require("submitit", "submit: executor slurm", "use --executor local")
    steps = plan.steps(argv, asked)
    fetched = [] if dry_run else offline.stage(argv, asked)
    shown = [{"name": s.name, "tasks": len(s.tasks), "after": list(s.after)} for s in steps]
    if dry_run:
        return {"executor": chosen, "command": list(argv), "steps": shown}
    python = asked.python or sys.executable
    preview = Job(Path(work), argv, Path.cwd(), chosen, python, asked, steps)
    EXECUTORS[chosen].check(preview)
    job = jobs.create(Path(work), argv[0], argv, chosen, python, asked, steps)
    with jobs.changing(job, "submit"):
        EXECUTORS[chosen].submit(job, {s.name: range(len(s.tasks)) for s in steps})
    return {
        "job": job.name,
        "folder": str(job.place),
        "executor": chosen,
        "command": list(argv),
        "steps": shown,
        "fetched": fetched,
        "submitted": list(dict.fromkeys(one["slurm"] for one in job.submissions)),
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
    return {"jobs": [looking.state(one, EXECUTORS[one.executor], verify) for one in chosen]}


def cancel(job: str, *, step: str | None = None, work: str | Path = WORK) -> Result:
    """End a job's tasks, or those of one step; what is finished stays."""
    found = jobs.named(Path(work), job)
    targets = looking.numbers(
        looking.tasks(found, EXECUTORS[found.executor]), {"waiting", "running"}, step
    )
    if step is not None:
        found.step(step)
    for name, tasks in targets.items():
        for number in tasks:
            found.cancel_mark(name, number).touch()
            found.note(name, number, "cancelled", reason="cancelled")
    EXECUTORS[found.executor].cancel(found, targets)
    return {"job": found.name, "cancelled": {name: len(tasks) for name, tasks in targets.items()}}


def retry(job: str, *, work: str | Path = WORK) -> Result:
    """Submit again what is neither finished, nor running, nor waiting, and all that comes after."""
    found = jobs.named(Path(work), job)
    EXECUTORS[found.executor].check(found)
    with jobs.changing(found, "retry"):
        return {"job": found.name, "retried": _retry(found, EXECUTORS[found.executor])}


def _retry(found: Job, executor: Executor) -> dict[str, int]:
    seen = looking.tasks(found, executor)
    targets = looking.numbers(seen, {"failed", "cancelled"})
    if not targets:
        return {}
    late = set(targets)
    for one in found.steps:  # they are in the order of their dependencies
        if late & set(one.after) and one.name not in targets:
            late.add(one.name)
    waiting = looking.numbers(seen, {"waiting"})
    stale = {name: tasks for name, tasks in waiting.items() if name in late}
    executor.cancel(found, stale)  # they are queued behind what failed, not behind its retry
    again = {
        one.name: list(range(len(one.tasks))) if one.name in late - set(targets)
        else sorted({*targets.get(one.name, []), *stale.get(one.name, [])})
        for one in found.steps if one.name in late
    }  # fmt: skip
    for name, tasks in again.items():
        for number in tasks:
            found.cancel_mark(name, number).unlink(missing_ok=True)
            found.note(name, number, "waiting", reason="", requeues=0, slurm=None)
    executor.submit(found, again)
    return {name: len(tasks) for name, tasks in again.items()}


def only_failed(failed: bool) -> None:
    """Insist on `--failed`, so that nobody expects finished work to be done again."""
    if not failed:
        raise UsageError("retry: say --failed: finished tasks are never done again")
