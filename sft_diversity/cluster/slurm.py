"""The executor `slurm`: an array a step, by our own template; no accounting is needed.

The lower half is what a task asks and tells Slurm from within its job.
"""

from __future__ import annotations

import getpass
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sft_diversity.cluster import secrets
from sft_diversity.cluster.jobs import Job, Seen, Step, Submission, Task, private
from sft_diversity.cluster.profile import Profile
from sft_diversity.core.errors import DataError, UsageError

_ENDED = {
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY",
    "PREEMPTED", "REVOKED", "TIMEOUT",
}  # fmt: skip
_WAITING = {"PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD"}
_TIMEOUT_S = 60


def check(profile: Profile, steps: Sequence[Step]) -> None:
    """Refuse where Slurm is not at hand, or a step asks for nodes it has no use for."""
    if shutil.which("sbatch") is None:
        raise UsageError("submit: no sbatch here: run it on a login node, or with --executor local")
    for step in steps:
        if profile.of(step.name).nodes > 1 and not step.launch:
            raise UsageError(
                f"submit: step {step.name} asks for several nodes, which only finetune shares; "
                "give `nodes` for its step alone"
            )


def start(job: Job, tasks: Sequence[Task]) -> list[str]:
    """Hand tasks to sbatch, each step behind those it comes after; return Slurm's numbers."""
    most = job.profile.array_size or _max_array()
    alive: dict[str, dict[str, None]] = {step.name: {} for step in job.steps}
    for task, (own, seen) in _newest(job).items():
        if seen.state != "ended":
            alive[task.step][own.partition("_")[0]] = None
    begun = []
    for step in job.steps:
        chosen = [task.number for task in tasks if task.step == step.name]
        after = [number for name in step.after for number in alive[name]]
        arrays = [chosen[first : first + most] for first in range(0, len(chosen), most)]
        for numbers in arrays:
            begun.append(_submit(job, step, numbers, after, len(arrays)))
            alive[step.name][begun[-1]] = None
    return begun


def look(job: Job, busy: bool) -> dict[Task, Seen]:
    """Return what squeue says of the newest submission of each task."""
    return {task: seen for task, (_, seen) in _newest(job).items()}


def cancel(job: Job, tasks: Sequence[Task]) -> None:
    """Call scancel for the newest submission of each task."""
    newest = _newest(job)
    ids = [newest[task][0] for task in tasks if task in newest]
    for first in range(0, len(ids), 500):  # a command line has an end
        _call(["scancel", "--quiet", *ids[first : first + 500]])


def script(
    job: Job, step: Step, numbers: Sequence[int], after: Sequence[str], arrays: int = 1
) -> str:
    """Return the batch script of (part of) a step.

    Parameters
    ----------
    numbers : sequence of int
        The tasks.
    after : sequence of str
        Slurm's numbers of the jobs that must have ended.
    arrays : int
        How many arrays the step is split into; they share its `concurrency`.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined  # not for every task

    environment = Environment(
        loader=PackageLoader("sft_diversity.cluster"), undefined=StrictUndefined, trim_blocks=True,
        keep_trailing_newline=True, autoescape=False,  # shell, not HTML: `quote` is for that
    )  # fmt: skip
    environment.filters["quote"] = _quoted
    asked = job.profile.of(step.name)
    return environment.get_template("array.sbatch").render(
        job=job, step=step, asked=asked, numbers=numbers, after=after,
        at_a_time=asked.concurrency and max(asked.concurrency // arrays, 1),
    )  # fmt: skip


def _quoted(value: Any) -> str:
    """Return a value as one word of a shell or of an `#SBATCH` line, which a line break would end.

    Raises
    ------
    UsageError
        If it has a control character; profiles and the names of jobs have none.
    """
    text = str(value)
    if not text.replace("\t", " ").isprintable():
        raise UsageError(f"submit: {text!r:.200} has a control character; no batch script holds it")
    return shlex.quote(text)


def _submit(job: Job, step: Step, numbers: Sequence[int], after: Sequence[str], arrays: int) -> str:
    """Write a script and hand it in; return Slurm's number.

    What it does is written down before, its number after: if this process dies between, squeue
    knows the number by the script's path.
    """
    path = job.place / "scripts" / f"{len(job.submissions()):04}-{step.name}.sbatch"
    with open(path, "w", encoding="utf-8", opener=private) as handle:
        handle.write(script(job, step, numbers, after, arrays))
    what = Submission(path, step.name, list(numbers))
    job.note_submission(what)
    number = sbatch(path)
    job.note_submission(replace(what, slurm=number))
    return number


def sbatch(path: Path) -> str:
    """Submit a script in an environment without tokens; return Slurm's number."""
    said = _call(["sbatch", "--parsable", str(path)], secrets.without(os.environ))
    return said.strip().partition(";")[0]  # "17", or "17;cluster"


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


def _max_array() -> int:
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", _call(["scontrol", "show", "config"]), re.M)
    return int(found[1]) if found else 1001  # Slurm's own default


def _newest(job: Job) -> dict[Task, tuple[str, Seen]]:
    """Return the newest submission of each task: its number, `17_4`, and how Slurm sees it.

    A submission that Slurm never took is left out.
    """
    submissions = job.submissions()
    queue, by_script = _queue() if submissions else ({}, {})
    forgotten = Seen("ended", "Slurm does not know it any more")
    found = {}
    for one in submissions:
        array = one.slurm or by_script.get(one.script.resolve())
        for index, number in enumerate(one.tasks if array else ()):
            own = f"{array}_{index}"
            found[job.step(one.step).tasks[number]] = (own, queue.get(own, forgotten))
    return found


def _queue() -> tuple[dict[str, Seen], dict[Path, str]]:
    """Return the user's jobs that Slurm still knows, and whose number is which script's.

    Those that ended minutes ago are among them.
    """
    said = _call(
        ["squeue", "--noheader", "--array", "--states=all", f"--user={getpass.getuser()}",
         "--format=%i|%T|%r|%o"]
    )  # fmt: skip
    found, by_script = {}, {}
    for line in said.splitlines():
        own, state, reason, path = line.strip().split("|", 3)
        if state in _ENDED:
            found[own] = Seen("ended", state)
        elif state in _WAITING:
            found[own] = Seen("waiting", "" if reason == "None" else reason)
        else:
            found[own] = Seen("running", "" if state == "RUNNING" else state)
        by_script[Path(path)] = own.partition("_")[0]
    return found, {path.resolve(): number for path, number in by_script.items()}


def own_id(job: Job) -> str | None:
    """Return the number of Slurm's job that this process is in, `17_4`.

    None where `job` is not of Slurm, even if it runs within some other job of Slurm's.
    """
    if job.executor != "slurm":
        return None
    return f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"


def rank() -> int:
    """Return which of the nodes of a task this is."""
    return int(os.environ.get("SLURM_PROCID") or 0)


def ending(job: Job) -> str:
    """Say whether Slurm is ending this job: "cancelled", "requeued", or "" where it is not.

    The state is COMPLETING then, whatever comes after it. A job at its time limit is not meant: it
    would be over, so that it must ask to be started again, as one that runs.
    """
    own = own_id(job)
    if own is None:
        return ""
    said = _run("scontrol", "--oneliner", "show", "job", own).stdout
    found = dict(re.findall(r"\b(JobState|Reason|ExitCode)=(\S+)", said))
    if found.get("JobState") == "CANCELLED":
        return "cancelled"
    if found.get("JobState") != "COMPLETING" or found.get("Reason") == "TimeLimit":
        return ""
    return "cancelled" if found.get("ExitCode") == "0:15" else "requeued"


def requeue(job: Job) -> str:
    """Ask Slurm to start this job again; return what went wrong, or nothing."""
    own = own_id(job)
    if own is None:
        return ""
    done = _run("scontrol", "requeue", own)
    return "" if done.returncode == 0 else " ".join(done.stderr.split()) or "scontrol failed"


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)
