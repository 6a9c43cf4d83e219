"""The executor `local`: processes of this machine, started by one supervisor a job."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

from sft_diversity.cluster import entry, locks
from sft_diversity.cluster.base import Seen, Tasks
from sft_diversity.cluster.jobs import Job
from sft_diversity.core.errors import DataError, UsageError

LOCK = "supervisor.lock"
_TALKS = "supervisor.log"
_LEAVING_S = 2.0  # how long a supervisor that found nothing more to do may still hold the lock


class Local:
    """Executor of processes that outlive the command which submitted them."""

    def check(self, job: Job) -> None:
        """Refuse what one machine cannot do."""
        for step in job.steps:
            if job.profile.of(step.name).nodes > 1:
                raise UsageError(f"submit: step {step.name} asks for several nodes: use Slurm")

    def submit(self, job: Job, tasks: Tasks) -> None:
        """Mark the tasks as waiting and see that a supervisor is there."""
        for step, numbers in tasks.items():
            for number in numbers:
                job.note(step, number, "waiting", reason="")
        with locks.alone(job.place / LOCK, _LEAVING_S) as lock:
            if lock is not None:
                self._supervise(job, lock)

    def _supervise(self, job: Job, lock: int) -> None:
        """Start a supervisor that holds the lock from its first moment on."""
        os.set_inheritable(lock, True)
        command = entry.command(job.python, "supervisor", str(job.place), str(lock))
        to_log = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        try:
            os.posix_spawn(
                job.python,
                command,
                os.environ,
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_OPEN, 1, str(job.place / _TALKS), to_log, 0o644),
                    (os.POSIX_SPAWN_DUP2, 1, 2),
                ],
                setsid=True,  # it goes on when this terminal or process ends
            )
        except OSError as fault:
            raise DataError(f"submit: cannot start {job.python}: {fault.strerror}") from None

    def look(self, job: Job) -> dict[tuple[str, int], Seen]:
        """Return who runs, by locks that the system frees with a process."""
        supervised, found = locks.held(job.place / LOCK), {}
        for step in job.steps:
            for number in range(len(step.tasks)):
                lock = job.record_file(step.name, number).with_suffix(".lock")
                if locks.held(lock):
                    found[step.name, number] = Seen("running")
                elif supervised:
                    found[step.name, number] = Seen("waiting")
                else:
                    found[step.name, number] = Seen("ended", "its processes are gone")
        return found

    def cancel(self, job: Job, tasks: Tasks) -> None:
        """Signal the workers; the supervisor leaves out what is marked as cancelled."""
        for step, numbers in tasks.items():
            for number in numbers:
                lock = job.record_file(step, number).with_suffix(".lock")
                pid = (job.record(step, number) or {}).get("pid")
                if pid and locks.held(lock):
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGTERM)
