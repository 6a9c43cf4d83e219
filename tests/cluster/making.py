"""Jobs made by hand, and commands that are real but quick."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from sft_diversity.cluster import jobs, stage
from sft_diversity.cluster.jobs import Job, Step, Task
from sft_diversity.cluster.profile import Profile

OVER = {"finished", "failed", "cancelled"}


def job(place: Path, *steps: Step, executor: str = "local", **profile) -> Job:
    """Return a job that lies nowhere yet."""
    python = "/opt/venv/bin/python"
    return Job(place, ("verb",), Path("/home/user"), executor, python, Profile(**profile), steps)


def create(work: Path, *steps: Step, executor: str = "local", **profile) -> Job:
    """Make a job's folder in `work`; commands run in the current folder."""
    wanted = Job(Path(), ("test",), Path.cwd(), executor, sys.executable, Profile(**profile), steps)
    return jobs.create(work, wanted)


def task(label: str, *argv: str, out: tuple[str, ...] = ()) -> Task:
    """Return a task of no step yet; without `out` its exit code alone says that it is done."""
    return Task("", 0, label, argv, out)


def step(name: str, *tasks: Task, **how) -> Step:
    """Return a step of these tasks."""
    numbered = tuple(replace(task, step=name, number=n) for n, task in enumerate(tasks))
    return Step(name, numbered, **how)


def wait(name: str, work: Path, timeout_s: float = 300.0) -> dict[str, Any]:
    """Return the state of a job once all its tasks are over."""
    until = time.monotonic() + timeout_s
    while True:
        (found,) = stage.status(name, work=work)["jobs"]
        if all(one["state"] in OVER for one in found["tasks"]):
            return found
        assert time.monotonic() < until, found
        time.sleep(0.5)


def states(found: dict[str, Any]) -> dict[str, str]:
    """Return each task's state by its label."""
    return {one["label"]: one["state"] for one in found["tasks"]}
