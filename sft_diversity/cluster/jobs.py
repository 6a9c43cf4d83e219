"""The folder of a job: what is to be done, and a record of each task.

    job.json                   command, profile, steps and their tasks; written once
    submissions.jsonl          what was handed to Slurm, and the number it gave
    tasks/STEP/00007.json      record of a task: state, attempts, reason, exit code, output
    logs/STEP/00007.log        what the task said, all attempts
    scripts/                   the batch scripts

Nothing here is the result: that lies where the command writes it, with its own manifest.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from sft_diversity.cluster import locks
from sft_diversity.cluster.profile import Profile
from sft_diversity.core import config as configs
from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.core.folder import dump_json

FOLDER = "jobs"  # in the work folder
_JOB = "job.json"
_SUBMISSIONS = "submissions.jsonl"
SUBMITTING = "submitting.lock"  # held while tasks are handed to an executor

#: waiting: to be started (again); running; finished; failed; stopped: by a signal, to be requeued;
#: cancelled. What the executor knows may overrule waiting, running and stopped, never the others.
RecordState = Literal["waiting", "running", "finished", "failed", "stopped", "cancelled"]
Record = dict[str, Any]


@dataclass(frozen=True)
class Task:
    """One process: arguments of `sftdiv`, and what proves that it is done (see `outputs`)."""

    label: str
    argv: tuple[str, ...]
    output: Mapping[str, str]


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

    def step(self, name: str) -> Step:
        """Return the step of this name."""
        for step in self.steps:
            if step.name == name:
                return step
        known = ", ".join(step.name for step in self.steps)
        raise UsageError(f"{self.name}: no step {name!r}; it has {known}")

    def environment(self, step: str) -> dict[str, str]:
        """Return the variables that a step's processes start with, beside those at hand."""
        from sft_diversity.cluster import offline

        kept = offline.ENVIRONMENT if self.profile.offline else {}
        return {"PYTHONUNBUFFERED": "1", **self.step(step).environment,
                **self.profile.environment, **kept}  # fmt: skip

    def log(self, step: str, task: int) -> Path:
        """Return where a task's output goes."""
        return self.place / "logs" / step / f"{task:05}.log"

    def record_file(self, step: str, task: int) -> Path:
        """Return where a task's record is."""
        return self.place / "tasks" / step / f"{task:05}.json"

    def cancel_mark(self, step: str, task: int) -> Path:
        """Return the file that tells a task not to begin, or not to begin again."""
        return self.record_file(step, task).with_suffix(".cancel")

    def record(self, step: str, task: int) -> Record | None:
        """Return a task's record; None if it never began."""
        try:
            found: Record = json.loads(self.record_file(step, task).read_text("utf-8"))
        except FileNotFoundError:
            return None
        except ValueError:
            raise DataError(
                f"{self.record_file(step, task)}: not readable; remove it and retry"
            ) from None
        return found

    def note(self, step: str, task: int, state: RecordState, **more: Any) -> Record:
        """Change a task's record; keys that are not given stay."""
        before = self.record(step, task) or {"attempts": 0, "requeues": 0}
        after = before | more | {"state": state}
        write_json(self.record_file(step, task), after)
        return after

    @property
    def submissions(self) -> list[dict[str, Any]]:
        """What was handed to the executor, oldest first."""
        path = self.place / _SUBMISSIONS
        lines = path.read_text("utf-8").splitlines() if path.is_file() else []
        return [json.loads(line) for line in lines]

    def note_submission(self, **what: Any) -> None:
        """Add a line to `submissions`."""
        with (self.place / _SUBMISSIONS).open("a", encoding="utf-8") as handle:
            handle.write(json.dumps(what, sort_keys=True) + "\n")
            handle.flush()
            os.fsync(handle.fileno())


def create(
    work: Path,
    verb: str,
    command: tuple[str, ...],
    executor: str,
    python: str,
    profile: Profile,
    steps: tuple[Step, ...],
) -> Job:
    """Make a job's folder.

    Raises
    ------
    DataError
        If it cannot be written.
    """
    root = (work / FOLDER).absolute()
    try:
        root.mkdir(parents=True, exist_ok=True)
        place = _next(root, verb)
        job = Job(place, command, Path.cwd(), executor, python, profile, steps)
        for step in steps:
            for kind in ("logs", "tasks"):
                (place / kind / step.name).mkdir(parents=True)
        (place / "scripts").mkdir()
        body = {
            "command": command,
            "cwd": str(job.cwd),
            "executor": executor,
            "python": python,
            "profile": profile.model_dump(mode="json", exclude_unset=True),
            "steps": [asdict(step) for step in steps],
            "submitted": now(),
        }
        write_json(place / _JOB, body)
    except OSError as fault:
        raise DataError(
            f"submit: cannot write {root}: {fault.strerror or fault}; free space or rights?"
        ) from None
    return job


def _next(root: Path, verb: str) -> Path:
    """Make the next numbered folder; two submitters never get the same."""
    number = max((int(p.name[:4]) for p in root.glob("[0-9][0-9][0-9][0-9]-*")), default=0)
    while True:
        number += 1
        if list(root.glob(f"{number:04}-*")):
            continue
        with contextlib.suppress(FileExistsError):
            place = root / f"{number:04}-{verb}"
            place.mkdir()
            return place


def load(place: Path) -> Job:
    """Return the job of a folder.

    Raises
    ------
    UsageError
        If it is none.
    """
    try:
        body = json.loads((place / _JOB).read_text("utf-8"))
    except (OSError, ValueError):
        raise UsageError(f"{place}: no job; `sftdiv status` lists them") from None
    steps = tuple(
        Step(
            **step
            | {
                "after": tuple(step["after"]),
                "tasks": tuple(
                    Task(t["label"], tuple(t["argv"]), t["output"]) for t in step["tasks"]
                ),
            }
        )
        for step in body["steps"]
    )
    return Job(
        place.absolute(),
        tuple(body["command"]),
        Path(body["cwd"]),
        body["executor"],
        body["python"],
        configs.build(Profile, body["profile"], f"{place / _JOB}, profile"),
        steps,
    )


def listed(work: Path) -> list[Job]:
    """Return the jobs of a work folder, oldest first."""
    found = sorted((work / FOLDER).glob(f"*/{_JOB}"))
    return [load(path.parent) for path in found]


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
        with locks.alone(job.place / SUBMITTING) as lock:
            if lock is None:
                raise DataError(f"{verb}: another process is submitting {job.name}; try again soon")
            yield
    except OSError as fault:
        raise DataError(
            f"{verb}: cannot write {job.place}: {fault.strerror or fault}; then "
            f"`sftdiv retry --failed {job.name}` goes on"
        ) from None


def write_json(path: Path, value: Any) -> None:
    """Write JSON whole or not at all."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        scratch.write_text(dump_json(value), "utf-8")
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def now() -> str:
    """Return the time, UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
