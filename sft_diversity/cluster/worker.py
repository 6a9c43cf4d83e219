"""One task of a job: a process of its own, the same under every executor.

It waits for nobody: it checks that the steps before it are finished, runs the command, passes a
request to stop on, verifies the output and keeps a record. Exit code 75: stopped, to be run again.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any, BinaryIO

from sft_diversity.cluster import jobs, launch, locks, outputs, slurm_job
from sft_diversity.cluster.jobs import Job, Step, Task
from sft_diversity.core import children
from sft_diversity.core.errors import Interrupted, SftdivError

STOPPED = Interrupted.exit_code
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
_POLL_S = 0.2
_LOCK_WAIT_S = 60.0  # an attempt that was ended may take its time to be gone
_AGAIN_S = 10.0  # a process may not have had its handler yet when the first signal came
_COMMAND = """\
import sys
sys.argv[:1] = ["sftdiv"]
from sft_diversity.cli import main
main()
"""
_TAIL_BYTES = 1 << 16


def main(arguments: list[str]) -> int:
    """Do a task: JOB folder, STEP, number of the TASK; under Slurm plus the array's index."""
    stop = _Stop()
    place, step_name, number = arguments
    index = int(number) + int(os.environ.get("SLURM_ARRAY_TASK_ID") or 0)
    try:
        job = jobs.load(Path(place))
        step = job.step(step_name)
        if slurm_job.rank() > 0:  # a further node of a task: the first keeps the record
            code = _run(job, step, step.tasks[index], index, stop)
            return 0 if stop.came else code  # the first must not be killed for what we were told
        return _alone(job, step, index, stop)
    except SftdivError as fault:
        print(f"error: {fault}", file=sys.stderr)
        return fault.exit_code
    except OSError as fault:  # `status` looks at the folder: what is said here may be lost too
        print(f"error: {step_name}: cannot write {place}: {fault.strerror}", file=sys.stderr)
        return 1


def _alone(job: Job, step: Step, index: int, stop: _Stop) -> int:
    """Do a task unless it is done, or another process is at it."""
    task = step.tasks[index]
    with locks.alone(job.record_file(step.name, index).with_suffix(".lock"), _LOCK_WAIT_S) as lock:
        if lock is None:
            print(f"error: another process is at {step.name} {task.label}", file=sys.stderr)
            return 1
        if job.cancel_mark(step.name, index).exists():
            job.note(step.name, index, "cancelled", reason="cancelled")
            return 1
        found = job.record(step.name, index) or {}
        if found.get("state") == "finished" and not outputs.still(
            task.output, job.cwd, found["output"]
        ):
            return 0
        missing = _missing(job, step)
        if missing:
            job.note(step.name, index, "failed", reason=missing, exit_code=None, **_here())
            return 1
        return _attempt(job, step, index, stop)


def _missing(job: Job, step: Step) -> str:
    """Say what a strict step lacks of those before it."""
    for name in step.after if step.strict else ():
        _ = [*job.record_file(name, 0).parent.iterdir()]  # on NFS: see what other nodes wrote
        for index, task in enumerate(job.step(name).tasks):
            if (job.record(name, index) or {}).get("state") != "finished":
                return f"step {name} did not finish ({task.label})"
    return ""


def _attempt(job: Job, step: Step, index: int, stop: _Stop) -> int:
    """Run the command once and record how it ended."""
    before = job.record(step.name, index) or {"attempts": 0}
    log = job.log(step.name, index)
    log_from = log.stat().st_size if log.is_file() else 0
    job.note(
        step.name, index, "running",
        attempts=before["attempts"] + 1, started=jobs.now(), ended=None, reason="", exit_code=None,
        output={}, log_from=log_from, **_here(),
    )  # fmt: skip
    began = time.monotonic()
    code = _run(job, step, step.tasks[index], index, stop)
    how = {"exit_code": code, "ended": jobs.now(), "seconds": round(time.monotonic() - began, 3)}
    if code == 0:
        proved = outputs.proof(step.tasks[index].output, job.cwd)
        if not proved["faults"]:
            job.note(step.name, index, "finished", output=proved, **how)
            return 0
        reason = f"the command ended well, but {proved['faults'][0]}"
        job.note(step.name, index, "failed", reason=reason, **how)
        return 1
    if _was_stopped(code, step, stop):
        return _again(job, step, index, stop, how)
    job.note(
        step.name,
        index,
        "failed",
        reason=_reason(code, job.log(step.name, index), log_from),
        **how,
    )
    return code if code > 0 else 128 - code


def _was_stopped(code: int, step: Step, stop: _Stop) -> bool:
    """Whether a command that failed only did as it was told; a launcher has 1 for everything."""
    if code == STOPPED:
        return True
    by_signal = {-int(number) for number in _SIGNALS} | {128 + int(n) for n in _SIGNALS}
    return bool(stop.came) and (code in by_signal or (step.launch and code != 0))


def _again(job: Job, step: Step, index: int, stop: _Stop, how: Mapping[str, Any]) -> int:
    """Have a stopped task started again, unless it was cancelled or has been stopped too often."""
    record = job.record(step.name, index) or {}
    by = stop.came or "a signal"
    ending = slurm_job.ending()
    if job.cancel_mark(step.name, index).exists() or ending == "cancelled":
        job.note(step.name, index, "cancelled", reason=f"cancelled ({by})", **how)
        return 1
    requeues = record.get("requeues", 0) + 1
    if requeues > job.profile.max_requeues:
        reason = f"stopped by {by} for the {requeues}. time; max_requeues is {requeues - 1}"
        job.note(step.name, index, "failed", reason=reason, **how)
        return 1
    job.note(step.name, index, "stopped", reason=f"stopped by {by}", requeues=requeues, **how)
    fault = "" if ending else slurm_job.requeue()
    if fault:
        job.note(step.name, index, "failed", reason=f"stopped by {by}; not requeued: {fault}")
        return 1
    return STOPPED


def _run(job: Job, step: Step, task: Task, index: int, stop: _Stop) -> int:
    """Run the command of a task to its end; return its exit code."""
    log = job.log(step.name, index)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as handle:
        process = _started(job, step, task, handle)
    stop.watch(process.pid, step.launch)
    while (code := process.poll()) is None:
        stop.repeat()
        time.sleep(_POLL_S)
    stop.forget()
    return code


def _started(job: Job, step: Step, task: Task, log: BinaryIO) -> subprocess.Popen[bytes]:
    """Start the command: an interpreter of its own, or a launcher for several processes."""
    command = children.command(job.python, _COMMAND, *task.argv)
    if step.launch:
        command = launch.command(job, step, task)
    with _deaf() if step.launch else contextlib.nullcontext():
        return subprocess.Popen(
            command,
            cwd=job.cwd,
            env=os.environ | (launch.ENVIRONMENT if step.launch else {}),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    """Let a launcher's processes be born deaf to SIGUSR1 and SIGTERM.

    Slurm signals all processes of a step. The launcher would end those it started within seconds;
    it stays deaf, and the training processes, which set handlers of their own, write a checkpoint.
    """
    numbers = (signal.SIGUSR1, signal.SIGTERM)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Stop:
    """A request to stop, passed on to the command as SIGUSR1."""

    def __init__(self) -> None:
        self.came = ""
        self._pid, self._launched, self._told = 0, False, 0.0
        for number in _SIGNALS:
            signal.signal(number, self._received)

    def watch(self, pid: int, launched: bool) -> None:
        """Pass requests on to this process from now on."""
        self._pid, self._launched = pid, launched
        if self.came:
            self._tell()

    def forget(self) -> None:
        """The process has ended."""
        self._pid = 0

    def repeat(self) -> None:
        """Tell processes of a launcher again: some may not have been there the first time."""
        if self.came and self._launched and time.monotonic() - self._told > _AGAIN_S:
            self._tell()

    def _received(self, number: int, _frame: FrameType | None) -> None:
        if not self.came:
            self.came = signal.Signals(number).name
            self._tell()

    def _tell(self) -> None:
        if not self._pid:
            return
        self._told = time.monotonic()
        for pid in launch.training(self._pid) if self._launched else [self._pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGUSR1)


def _reason(code: int, log: Path, start: int) -> str:
    """Say in a line why a command failed: its own error, the signal, or its last words."""
    with log.open("rb") as handle:
        handle.seek(max(start, log.stat().st_size - _TAIL_BYTES))
        lines = [line.strip() for line in handle.read().decode("utf-8", "replace").splitlines()]
    errors = [line for line in lines if line.startswith("error: ")]
    if code < 0:
        said = f"killed by {signal.Signals(-code).name}"
        return said + (" (out of memory?)" if code == -signal.SIGKILL else "")
    if errors:
        return errors[-1].removeprefix("error: ")
    words = [line for line in lines if re.search(r"\w", line)]
    return f"exit code {code}" + (f": {words[-1][:200]}" if words else "")


def _here() -> dict[str, Any]:
    return {"host": platform.node(), "pid": os.getpid(), "slurm": slurm_job.own_id()}
