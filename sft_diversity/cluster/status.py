"""How far a job is: what its records say, what the executor sees, and what lies there."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sft_diversity.cluster import outputs
from sft_diversity.cluster.jobs import Executor, Job, Record, Seen, Step
from sft_diversity.core import locks
from sft_diversity.core.errors import DataError

STATES = ("waiting", "running", "finished", "failed", "cancelled")
_TAIL_LINES, _TAIL_BYTES = 5, 8192
_LEAST_BYTES = 65_536  # of a disk that is not full
_MEMORY = ("exceeded memory limit", "oom-kill", "oom_kill", "Out Of Memory")


@dataclass(frozen=True)
class TaskState:
    """One task of a job, for `status`."""

    step: str
    number: int
    label: str
    state: str
    reason: str
    attempts: int
    requeues: int
    slurm: str | None
    log: str
    tail: tuple[str, ...]


def state(job: Job, executor: Executor, verify: bool = False) -> dict[str, Any]:
    """Return a job's tasks and how many are in which state."""
    found = tasks(job, executor, verify, busy=locks.held(job.lock))
    return {
        "job": job.name,
        "command": list(job.command),
        "executor": job.executor,
        "folder": str(job.place),
        "counts": {name: sum(one.state == name for one in found) for name in STATES},
        "tasks": [asdict(one) for one in found],
    }


def tasks(
    job: Job, executor: Executor, verify: bool = False, busy: bool = False
) -> list[TaskState]:
    """Return the tasks in the order of the steps; `busy`: another process is at the job."""
    unknown = "is being submitted" if busy else ""
    try:
        seen = executor.look(job, busy)
    except DataError as fault:  # a controller that is down has lost nothing
        seen, unknown = {}, str(fault)
    return [
        _task(job, step, number, seen.get((step.name, number)), unknown, verify)
        for step in job.steps
        for number in range(len(step.tasks))
    ]


def numbers(
    found: Iterable[TaskState], states: set[str], step: str | None = None
) -> dict[str, list[int]]:
    """Return the tasks in one of these states, by step."""
    chosen: dict[str, list[int]] = {}
    for one in found:
        if one.state in states and step in (None, one.step):
            chosen.setdefault(one.step, []).append(one.number)
    return chosen


def _task(
    job: Job, step: Step, number: int, seen: Seen | None, unknown: str, verify: bool
) -> TaskState:
    record = job.record(step.name, number)
    if record["state"] == "finished":
        fault = outputs.prove(step.tasks[number].outputs, job.cwd)[0] if verify else ""
        fault = fault or outputs.changed(record["outputs"])
        name, reason = ("failed", fault) if fault else ("finished", "")
    elif record["state"] in ("failed", "cancelled"):
        name, reason = record["state"], record["reason"]
    elif seen is None and unknown:
        name, reason = "running" if record["state"] == "running" else "waiting", unknown
    elif seen is None:
        name, reason = "failed", "was never submitted"
    elif seen.state == "ended":
        name, reason = _lost(job, step, number, record, seen)
    else:
        again = seen.state == "waiting" and record["state"] == "stopped"
        name, said = seen.state, f"{record['reason']}, starts again" if again else ""
        reason = "; ".join(filter(None, (said, seen.reason)))
    tail = _tail(job, step, number, record) if name in ("running", "failed") else []
    return TaskState(
        step.name, number, step.tasks[number].label, name, reason, record["attempts"],
        record["requeues"], record["slurm"], str(job.file(step.name, number, "log")), tuple(tail),
    )  # fmt: skip


def _lost(job: Job, step: Step, number: int, record: Record, seen: Seen) -> tuple[str, str]:
    """Explain a task that ended and could not say how."""
    if seen.reason == "CANCELLED":
        return "cancelled", "cancelled in Slurm"
    said = "\n".join(_tail(job, step, number, record, 50))
    if seen.reason == "OUT_OF_MEMORY" or any(words in said for words in _MEMORY):
        return "failed", "killed: it took more memory than the job has; raise memory_gb"
    if seen.reason == "TIMEOUT":
        return (
            "failed",
            "killed at its time limit: it did not stop in time; raise signal_s or time_min",
        )
    began = "its process ended without a word" if record["attempts"] else "never began"
    if record["state"] == "stopped":
        began = f"{record['reason']}, not started again"
    return "failed", _unwritable(job.place) or f"{began}: {seen.reason}"


def _unwritable(place: Path) -> str:
    """Say why nothing can be written into a job's folder now; a task that ends there is mute."""
    found = os.statvfs(place)
    if found.f_flag & os.ST_RDONLY:
        code = errno.EROFS
    elif found.f_bavail * found.f_frsize < _LEAST_BYTES or (found.f_files and not found.f_favail):
        code = errno.ENOSPC
    else:
        return ""
    return f"{place} cannot be written: {os.strerror(code)}"


def _tail(job: Job, step: Step, number: int, record: Record, lines: int = _TAIL_LINES) -> list[str]:
    """Return the last lines of a task's log, and of what Slurm said beside it of one that ended."""
    found: list[str] = []
    places = [(job.file(step.name, number, "log"), record.get("log_from", 0))]
    if record["slurm"]:
        places.append(
            (job.file(step.name, number, "log").with_name(f"slurm-{record['slurm']}.out"), 0)
        )
    for path, start in places:
        try:
            with path.open("rb") as handle:
                handle.seek(max(path.stat().st_size - _TAIL_BYTES, start))
                text = handle.read().decode("utf-8", "replace")
        except OSError:
            continue
        written = [line.rstrip() for line in text.replace("\r", "\n").splitlines()]
        found += [line for line in written if line.strip()][-lines:]
    return found
