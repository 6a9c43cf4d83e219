"""Stages made up for the tests of the store, and processes that make them until they are killed.

`count` has units, and depends on a model and on what this machine resolves `scale` to; `total`
reads it and borrows a tool; `lone` needs nothing and has no units.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from sft_diversity.core.config import Config
from sft_diversity.core.errors import UsageError
from sft_diversity.core.folder import rows_account
from sft_diversity.core.hashing import content_key
from sft_diversity.core.parts import Part
from sft_diversity.core.stage import Ask, Job, Made, Result, Stage, Tool, Unit
from sft_diversity.core.store import Store
from tests.processes import context

CORPUS = Made(Path("corpus"), "key of the corpus", 30)
UNITS = ["words/0.txt", "1.txt", "words/2.txt"]


@dataclass
class Here:
    """This machine, what it has made, and where it pauses; files lie beside the work folder."""

    scale: str = "low"
    fetched: bool = True  # the model
    pause_s: float = 0.0
    hold: str = ""  # the moment at which it stops until `go` is written
    beside: Path | None = None


here = Here()


class CountConfig(Config):
    """Which word to repeat, in how many units."""

    word: str = "a"
    units: int = 3
    model: str = "m"
    scale: Literal["auto", "low", "high"] = "auto"


class TotalConfig(Config):
    """Of which counts, and how many times."""

    count: dict[str, Any] = {}
    times: int = 1


class LoneConfig(Config):
    """Nothing to say."""

    number: int = 0


def _moment(name: str) -> None:
    if here.hold == name and here.beside is not None:
        (here.beside / "holding").touch()
        while not (here.beside / "go").exists():
            time.sleep(0.002)
    time.sleep(here.pause_s)


def _needs(config: CountConfig, ask: Ask) -> None:
    if config.word == "refused":
        raise UsageError("count: word is `refused`, which is refused; give another")
    ask.corpus()
    ask.key("model", content_key(config.model) if here.fetched or not ask.dry else None)
    ask.resolve(scale=here.scale if config.scale == "auto" else config.scale)


def _units(config: CountConfig, inputs: Mapping[str, Made]) -> Sequence[Unit]:
    _moment("units")
    return [Unit(f"{'' if i == 1 else 'words/'}{i}.txt", 10, i) for i in range(config.units)]


def _count(job: Job[CountConfig]) -> None:
    _moment("each")
    for unit in job.todo():
        with job.writing(unit.name) as path:
            _moment("writing")
            path.write_text(job.config.word * (unit.what + 1))
        note(unit.name)
    job.run["wrote"] = len(job.own)


def _counted(job: Job[CountConfig]) -> Result:
    _moment("join")
    letters = sum(len(path.read_text()) for path in job.files())
    rows = sum(unit.rows for unit in job.units)
    return Result(rows=rows_account(rows, rows, {}), figures={"letters": letters})


def _total_needs(config: TotalConfig, ask: Ask) -> None:
    ask.corpus()
    ask.stage("counts", "count", config.count)
    ask.tool("shout", "shout", "!")


def _total(job: Job[TotalConfig]) -> Result:
    texts = sorted(job.inputs["counts"].path.rglob("*.txt"), key=lambda path: path.name)
    said = job.tools["shout"](" ".join(path.read_text() for path in texts) * job.config.times)
    job.draft.write_json("said.json", said)
    note("total")
    return Result(figures={"length": len(said)}, seeds={"seed": 7}, recipe={"again": True})


def _cost(config: Config, ask: Ask) -> dict[str, Any]:
    return {"seconds": 6.0, "bytes": 300}


def _shout(end: str, dry: bool) -> Tool:
    return Tool(f"shout{end}", {"stage": "shout", "version": 1}, lambda: lambda text: text + end)


COUNT = Stage(
    "count", 1, CountConfig, needs=_needs, units=_units, each=_count, join=_counted, cost=_cost,
    options=lambda config: {"word": config.word, "units": config.units, "scale": config.scale},
)  # fmt: skip
TOTAL = Stage(
    "total", 1, TotalConfig, needs=_total_needs, join=_total,
    options=lambda config: {"times": config.times}, label=lambda config: f"total x{config.times}",
)  # fmt: skip
LONE = Stage(
    "lone", 1, LoneConfig, needs=lambda config, ask: None, join=lambda job: Result()
)  # fmt: skip
STAGES: dict[str, Stage[Any]] = {"count": COUNT, "total": TOTAL, "lone": LONE}


def store(root: Path, dry: bool = False, say: Any = None, **versions: int) -> Store:
    """Return a store of the made-up stages, some of them in another version."""
    stages = STAGES | {n: replace(STAGES[n], version=v) for n, v in versions.items()}
    return Store(root, stages, {"shout": _shout}, dry, say or (lambda line: None))


def note(what: str) -> None:
    """Write down that something was made."""
    if here.beside is not None:
        with (here.beside / "made.log").open("a") as log:
            log.write(f"{what}\n")


def noted(beside: Path) -> list[str]:
    """Return what was made beside a work folder since the last call."""
    log = beside / "made.log"
    if not log.exists():
        return []
    found = log.read_text().splitlines()
    log.unlink()
    return found


# ---- processes ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Task:
    """What a process asks of the store: a stage, or with `part` a part of it."""

    stage: str = "total"
    options: Mapping[str, Any] | None = None
    part: str = ""
    die_before: int = -1  # the rename before which it is killed, counted from 0


def start(root: Path, task: Task, **moments: Any) -> Any:
    """Return a process that does a task in the work folder `root`."""
    process = context.Process(target=_do, args=(root, task, moments))
    process.start()
    return process


def run(root: Path, task: Task, **moments: Any) -> int:
    """Do a task in a process of its own; return its exit code, minus the signal that killed it."""
    process = start(root, task, **moments)
    process.join()
    return int(process.exitcode)


def _do(root: Path, task: Task, moments: Mapping[str, Any]) -> None:
    global here
    here = Here(beside=root.parent, **moments)
    _die_before(task.die_before)
    do(store(root), task)


def do(kept: Store, task: Task) -> Made:
    """Ask it of a store."""
    options = task.options or {}
    if not task.part:
        return kept.get(task.stage, options, CORPUS)
    return kept.get_part(task.stage, options, CORPUS, Part(*map(int, task.part.split("/"))))


def _die_before(number: int) -> None:
    left = [number]

    def counted(function: Any) -> Any:
        def instead(*given: Any, **named: Any) -> Any:
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1
            return function(*given, **named)

        return instead

    if number >= 0:
        os.rename, os.replace = counted(os.rename), counted(os.replace)
