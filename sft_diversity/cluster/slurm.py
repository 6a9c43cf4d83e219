"""The executor `slurm`: one batch script a step, arrays for steps of several tasks.

submitit writes the scripts and reads sbatch's answer. Its own jobs are pickled functions, which
ours are not: the script starts our worker, so that nothing is unpickled on a node.
"""

from __future__ import annotations

import contextlib
import functools
import getpass
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sft_diversity.cluster import entry, secrets
from sft_diversity.cluster.base import Seen, Tasks
from sft_diversity.cluster.jobs import Job, Step
from sft_diversity.core import extras
from sft_diversity.core.errors import DataError, UsageError

_ENDED = {
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY",
    "PREEMPTED", "REVOKED", "TIMEOUT",
}  # fmt: skip
_WAITING = {"PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD"}
_DEFAULT_ARRAY = 1001  # Slurm's own MaxArraySize
_TIMEOUT_S = 60


class Slurm:
    """Executor through sbatch, squeue, scontrol and scancel; accounting is not needed."""

    def check(self, job: Job) -> None:
        """Refuse where Slurm is not at hand, or a step asks for nodes it has no use for."""
        if shutil.which("sbatch") is None:
            raise UsageError(
                "submit: no sbatch here: run it on a login node, or with --executor local"
            )
        for step in job.steps:
            if job.profile.of(step.name).nodes > 1 and not step.launch:
                raise UsageError(
                    f"submit: step {step.name} asks for several nodes, which only finetune shares; "
                    "give `nodes` for its step alone"
                )
        _submitit()

    def submit(self, job: Job, tasks: Tasks) -> None:
        """Hand the steps to sbatch in order, each behind those it comes after."""
        most = job.profile.array_size or _max_array()
        ids: dict[str, list[str]] = {}
        alive = self._alive(job)
        for step in job.steps:
            numbers = tasks.get(step.name, ())
            before = [one for name in step.after for one in ids.get(name, []) + alive.get(name, [])]
            chunks = list(_chunks(numbers, most))
            for offset, part in chunks:
                text = script(job, step, part, offset, before, len(chunks))
                path = job.place / "scripts" / f"{step.name}-{len(job.submissions):03}.sbatch"
                path.write_text(text, "utf-8")
                number = _sbatch(path)
                ids.setdefault(step.name, []).append(number)
                job.note_submission(step=step.name, tasks=part, offset=offset, slurm=number)

    def look(self, job: Job) -> dict[tuple[str, int], Seen]:
        """Return what squeue says of the newest submission of each task."""
        if not any((job.place / "scripts").iterdir()):
            return {}
        said = _queue()
        with contextlib.suppress(OSError):  # a disk that is full now
            _adopt(job, said)
        forgotten = _Queued(Seen("ended", "Slurm does not know it any more"))
        return {at: said.get(own, forgotten).seen for at, own in _newest(job).items()}

    def cancel(self, job: Job, tasks: Tasks) -> None:
        """Call scancel for the newest submission of each task."""
        newest = _newest(job)
        ids = [newest[step, n] for step, ns in tasks.items() for n in ns if (step, n) in newest]
        for start in range(0, len(ids), 500):
            _call(["scancel", "--quiet", *ids[start : start + 500]])

    def _alive(self, job: Job) -> dict[str, list[str]]:
        """Return the numbers under which tasks of each step are not over yet."""
        newest = _newest(job)
        found: dict[str, list[str]] = {}
        for (step, n), seen in self.look(job).items():
            number = newest[step, n].partition("_")[0]
            if seen.state != "ended" and number not in found.setdefault(step, []):
                found[step].append(number)
        return found


def script(
    job: Job,
    step: Step,
    tasks: Sequence[int],
    offset: int,
    after: Sequence[str],
    arrays: int = 1,
) -> str:
    """Return the batch script of (part of) a step.

    Parameters
    ----------
    tasks : sequence of int
        Numbers of the tasks; `offset` is taken off to make the array's indices.
    after : sequence of str
        Slurm's numbers of the jobs that must have ended.
    arrays : int
        How many arrays the step is split into; they share its `concurrency`.

    Notes
    -----
    The worker is a step of the job (srun): on preemption Slurm signals steps, not the batch shell.
    """
    profile, asked = job.profile, job.profile.of(step.name)
    logs = job.place / "logs" / step.name
    array = len(step.tasks) > 1
    name = "%A_%a" if array else "%j"
    further: dict[str, Any] = {
        "signal": f"USR1@{profile.signal_s}",
        "requeue": True,
        "output": logs / f"slurm-{name}.out",
    }
    if array:
        further["array"] = _ranges([number - offset for number in tasks])
        if asked.concurrency:
            further["array"] += f"%{max(asked.concurrency // arrays, 1)}"
    if after:
        further["dependency"] = "afterany:" + ":".join(after)
    if asked.gpus:
        further["gpus-per-node"] = asked.gpus
    further |= asked.sbatch
    given: dict[str, Any] = {
        "job_name": f"{job.name}-{step.name}",
        "comment": f"sftdiv {job.name}",
        "partition": asked.partition,
        "account": asked.account,
        "qos": asked.qos,
        "constraint": asked.constraint,
        "gres": asked.gres,
        "nodes": asked.nodes,
        "ntasks_per_node": 1,
        "cpus_per_task": asked.cpus,
        "mem": None if asked.memory_gb is None else f"{round(asked.memory_gb * 1024)}M",
    }
    text: str = _submitit()._make_sbatch_string(
        command=shlex.join(
            [
                "srun",
                "--unbuffered",
                "--kill-on-bad-exit=1",
                f"--nodes={asked.nodes}",
                f"--ntasks={asked.nodes}",
                f"--cpus-per-task={asked.cpus}",
                *worker(job, step, offset),
            ]
        ),
        use_srun=False,  # its own would put the output elsewhere
        folder=logs,
        setup=[
            *(f"module load {shlex.quote(name)} || exit 1" for name in profile.modules),
            *(f"export {k}={shlex.quote(v)}" for k, v in job.environment(step.name).items()),
            *profile.setup,
        ],
        stderr_to_stdout=True,
        time=asked.time_min,  # None: the partition's, not submitit's five minutes
        wckey=None,
        additional_parameters=further,
        **{key: value for key, value in given.items() if value is not None},
    )  # fmt: skip
    return text


def worker(job: Job, step: Step, offset: int) -> list[str]:
    """Return the command that a script starts."""
    return entry.command(job.python, "worker", str(job.place), step.name, str(offset))


def _submitit() -> Any:
    extras.require("submitit", "submit: executor slurm", "use --executor local")
    from submitit.slurm import slurm

    return slurm


def _sbatch(path: Path) -> str:
    """Submit a script in an environment without tokens; return Slurm's number."""
    said = _call(["sbatch", str(path)], secrets.without(os.environ))
    number: str = _submitit().SlurmExecutor._get_job_id_from_submission_command(said)
    return number


def _call(command: list[str], environment: Mapping[str, str] | None = None) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env=environment,
            timeout=_TIMEOUT_S,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as fault:
        raise DataError(f"{command[0]}: {fault}; is Slurm there?") from None
    if done.returncode != 0:
        said = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        raise DataError(f"{command[0]}: {said}; see the profile, or use --executor local")
    return done.stdout


@functools.lru_cache(maxsize=1)
def _max_array() -> int:
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", _call(["scontrol", "show", "config"]), re.M)
    return int(found[1]) if found else _DEFAULT_ARRAY


def _chunks(numbers: Sequence[int], most: int) -> Iterator[tuple[int, list[int]]]:
    """Split a step so that array indices stay below `most`; yield offset and numbers."""
    offset = 0
    while numbers and offset <= max(numbers):
        part = [n for n in numbers if offset <= n < offset + most]
        if part:
            yield offset, part
        offset += most


def _ranges(numbers: Sequence[int]) -> str:
    """Return `0-3,7` for 0, 1, 2, 3, 7."""
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in found)


def _newest(job: Job) -> dict[tuple[str, int], str]:
    """Return under which number each task was submitted last: `17`, or `17_4` in an array."""
    found = {}
    for one in job.submissions:
        array = len(job.step(one["step"]).tasks) > 1
        for number in one["tasks"]:
            index = f"_{number - one['offset']}" if array else ""
            found[one["step"], number] = one["slurm"] + index
    return found


@dataclass(frozen=True)
class _Queued:
    """A line of squeue."""

    seen: Seen
    script: Path = Path()


def _queue() -> dict[str, _Queued]:
    """Return the user's jobs that Slurm still knows; those that ended minutes ago among them."""
    said = _call(
        ["squeue", "--noheader", "--array", "--states=all", f"--user={getpass.getuser()}",
         "--format=%i|%T|%r|%o"]
    )  # fmt: skip
    found = {}
    for line in said.splitlines():
        own, state, reason, path = line.strip().split("|", 3)
        if state in _ENDED:
            seen = Seen("ended", state)
        elif state in _WAITING:
            seen = Seen("waiting", "" if reason == "None" else reason)
        else:
            seen = Seen("running", "" if state == "RUNNING" else state)
        found[own] = _Queued(seen, Path(path))
    return found


def _adopt(job: Job, queue: Mapping[str, _Queued]) -> None:
    """Note what Slurm took from a process that died before it could write the number down."""
    known = {one["slurm"] for one in job.submissions}
    lost: dict[str, list[int]] = {}
    for own, line in queue.items():
        number, _, index = own.partition("_")
        if line.script.parent == job.place / "scripts" and number not in known:
            lost.setdefault(number, []).append(int(index or 0))
    for number, indices in sorted(lost.items(), key=lambda item: int(item[0])):
        path = next(line.script for own, line in queue.items() if own.partition("_")[0] == number)
        offset = int(path.read_text("utf-8").split()[-1])  # the worker's last argument
        step, tasks = path.stem.rpartition("-")[0], sorted(index + offset for index in indices)
        job.note_submission(step=step, tasks=tasks, offset=offset, slurm=number)
