"""The executor `local`: the tasks run here and now, one after the other, with the same records."""

from __future__ import annotations

from collections.abc import Sequence

from sft_diversity.cluster import worker
from sft_diversity.cluster.jobs import Job, Seen, Step, Task
from sft_diversity.cluster.profile import Profile
from sft_diversity.core import locks, stopping
from sft_diversity.core.errors import Interrupted, UsageError
from sft_diversity.core.progress import say


def check(profile: Profile, steps: Sequence[Step]) -> None:
    """Refuse what one machine cannot do."""
    for step in steps:
        if profile.of(step.name).nodes > 1:
            raise UsageError(f"submit: step {step.name} asks for several nodes: use Slurm")


def start(job: Job, tasks: Sequence[Task]) -> list[str]:
    """Run the tasks in their order; returns when all are over.

    Raises
    ------
    Interrupted
        If a signal came: it was passed on, and what was stopped can be taken up again.
    """
    for task in tasks:
        code = worker.STOPPED
        while code == worker.STOPPED:
            if stopping.requested():
                way_out = f"`sftdiv retry --failed {job.name}` goes on"
                raise Interrupted(f"{job.name}: stopped by {stopping.received()}; {way_out}")
            code = worker.do(job, task)
        record = job.record(task)
        why = f": {record['reason']}" if record["reason"] else ""
        say(f"{job.name}: {task.step} {task.label}: {record['state']}{why}")
    return []


def look(job: Job, busy: bool) -> dict[Task, Seen]:
    """Return who runs, by locks that the system frees with a process."""
    rest = Seen("waiting") if busy else Seen("ended", "its process is gone")
    return {
        task: Seen("running") if locks.held(job.file(task, "json")) else rest for task in job.tasks
    }


def cancel(job: Job, tasks: Sequence[Task]) -> None:
    """Do nothing: whoever runs the tasks sees that they are marked."""
