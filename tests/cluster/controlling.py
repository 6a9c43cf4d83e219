"""Slurm's daemons, and tasks held still at a chosen moment."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml

from sft_diversity.cluster import jobs, stage
from sft_diversity.cluster.jobs import Job
from sft_diversity.core import folder
from tests.cluster import making

WORK = Path(".sftdiv")
PAIRS = 1_500  # of the corpus; each has two texts
PATIENCE_S = 900.0  # for one wait: on two idle cores they take seconds
STRIDE_S = 0.05  # in which a task that is to be held does less than what it is to be held at


@dataclass(frozen=True)
class Controller:
    """The script that starts and stops a Slurm in its folder."""

    script: Path
    place: Path

    def do(self, verb: str) -> None:
        """Call the script: start, stop, crash or revive."""
        done = subprocess.run(
            [self.script, verb, self.place], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, check=False, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, f"{done.stdout}\nlogs: {self.place}/log"


def call(*command: Any) -> str:
    """Run one of Slurm's commands; return what it says."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def release(job: Job) -> None:
    """Let the newest tasks of a job begin that was submitted to be held."""
    call("scontrol", "release", job.submissions()[-1].slurm)


def submit(*command: Any, work: Path = WORK, **profile: Any) -> Job:
    """Submit a command of `sftdiv` to Slurm from the current folder."""
    options = {"executor": "slurm", "cpus": 1, "memory_gb": 2.5, "offline": True} | profile
    path = Path("profile.yaml")
    path.write_text(yaml.safe_dump(options), "utf-8")
    made = stage.submit(list(map(str, command)), profile=path, work=work)
    return jobs.named(work, made["job"])


def until(what: Callable[[], Any], timeout_s: float = PATIENCE_S) -> Any:
    """Wait until something is true and return it."""
    end = time.monotonic() + timeout_s
    while not (found := what()):
        assert time.monotonic() < end, f"waited {timeout_s} s in vain"
        time.sleep(0.02)
    return found


def wait(job: Job, timeout_s: float = PATIENCE_S) -> dict[str, Any]:
    """Return a job's state once all its tasks are over."""
    return making.wait(job.name, job.place.parents[1], timeout_s)


def status(job: Job) -> dict[str, Any]:
    """Return what `sftdiv status` says of a job."""
    (found,) = stage.status(job.name, work=job.place.parents[1])["jobs"]
    return found


def retry(job: Job) -> dict[str, int]:
    """Call `sftdiv retry --failed`; return how many tasks of which step it submitted again."""
    return stage.retry(job.name, work=job.place.parents[1], failed=True)["retried"]


def one(job: Job, step: str, number: int = 0) -> dict[str, Any]:
    """Return what `sftdiv status` says of a task."""
    tasks = status(job)["tasks"]
    return next(t for t in tasks if (t["step"], t["number"]) == (step, number))


def record(job: Job, step: str, number: int = 0) -> dict[str, Any]:
    """Return a task's record."""
    return job.record(job.step(step).tasks[number])


def worker(job: Job, step: str, number: int = 0) -> psutil.Process | None:
    """Return the process that does a task and keeps its record."""
    found = record(job, step, number)
    if found.get("state") != "running":
        return None
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(found["pid"])
    return None


def command(job: Job, step: str, number: int = 0) -> psutil.Process | None:
    """Return the process of a task's command."""
    with contextlib.suppress(psutil.NoSuchProcess):
        parent = worker(job, step, number)
        if parent is not None:
            return next(iter(parent.children()), None)
    return None


@contextlib.contextmanager
def held_still(
    job: Job, step: str, numbers: Sequence[int], when: Callable[[int], Any]
) -> Iterator[list[psutil.Process]]:
    """Stop the commands of tasks, each once `when` holds: the test, not the clock, decides.

    A command is stopped as soon as it is seen and goes on in short strides, with a look at it
    after each: however fast the machine, it does not pass the moment unseen.
    """
    held: dict[int, psutil.Process] = {}
    ready: set[int] = set()

    def stride() -> bool:
        for number in numbers:
            assert record(job, step, number)["state"] in ("waiting", "running"), status(job)
            if number not in held and (found := command(job, step, number)) is not None:
                found.suspend()
                held[number] = found
        ready.update(number for number in set(held) - ready if when(number))
        going = [held[number] for number in set(held) - ready]
        for process in going:
            process.resume()
        time.sleep(STRIDE_S)
        for process in going:
            process.suspend()
        return len(ready) == len(numbers)

    try:
        until(stride)
        yield [held[number] for number in numbers]
    finally:
        for process in held.values():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()


def told(process: psutil.Process, number: signal.Signals) -> bool:
    """Whether a signal waits for a process held still; or Slurm woke it, and it has ended."""
    try:
        lines = Path(f"/proc/{process.pid}/status").read_text("utf-8").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return True
    masks = [int(line.split()[1], 16) for line in lines if line.startswith(("SigPnd", "ShdPnd"))]
    return any(mask >> (number - 1) & 1 for mask in masks)


def files_of(out: Path) -> dict[str, bytes]:
    """Return the contents of a finished folder, but for the manifest, which holds times."""
    found = {path.relative_to(out).as_posix(): path for path in out.rglob("*") if path.is_file()}
    return {name: found[name].read_bytes() for name in sorted(found) if name != folder.MANIFEST}
