"""How far a job is: what its records say, what the executor sees, and what lies there."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

from sft_diversity.cluster import outputs
from sft_diversity.cluster.jobs import Executor, Job, Record, Seen, Task
from sft_diversity.core import locks
from sft_diversity.core.errors import DataError

STATES = ("waiting", "running", "finished", "failed", "cancelled")
_TAIL_LINES, _TAIL_BYTES = 5, 8192
_LEAST_BYTES = 65_536  # of a disk that is not full
_MEMORY = ("exceeded memory limit", "oom-kill", "oom_kill", "Out Of Memory")


def shown(job: Job, executor: Executor, verify: bool = False) -> dict[str, Any]:
    """Return a job's tasks, how many are in which state, and the last words of some."""
    found = states(job, executor, busy=locks.held(job.lock), verify=verify)
    tasks = []
    for task, (state, reason) in found.items():
        record = job.record(task)
        more = {name: record[name] for name in ("attempts", "requeues", "slurm")}
        tail = _tail(job, task, record) if state in ("running", "failed") else []
        tasks.append(
            {"step": task.step, "number": task.number, "label": task.label, "state": state,
             "reason": reason, **more, "log": str(job.file(task, "log")), "tail": tail}
        )  # fmt: skip
    return {
        "job": job.name,
        "command": list(job.command),
        "executor": job.executor,
        "folder": str(job.place),
        "counts": {name: sum(one["state"] == name for one in tasks) for name in STATES},
        "tasks": tasks,
    }


def states(
    job: Job, executor: Executor, *, busy: bool = False, verify: bool = False
) -> dict[Task, tuple[str, str]]:
    """Return the state and the reason of each task, in the order of the steps.

    `busy`: another process is at the job. `verify`: read finished outputs again.
    """
    unknown = "is being submitted" if busy else ""
    try:
        seen = executor.look(job, busy)
    except DataError as fault:  # a controller that is down has lost nothing
        seen, unknown = {}, str(fault)
    return {task: _state(job, task, seen.get(task), unknown, verify) for task in job.tasks}


def _state(job: Job, task: Task, seen: Seen | None, unknown: str, verify: bool) -> tuple[str, str]:
    record = job.record(task)
    state, reason = record["state"], record["reason"]
    if state == "finished":
        fault = outputs.prove(task.outputs, job.cwd)[0] if verify else ""
        fault = fault or outputs.changed(record["outputs"])
        return ("failed", fault) if fault else ("finished", "")
    if state in ("failed", "cancelled"):
        return state, reason
    if seen is None and unknown:
        return "running" if state == "running" else "waiting", unknown
    if seen is None:
        return "failed", "was never submitted"
    if seen.state == "ended":
        return _lost(job, task, record, seen.reason)
    again = f"{reason}, starts again" if (seen.state, state) == ("waiting", "stopped") else ""
    return seen.state, "; ".join(filter(None, (again, seen.reason)))


def _lost(job: Job, task: Task, record: Record, how: str) -> tuple[str, str]:
    """Explain a task that ended and could not say how."""
    if how == "CANCELLED":
        return "cancelled", "cancelled in Slurm"
    said = "\n".join(_tail(job, task, record, 50))
    if how == "OUT_OF_MEMORY" or any(words in said for words in _MEMORY):
        return "failed", "killed: it took more memory than the job has; raise memory_gb"
    if how == "TIMEOUT":
        reason = "killed at its time limit: it did not stop in time; raise signal_s or time_min"
        return "failed", reason
    began = "its process ended without a word" if record["attempts"] else "never began"
    if record["state"] == "stopped":
        began = f"{record['reason']}, not started again"
    return "failed", _unwritable(job.place) or f"{began}: {how}"


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


def _tail(job: Job, task: Task, record: Record, lines: int = _TAIL_LINES) -> list[str]:
    """Return the last lines of a task's newest attempt, and of what Slurm said beside it."""
    log, found = job.file(task, "log"), list[str]()
    for path, start in (
        (log, record.get("log_from", 0)),
        (log.with_name(f"slurm-{record['slurm']}.out"), 0),
    ):
        try:
            with path.open("rb") as handle:
                handle.seek(max(path.stat().st_size - _TAIL_BYTES, start))
                text = handle.read().decode("utf-8", "replace")
        except OSError:
            continue
        written = [line.rstrip() for line in text.replace("\r", "\n").splitlines()]
        found += [line for line in written if line.strip()][-lines:]
    return found
