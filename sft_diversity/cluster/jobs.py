"""The folder of a job: what is to be done, and a record of each task; plain files, no database.

    job.json                   command, profile, steps and their tasks; written once
    scripts/0003-runs.sbatch   a batch script; in the .json beside it which tasks it does, and the
                               number that Slurm gave it
    tasks/STEP/00007.json      record of a task: state, attempts, reason, exit code, host, outputs
    tasks/STEP/00007.log       what the task said, all attempts; what Slurm said: slurm-17_4.out

Nothing here is the result: that lies where the command writes it, with its own manifest.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import TypeAdapter

from sft_diversity.cluster.profile import Profile
from sft_diversity.core import locks
from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.core.folder import dump_json

FOLDER = "jobs"  # in the work folder
#: Variables that keep Hub clients from asking.
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
_JOB = "job.json"

#: waiting: to be started (again); running; finished; failed; stopped: by a signal, to be requeued;
#: cancelled. What the executor knows may overrule waiting, running and stopped, never the others.
RecordState = Literal["waiting", "running", "finished", "failed", "stopped", "cancelled"]
Record = dict[str, Any]


@dataclass(frozen=True)
class Task:
    """One process of a step: arguments of `sftdiv`, and what it leaves; see `outputs`."""

    step: str
    number: int
    label: str
    argv: tuple[str, ...]
    outputs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Step:
    """Tasks that may run at once, once the steps `after` have ended.

    `strict`: all tasks of those steps must be finished, else this step fails. `launch`: several
    processes may share a task, through accelerate.
    """

    name: str
    tasks: tuple[Task, ...]
    after: tuple[str, ...] = ()
    strict: bool = True
    launch: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Submission:
    """Tasks of a step that were handed to Slurm as one array; index i of it does `tasks[i]`."""

    script: Path
    step: str
    tasks: list[int]
    slurm: str | None = None  # its number; None if nobody lived to write it down


@dataclass(frozen=True)
class Seen:
    """A task as its executor sees it."""

    state: Literal["waiting", "running", "ended"]
    reason: str = ""


@dataclass(frozen=True)
class Job:
    """A submitted command."""

    place: Path
    command: tuple[str, ...]
    cwd: Path
    executor: str
    python: str
    profile: Profile
    steps: tuple[Step, ...]

    @property
    def name(self) -> str:
        """Folder name: `0003-study`."""
        return self.place.name

    @property
    def tasks(self) -> list[Task]:
        """All tasks, in the order of the steps."""
        return [task for step in self.steps for task in step.tasks]

    @property
    def lock(self) -> Path:
        """Held while tasks are handed in, and by the executor `local` while they run."""
        return self.place / _JOB

    def step(self, name: str) -> Step:
        """Return the step of this name."""
        for step in self.steps:
            if step.name == name:
                return step
        known = ", ".join(step.name for step in self.steps)
        raise UsageError(f"{self.name}: no step {name!r}; it has {known}")

    def setup(self, step: Step) -> list[str]:
        """Return the shell lines that come before a task."""
        profile = self.profile
        environment = {"PYTHONUNBUFFERED": "1", **step.environment, **profile.environment,
                       **(OFFLINE if profile.offline else {})}  # fmt: skip
        return [
            *(f"module load {shlex.quote(name)} || exit 1" for name in profile.modules),
            *(f"export {name}={shlex.quote(value)}" for name, value in environment.items()),
            *profile.setup,
        ]

    def file(self, task: Task, kind: str) -> Path:
        """Return a file of a task.

        `kind` is json: its record, locked by whoever does it; log; or cancel: there if it is not
        to begin, or not to begin again.
        """
        return self.place / "tasks" / task.step / f"{task.number:05}.{kind}"

    def record(self, task: Task) -> Record:
        """Return a task's record; it is as good as new if it never began."""
        path = self.file(task, "json")
        try:
            found: Record = json.loads(path.read_text("utf-8"))
        except FileNotFoundError:
            return {"state": "waiting", "reason": "", "attempts": 0, "requeues": 0, "slurm": None}
        except ValueError:
            raise DataError(f"{path}: not readable; remove it and retry") from None
        return found

    def note(self, task: Task, state: RecordState, reason: str = "", **more: Any) -> None:
        """Change a task's record; keys that are not given stay."""
        record = self.record(task) | more | {"state": state, "reason": reason}
        write_json(self.file(task, "json"), record)

    def submissions(self) -> list[Submission]:
        """Return what was handed to Slurm, oldest first."""
        return [
            Submission(path.with_suffix(".sbatch"), **json.loads(path.read_text("utf-8")))
            for path in sorted((self.place / "scripts").glob("*.json"))
        ]

    def note_submission(self, what: Submission) -> None:
        """Write down which tasks a script does."""
        said = {"step": what.step, "tasks": what.tasks, "slurm": what.slurm}
        write_json(what.script.with_suffix(".json"), said)


class Executor(Protocol):
    """Where tasks run: the module `local` or `slurm`, whose functions say what they do."""

    def check(self, profile: Profile, steps: Sequence[Step]) -> None: ...
    def start(self, job: Job, tasks: Sequence[Task]) -> list[str]: ...
    def look(self, job: Job, busy: bool) -> dict[Task, Seen]: ...
    def cancel(self, job: Job, tasks: Sequence[Task]) -> None: ...


_SHAPE = TypeAdapter(Job)


def create(work: Path, job: Job) -> Job:
    """Make the folder of a job, numbered, in a work folder; return the job that lies there.

    Raises
    ------
    DataError
        If it cannot be written.
    """
    root = (work / FOLDER).absolute()
    if not str(root).isprintable():  # it stands in batch scripts
        raise UsageError(f"submit: {root} has a control character; name another --work")
    try:
        root.mkdir(parents=True, exist_ok=True)
        with locks.alone(root, "submit"):  # two submitters never get the same number
            taken = [int(path.name[:4]) for path in root.glob("[0-9][0-9][0-9][0-9]-*")]
            place = root / f"{max(taken, default=0) + 1:04}-{job.command[0]}"
            place.mkdir(mode=0o700)
        for folder in ("scripts", *(f"tasks/{step.name}" for step in job.steps)):
            (place / folder).mkdir(parents=True)
        body = _SHAPE.dump_python(job, mode="json", exclude_unset=True, exclude={"place"})
        write_json(place / _JOB, body | {"submitted": now()})
    except OSError as fault:
        raise DataError(
            f"submit: cannot write {root}: {fault.strerror or fault}; free space or rights?"
        ) from None
    return load(place)


def load(place: Path) -> Job:
    """Return the job of a folder.

    Raises
    ------
    UsageError
        If it is none.
    """
    try:
        body = json.loads((place / _JOB).read_text("utf-8"))
        return _SHAPE.validate_python(body | {"place": place.absolute()})
    except (OSError, ValueError):
        raise UsageError(
            f"{place}: no job that this version reads; remove it, or name another"
        ) from None


def listed(work: Path) -> list[Job]:
    """Return the jobs of a work folder, oldest first."""
    return [load(path.parent) for path in sorted((work / FOLDER).glob(f"*/{_JOB}"))]


def named(work: Path, name: str) -> Job:
    """Return a job by its name, its number or its folder.

    Raises
    ------
    UsageError
        If there is none.
    """
    if (Path(name) / _JOB).is_file():
        return load(Path(name))
    for path in sorted((work / FOLDER).glob(f"*/{_JOB}")):
        number = path.parent.name.partition("-")[0]
        if path.parent.name == name or (name.isdigit() and int(number) == int(name)):
            return load(path.parent)
    raise UsageError(f"no job {name!r} in {work / FOLDER}; `sftdiv status` lists them")


@contextlib.contextmanager
def changing(job: Job, verb: str) -> Iterator[None]:
    """Keep other processes from handing in tasks of a job; turn faults of its disk into a line.

    Raises
    ------
    DataError
        If another process is at it, or the folder cannot be written.
    """
    try:
        with locks.alone(job.lock, verb, wait=False) as got:
            if not got:
                raise DataError(
                    f"{verb}: {locks.holder(job.lock)} is at {job.name}, handing in or running its "
                    "tasks; wait for its end, or interrupt it"
                )
            yield
    except OSError as fault:
        raise DataError(
            f"{verb}: cannot write {job.place}: {fault.strerror or fault}; then "
            f"`sftdiv retry --failed {job.name}` goes on"
        ) from None


def private(path: str | Path, flags: int) -> int:
    """Open a file that is its owner's alone, where it is made; an `opener` for `open`."""
    return os.open(path, flags, 0o600)


def write_json(path: Path, value: Any) -> None:
    """Write JSON whole or not at all."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(scratch, "w", encoding="utf-8", opener=private) as handle:
            handle.write(dump_json(value))
            handle.flush()
            os.fsync(handle.fileno())
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def now() -> str:
    """Return the time, UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
