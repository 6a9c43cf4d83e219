"""How the results of `submit`, `status`, `cancel` and `retry` read on a terminal."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

_SHOWN = 12  # tasks of one step and state that are listed by name


def submitted(result: Mapping[str, Any]) -> str:
    """Say what was handed in."""
    lines = []
    if result.get("submitted"):
        lines.append(f"{result['job']} submitted (slurm: {', '.join(result['submitted'])})")
    elif "job" in result:
        lines.append(f"{result['job']} finished (local)")
    for step in result["steps"]:
        after = f", after {', '.join(step['after'])}" if step["after"] else ""
        tasks = f"{step['tasks']:,} task{'s' if step['tasks'] != 1 else ''}"
        lines.append(f"  {step['name']}: {tasks}{after}")
    if result.get("fetched"):
        lines.append(f"  in the cache for jobs without internet: {', '.join(result['fetched'])}")
    if "job" in result:
        lines.append(f"how far it is: sftdiv status {result['job']}")
    else:
        lines.append(f"executor {result['executor']}; nothing was submitted (--dry-run)")
    return "\n".join(lines)


def states(result: Mapping[str, Any]) -> str:
    """Show jobs: a line each, or the tasks where there is one job."""
    jobs = result["jobs"]
    if not jobs:
        return "no jobs"
    if len(jobs) > 1:
        return "\n".join(_head(job) for job in jobs)
    (job,) = jobs
    lines = [_head(job)]
    for step in dict.fromkeys(task["step"] for task in job["tasks"]):
        tasks = [task for task in job["tasks"] if task["step"] == step]
        for state in dict.fromkeys(task["state"] for task in tasks):
            lines += _tasks(step, state, [task for task in tasks if task["state"] == state])
    return "\n".join(lines)


def ended(result: Mapping[str, Any]) -> str:
    """Say what was cancelled or retried."""
    what = "cancelled" if "cancelled" in result else "retried"
    said = ", ".join(f"{name}: {count:,}" for name, count in result[what].items())
    return f"{result['job']}: {what} {said or 'nothing'}"


def _head(job: Mapping[str, Any]) -> str:
    counts = ", ".join(f"{count:,} {state}" for state, count in job["counts"].items() if count)
    return f"{job['job']} ({job['executor']}): {counts}; sftdiv {shlex.join(job['command'])}"


def _tasks(step: str, state: str, tasks: list[Mapping[str, Any]]) -> list[str]:
    """List tasks of one step and state: finished ones by number alone if they are many."""
    if len(tasks) > 1 and state in ("finished", "waiting", "cancelled"):
        reasons = {task["reason"] for task in tasks} - {""}
        names = [task["label"] for task in tasks[:_SHOWN]]
        more = [f"and {len(tasks) - _SHOWN:,} more"] if len(tasks) > _SHOWN else []
        why = f" ({'; '.join(sorted(reasons)[:3])})" if reasons else ""
        return [f"  {step}: {len(tasks):,} {state}{why}: {', '.join(names + more)}"]
    lines = []
    for task in tasks[:_SHOWN]:
        label = "" if task["label"] == step else f" {task['label']}"
        again = f", attempt {task['attempts']}" if task["attempts"] > 1 else ""
        slurm = f" [{task['slurm']}]" if task["slurm"] and state in ("running", "failed") else ""
        why = f": {task['reason']}" if task["reason"] else ""
        lines.append(f"  {step}{label}: {state}{again}{slurm}{why}")
        lines += [f"      {line[:160]}" for line in task["tail"]]
        lines += [f"      (log: {task['log']})"] if state == "failed" else []
    if len(tasks) > _SHOWN:
        lines.append(f"  {step}: {len(tasks) - _SHOWN:,} more {state}")
    return lines
