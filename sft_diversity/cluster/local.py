"""The executor `local`: the tasks run here and now, one after the other, with the same records."""

from __future__ import annotations

from collections.abc import Sequence

from sft_diversity.cluster import worker
from sft_diversity.cluster.jobs import Job, Seen, Step, Tasks
from sft_diversity.cluster.profile import Profile
from sft_diversity.core import locks, stopping
from sft_diversity.core.errors import Interrupted, UsageError
from sft_diversity.core.progress import say


def check(profile: Profile, steps: Sequence[Step]) -> None:
    """Refuse what one machine cannot do."""
    for step in steps:
        if profile.of(step.name).nodes > 1:
            raise UsageError(f"submit: step {step.name} asks for several nodes: use Slurm")


def start(job: Job, tasks: Tasks) -> list[str]:
    """Run the tasks, step after step; returns when all are over.

    Raises
    ------
    Interrupted
        If a signal came: it was passed on, and what was stopped can be taken up again.
    """
    for step in job.steps:
        for number in tasks.get(step.name, ()):
            code = worker.STOPPED
            while code == worker.STOPPED:
                if stopping.requested():
                    way_out = f"`sftdiv retry --failed {job.name}` goes on"
                    raise Interrupted(f"{job.name}: stopped by {stopping.received()}; {way_out}")
                code = worker.do(job, step, number)
            record = job.record(step.name, number)
            why = f": {record['reason']}" if record["reason"] else ""
            say(f"{job.name}: {step.name} {step.tasks[number].label}: {record['state']}{why}")
    return []


def look(job: Job, busy: bool) -> dict[tuple[str, int], Seen]:
    """Return who runs, by locks that the system frees with a process."""
    rest = Seen("waiting") if busy else Seen("ended", "its process is gone")
    return {
        (step.name, number): Seen("running") if locks.held(record) else rest
        for step in job.steps
        for number in range(len(step.tasks))
        for record in [job.file(step.name, number, "json")]
    }


def cancel(job: Job, tasks: Tasks) -> None:
    """Do nothing: whoever runs the tasks sees that they are marked."""
