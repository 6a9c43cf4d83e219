"""The process behind the executor `local`: starts a job's tasks as their turn comes.

It keeps no state of its own. What is to be done stands in the records, so that another supervisor
may take over where one was killed.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from sft_diversity.cluster import entry, jobs, locks
from sft_diversity.cluster.jobs import Job, Step
from sft_diversity.core import machine, stopping

_POLL_S = 0.2
_TASKS_PER_S = 2_000
_OPEN = ("waiting", "running", "stopped")  # states of a task that is not over


@dataclass
class _Running:
    process: subprocess.Popen[bytes]
    cpus: int
    limit_s: float | None
    started: float
    attempts: int  # of the task before this one
    told: bool = False


class Supervisor:
    """Starts tasks in the order of their steps, as many as fit."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._tasks = sum(len(step.tasks) for step in job.steps)
        self._running: dict[tuple[str, int], _Running] = {}

    def run(self) -> None:
        """Go on until no task is left that could be started."""
        while True:
            self._reap()
            if stopping.requested():
                self._stop()
                return
            ready = self._ready()
            for step, number in ready:
                if (step.name, number) not in self._running and self._fits(step):
                    self._start(step, number)
            if not self._running and not ready and not self._others():
                return
            time.sleep(_POLL_S + self._tasks / _TASKS_PER_S)  # each look reads all records

    def _state(self, step: Step, number: int) -> str:
        return str((self._job.record(step.name, number) or {}).get("state", "waiting"))

    def _ready(self) -> list[tuple[Step, int]]:
        """Return the tasks whose turn has come."""
        over = {
            step.name: all(self._state(step, n) not in _OPEN for n in range(len(step.tasks)))
            for step in self._job.steps
        }
        return [
            (step, number)
            for step in self._job.steps
            if all(over[name] for name in step.after)
            for number in range(len(step.tasks))
            if self._state(step, number) in ("waiting", "stopped")
        ]

    def _others(self) -> bool:
        """Whether tasks run that a supervisor before this one started."""
        found = False
        for step in self._job.steps:
            for number in range(len(step.tasks)):
                if self._state(step, number) != "running":
                    continue
                lock = self._job.record_file(step.name, number).with_suffix(".lock")
                if locks.held(lock):
                    found = True
                elif self._state(step, number) == "running":
                    reason = "its process ended without a word"
                    self._job.note(step.name, number, "failed", reason=reason)
        return found

    def _fits(self, step: Step) -> bool:
        profile = self._job.profile
        asked = profile.of(step.name)
        if not self._running:
            return True
        if profile.jobs is not None:
            return len(self._running) < profile.jobs
        of_step = sum(name == step.name for name, _ in self._running)
        if of_step >= (asked.concurrency or 1_000_000) or asked.gpus:
            return False
        return sum(one.cpus for one in self._running.values()) + asked.cpus <= machine.cores()

    def _start(self, step: Step, number: int) -> None:
        job, profile = self._job, self._job.profile
        command = entry.command(job.python, "worker", str(job.place), step.name, str(number))
        attempts = (job.record(step.name, number) or {}).get("attempts", 0)
        lines = [f"module load {shlex.quote(name)} || exit 1" for name in profile.modules] + [
            *profile.setup
        ]
        if lines:
            command = ["bash", "-c", "\n".join([*lines, 'exec "$@"']), "task", *command]
        with (job.place / "logs" / step.name / "worker.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                env=_without_slurm() | job.environment(step.name),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        asked = profile.of(step.name)
        limit = None if asked.time_min is None else 60.0 * asked.time_min
        self._running[step.name, number] = _Running(
            process, asked.cpus, limit, time.monotonic(), attempts
        )

    def _reap(self) -> None:
        """Note what has ended; tell tasks to stop that are near their time limit."""
        for (name, number), one in list(self._running.items()):
            code = one.process.poll()
            if code is not None:
                del self._running[name, number]
                self._account(name, number, code, one.attempts)
            elif one.limit_s is not None:
                self._limit(one, time.monotonic() - one.started)

    def _limit(self, one: _Running, seconds: float) -> None:
        assert one.limit_s is not None
        if seconds > one.limit_s:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(one.process.pid, signal.SIGKILL)
        elif seconds > one.limit_s - self._job.profile.signal_s and not one.told:
            one.told = True
            one.process.send_signal(signal.SIGUSR1)

    def _account(self, name: str, number: int, code: int, before: int) -> None:
        """See that a task whose process has ended is in no state that says otherwise.

        It may be waiting again by now: a retry came before this process was gone.
        """
        record = self._job.record(name, number) or {}
        state, began = record.get("state", "waiting"), record.get("attempts", 0) > before
        if state not in ("waiting", "running") or (state == "waiting" and began):
            return
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        self._job.note(
            name, number, "failed", reason=f"its process ended without a word: {how}",
            ended=jobs.now(),
        )  # fmt: skip

    def _stop(self) -> None:
        """Pass a signal on and wait; what was stopped waits for the next supervisor."""
        for one in self._running.values():
            one.process.send_signal(signal.SIGUSR1)
        while self._running:
            self._reap()
            time.sleep(_POLL_S)


def _without_slurm() -> dict[str, str]:
    """Return this environment: started within a Slurm job, tasks must not requeue that job."""
    return {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}


def main(arguments: list[str]) -> int:
    """Supervise the job of a FOLDER; LOCK is the descriptor of the lock that says so."""
    stopping.install()
    job = jobs.load(Path(arguments[0]))
    Supervisor(job).run()
    os.close(int(arguments[1]))  # the lock: at once, so that a retry need not wait for this to end
    return 0
