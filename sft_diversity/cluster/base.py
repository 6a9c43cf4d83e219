"""What an executor does. `local` and `slurm` start the same worker on the same job folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from sft_diversity.cluster.jobs import Job

#: Tasks by step: their numbers, ascending.
Tasks = Mapping[str, Sequence[int]]


@dataclass(frozen=True)
class Seen:
    """A task as its executor sees it."""

    state: Literal["waiting", "running", "ended"]
    reason: str = ""


class Executor(Protocol):
    """Starts tasks and knows which are alive."""

    def check(self, job: Job) -> None:
        """Refuse a job that could not be started here."""
        ...

    def submit(self, job: Job, tasks: Tasks) -> None:
        """Have these tasks started, each step after those it names; returns at once."""
        ...

    def look(self, job: Job) -> dict[tuple[str, int], Seen]:
        """Return the tasks that the executor knows, by step and number."""
        ...

    def cancel(self, job: Job, tasks: Tasks) -> None:
        """End these tasks, and take those out of the queue that have not begun."""
        ...
