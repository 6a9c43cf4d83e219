"""How far a job is: what its records say, what the executor sees, and what lies there."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sft_diversity.cluster import jobs, locks, outputs
from sft_diversity.cluster.base import Executor, Seen
from sft_diversity.cluster.jobs import Job, Record, Step
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
    found = tasks(job, executor, verify, submitting=locks.held(job.place / jobs.SUBMITTING))
    counts = {name: sum(one.state == name for one in found) for name in STATES}
    return {
        "job": job.name,
        "command": list(job.command),
        "executor": job.executor,
        "folder": str(job.place),
        "counts": counts,
        "tasks": [asdict(one) for one in found],
    }


def tasks(
    job: Job, executor: Executor, verify: bool = False, submitting: bool = False
) -> list[TaskState]:
    """Return the tasks in the order of the steps; `submitting`: another process hands them in."""
    unknown = ""
    try:
        seen = executor.look(job)
    except DataError as fault:  # a controller that is down has lost nothing
        seen, unknown = {}, str(fault)
    if submitting:
        unknown = unknown or "is being submitted"
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
    name, reason = _judged(job, step, number, record, seen, unknown, verify)
    record = dict(record or {}, state=name)
    log = job.log(step.name, number)
    show = name in ("running", "failed")
    return TaskState(
        step.name, number, step.tasks[number].label, name, reason, record.get("attempts", 0),
        record.get("requeues", 0), record.get("slurm"), str(log),
        tuple(_tail(job, step, number, record) if show else ()),
    )  # fmt: skip


def _judged(
    job: Job,
    step: Step,
    number: int,
    record: Record | None,
    seen: Seen | None,
    unknown: str,
    verify: bool,
) -> tuple[str, str]:
    """Return a task's state and the reason."""
    noted = (record or {}).get("state", "waiting")
    reason = (record or {}).get("reason", "")
    if noted == "finished":
        assert record is not None
        fault = _fault(job, step, number, record, verify)
        return ("failed", fault) if fault else ("finished", "")
    if noted in ("failed", "cancelled"):
        return noted, reason
    if unknown and seen is None:
        return ("running" if noted == "running" else "waiting"), unknown
    if seen is None:
        return "failed", "was never submitted"
    if seen.state == "running":
        return "running", seen.reason
    if seen.state == "waiting":
        again = f"{reason}, starts again" if noted == "stopped" and reason else ""
        return "waiting", "; ".join(filter(None, (again, seen.reason)))
    return _lost(job, step, number, record or {}, seen)


def _fault(job: Job, step: Step, number: int, record: Record, verify: bool) -> str:
    output = step.tasks[number].output
    if verify:
        faults = outputs.proof(output, job.cwd)["faults"]
        return str(faults[0]) if faults else ""
    return outputs.still(output, job.cwd, record["output"])


def _lost(job: Job, step: Step, number: int, record: Record, seen: Seen) -> tuple[str, str]:
    """Explain a task that ended and could not say how."""
    if seen.reason == "CANCELLED":
        return "cancelled", "cancelled in Slurm"
    said = "\n".join(_tail(job, step, number, {**record, "state": "failed"}, 50))
    if seen.reason == "OUT_OF_MEMORY" or any(words in said for words in _MEMORY):
        return "failed", "killed: it took more memory than the job has; raise memory_gb"
    if seen.reason == "TIMEOUT":
        return (
            "failed",
            "killed at its time limit: it did not stop in time; raise signal_s or time_min",
        )
    began = "its process ended without a word" if record.get("attempts") else "never began"
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
    """Return the last lines of a task's log, and of what Slurm said beside it."""
    found: list[str] = []
    places = [(job.log(step.name, number), record.get("log_from", 0))]
    if record.get("slurm") and record["state"] != "running":
        places.append((job.place / "logs" / step.name / f"slurm-{record['slurm']}.out", 0))
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
