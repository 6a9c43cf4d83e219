"""One task of a job, the same under every executor; under Slurm in a process of its own.

It waits for nobody: it checks that the steps before it are finished, runs the command, passes a
request to stop on, verifies the outputs and keeps a record. Exit code 75: stopped, to be run again.
"""

from __future__ import annotations

import contextlib
import math
import os
import platform
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sft_diversity.cluster import jobs, outputs, slurm
from sft_diversity.cluster.jobs import Job, Step, Task, private
from sft_diversity.core import children, locks, stopping
from sft_diversity.core.errors import Interrupted, SftdivError

STOPPED = Interrupted.exit_code
_BY_SIGNAL = {sign for number in stopping.SIGNALS for sign in (-int(number), 128 + int(number))}
#: A launcher must not end training on a signal, but let it write a checkpoint; see `_deaf`.
_LAUNCHED = {"TORCHELASTIC_SIGNALS_TO_HANDLE": "SIGQUIT"}
_POLL_S = 0.2
_AGAIN_S = 10.0  # a process may not have had its handler yet when the first signal came
_COMMAND = """\
import sys
sys.argv[:1] = ["sftdiv"]
from sft_diversity.cli import main
main()
"""
_LAUNCH = "from accelerate.commands.launch import main\nmain()\n"
_TAIL_BYTES = 1 << 16


def main() -> None:
    """Do a task: JOB folder, STEP, number of the TASK; exit as it ended."""
    stopping.install()
    place, step, number = sys.argv[1:]
    try:
        job = jobs.load(Path(place))
        task = job.step(step).tasks[int(number)]
        if slurm.rank() > 0:  # a further node of a task: the first keeps the record
            code, told = _run(job, task)
            sys.exit(0 if told else code)  # the first must not be killed for what we were told
        sys.exit(do(job, task))
    except SftdivError as fault:
        print(f"error: {fault}", file=sys.stderr)
        sys.exit(fault.exit_code)
    except OSError as fault:  # `status` looks at the folder: what is said here may be lost too
        print(f"error: {step}: cannot write {place}: {fault.strerror}", file=sys.stderr)
        sys.exit(1)


def do(job: Job, task: Task) -> int:
    """Do a task unless it is done or cancelled; return an exit code.

    Cost: the command's, and the interpreter's that it starts.
    """
    # an attempt that was ended may take its time to be gone
    with locks.alone(job.file(task, "json"), f"{task.step} {task.label}"):
        record = job.record(task)
        if job.file(task, "cancel").exists():
            job.note(task, "cancelled", "cancelled")
            return 1
        if record["state"] == "finished" and not outputs.changed(record["outputs"]):
            return 0
        missing = _missing(job, job.step(task.step))
        if missing:
            job.note(task, "failed", missing, exit_code=None, **_here(job))
            return 1
        return _attempt(job, task)


def _missing(job: Job, step: Step) -> str:
    """Say what a strict step lacks of those before it."""
    for name in step.after if step.strict else ():
        _ = [*(job.place / "tasks" / name).iterdir()]  # on NFS: see what other nodes wrote
        for task in job.step(name).tasks:
            if job.record(task)["state"] != "finished":
                return f"step {name} did not finish ({task.label})"
    return ""


def _attempt(job: Job, task: Task) -> int:
    """Run the command once and record how it ended."""
    log, launch = job.file(task, "log"), job.step(task.step).launch
    log_from = log.stat().st_size if log.is_file() else 0
    job.note(
        task, "running", attempts=job.record(task)["attempts"] + 1, started=jobs.now(), ended=None,
        exit_code=None, outputs={}, log_from=log_from, **_here(job),
    )  # fmt: skip
    began = time.monotonic()
    code, told = _run(job, task)
    how = {"exit_code": code, "ended": jobs.now(), "seconds": round(time.monotonic() - began, 3)}
    if code == STOPPED or (told and (code in _BY_SIGNAL or (launch and code))):
        return _stopped(job, task, how)  # a launcher has 1 for everything
    fault, proof = outputs.prove(task.outputs, job.cwd) if code == 0 else ("", {})
    reason = f"the command ended well, but {fault}" if fault else _reason(code, log, log_from)
    job.note(task, "failed" if reason else "finished", reason, outputs=proof, **how)
    return 1 if reason else 0


def _stopped(job: Job, task: Task, how: Mapping[str, Any]) -> int:
    """Have a stopped task started again, unless it is cancelled or was stopped too often."""
    by, ending = stopping.received() or "a signal", slurm.ending(job)
    if job.file(task, "cancel").exists() or ending == "cancelled":
        job.note(task, "cancelled", "cancelled", **how)
        return 1
    requeues = job.record(task)["requeues"] + 1
    if requeues > job.profile.max_requeues:
        reason = f"stopped by {by} for the {requeues}. time; max_requeues is {requeues - 1}"
        job.note(task, "failed", reason, **how)
        return 1
    job.note(task, "stopped", f"stopped by {by}", requeues=requeues, **how)
    fault = "" if ending else slurm.requeue(job)
    if fault:
        job.note(task, "failed", f"stopped by {by}; not requeued: {fault}")
        return 1
    return STOPPED


def _run(job: Job, task: Task) -> tuple[int, bool]:
    """Run the command of a task to its end; return its exit code, and whether it was told to stop.

    It is an interpreter of its own, or a launcher for several processes.
    """
    step = job.step(task.step)
    command, environment = children.tied_command(job.python, _COMMAND, *task.argv), dict(os.environ)
    if step.launch:
        command, environment = launcher(job, task), environment | _LAUNCHED
    again = _AGAIN_S if step.launch else math.inf
    here = job.executor == "local"
    if here:  # what a batch script does before a task
        command = ["bash", "-c", "\n".join([*job.setup(step), 'exec "$@"']), "task", *command]
    with (
        open(job.file(task, "log"), "ab", opener=private) as log,
        _deaf() if step.launch else contextlib.nullcontext(),
    ):
        process = subprocess.Popen(
            command, cwd=job.cwd, env=environment, stdin=subprocess.DEVNULL, stdout=log,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
    told, next_telling = False, 0.0
    try:
        while (code := process.poll()) is None:
            stop = stopping.requested() or (here and job.file(task, "cancel").exists())
            if stop and time.monotonic() > next_telling:
                _tell(process.pid, step.launch)
                told, next_telling = True, time.monotonic() + again
            time.sleep(_POLL_S)
    finally:
        process.kill()  # where the wait was cut short; else it has ended
        process.wait()
    return code, told or stopping.requested()


def launcher(job: Job, task: Task) -> list[str]:
    """Return what runs a task of several processes on this node: accelerate's launcher.

    It ends with this process, and those that it starts with it (`training.team`). How the nodes
    find each other stands in the variables of the batch script.
    """
    asked = job.profile.of(task.step)
    rank = slurm.rank() if asked.nodes > 1 else 0
    found = children.tied_command(job.python, _LAUNCH)
    found += ["--config_file", str(job.profile.launch_file()), "--num_machines", str(asked.nodes)]
    found += ["--num_processes", str(asked.nodes * asked.processes_a_node)]
    found += ["--machine_rank", str(rank), "--main_process_port"]
    if asked.nodes > 1:
        found += [os.environ["MASTER_PORT"], "--main_process_ip", os.environ["MASTER_ADDR"]]
        found += ["--rdzv_backend", "static", "--same_network"]
    else:
        found += ["0"]  # any that is free
    return [*found, "-m", "sft_diversity", *task.argv]


def _tell(pid: int, launched: bool) -> None:
    """Ask a command to stop; of a launcher the training processes, itself left out."""
    import psutil

    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for one in process.children(recursive=True) if launched else [process]:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.send_signal(signal.SIGUSR1)


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


def _reason(code: int, log: Path, start: int) -> str:
    """Say in a line why a command failed, if it did: its error, the signal, or its last words."""
    if code == 0:
        return ""
    if code < 0:
        return children.how_it_ended(code)
    with log.open("rb") as handle:
        handle.seek(max(start, log.stat().st_size - _TAIL_BYTES))
        lines = [line.strip() for line in handle.read().decode("utf-8", "replace").splitlines()]
    errors = [line for line in lines if line.startswith("error: ")]
    if errors:
        return errors[-1].removeprefix("error: ")
    words = [line for line in lines if re.search(r"\w", line)]
    return children.how_it_ended(code) + (f": {words[-1][:200]}" if words else "")


def _here(job: Job) -> dict[str, Any]:
    return {"host": platform.node(), "pid": os.getpid(), "slurm": slurm.own_id(job)}


if __name__ == "__main__":
    main()
