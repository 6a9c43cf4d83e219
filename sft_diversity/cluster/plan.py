"""From a command to a graph of steps.

A command becomes one task, unless it is one of these:

    study     prepare → runs (an array: fine-tune and score, measure) → collect → report
    embed     parts (an array over the corpus) → embed, which finds all in the cache; index too
    finetune  one task, of several processes where the profile asks for them
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sft_diversity.cluster import launch
from sft_diversity.cluster.jobs import Step, Task
from sft_diversity.cluster.profile import Profile
from sft_diversity.core import machine, resources
from sft_diversity.core.errors import DataError, SftdivError, UsageError
from sft_diversity.core.parts import Part

_PLANNED = {
    "clean", "embed", "export", "fit", "finetune", "index", "ingest", "measure", "report",
    "rewrite", "score", "select", "study",
}  # fmt: skip
_UNPLANNED = {"diff", "doctor", "explain", "run", "schedule", "verify"}
_PROGRAM = "sftdiv"


def checked(command: Sequence[str]) -> tuple[str, ...]:
    """Return the command without the program's name.

    Raises
    ------
    UsageError
        If it is none that can be submitted.
    """
    argv = tuple(command[1:] if command[:1] == [_PROGRAM] else command)
    if not argv:
        raise UsageError("submit: no command; write it behind `--`: sftdiv submit -- study FILE")
    verb = argv[0]
    if verb not in _PLANNED | _UNPLANNED:
        known = ", ".join(sorted(_PLANNED | _UNPLANNED))
        raise UsageError(f"submit: {verb!r} cannot be submitted; known: {known}")
    taken = [a for a in argv if a.partition("=")[0] in ("--dry-run", "--help", "--part", "--run")]
    if taken:
        raise UsageError(f"submit: {taken[0]} is not for a job; take it out")
    return argv


def steps(argv: tuple[str, ...], profile: Profile) -> tuple[Step, ...]:
    """Return the steps of a command.

    Raises
    ------
    UsageError, DataError
        If the command is wrong; what `--dry-run` of it says.
    """
    verb = argv[0]
    if verb == "run" and "--dry-run" in _recipe(argv):
        _look(argv, "--dry-run")
    if verb in _UNPLANNED:
        return (Step(verb, (Task(verb, argv, {"kind": "exit"}),)),)
    return graph(argv, dry_run(argv), profile)


def graph(argv: tuple[str, ...], planned: Mapping[str, Any], profile: Profile) -> tuple[Step, ...]:
    """Return the steps of a command whose dry run said `planned`."""
    make: Callable[..., tuple[Step, ...]] = _GRAPHS.get(argv[0], _single)
    return make(argv, planned, profile)


def dry_run(argv: Sequence[str]) -> dict[str, Any]:
    """Return what `--dry-run --json` of a command says, from a process of its own.

    Raises
    ------
    SftdivError
        What the command says about itself.
    """
    found: dict[str, Any] = json.loads(_look(argv, "--dry-run", "--json").splitlines()[-1])
    return found


def _recipe(argv: Sequence[str]) -> str:
    """Return the text of the recipe that `run` names; "" where there is none."""
    name = argv[1] if len(argv) > 1 else ""
    shipped = resources.shipped("pipelines") / f"{name}.py"
    path = Path(name) if name.endswith(".py") else shipped
    return path.read_text("utf-8") if path.is_file() else ""


def _look(argv: Sequence[str], *options: str) -> str:
    """Return what the command prints with these options besides."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "sft_diversity", *argv, *options],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        lines = [line.strip(" │") for line in done.stderr.splitlines() if line.strip(" │╰╭─╯")]
        errors = [line for line in lines if line.startswith(("error: ", "Error: "))]
        said = (errors or lines or ["no reason given"])[-1].removeprefix("error: ")
        kind: type[SftdivError] = UsageError if done.returncode == 2 else DataError
        raise kind(said)
    return done.stdout


def _single(argv: tuple[str, ...], planned: Mapping[str, Any], profile: Profile) -> tuple[Step]:
    verb = argv[0]
    outputs = [step for step in planned["plan"] if step["stage"] == verb]
    several = verb == "select" and len(outputs) > 1  # a grid: one task, many folders
    output = {"kind": "exit"} if several or not outputs else _output(outputs[-1].get("out"))
    return (Step(verb, (Task(verb, argv, output),)),)


def _output(out: str | None) -> dict[str, str]:
    if out is None or out.startswith("hub:"):
        return {"kind": "exit"}
    return {"kind": "file" if out.endswith(".html") else "folder", "path": out}


def _finetune(argv: tuple[str, ...], planned: Mapping[str, Any], profile: Profile) -> tuple[Step]:
    (step,) = _single(argv, planned, profile)
    several = launch.shared(profile.of("finetune"))
    if several:
        launch.config_file(profile.launch)
    return (Step(step.name, step.tasks, launch=several),)


def _split(argv: tuple[str, ...], planned: Mapping[str, Any], profile: Profile) -> tuple[Step, ...]:
    """Part after part of a corpus, then the command itself, which finds what they left."""
    (last,) = _single(argv, planned, profile)
    if profile.parts == 1 or planned["plan"][-1]["state"] == "cached":
        return (last,)
    parts = _parts(_without(argv, "--out"), profile.parts)
    return parts, replace(last, after=("parts",))


def _parts(argv: tuple[str, ...], count: int) -> Step:
    """Return the array of a command's parts."""
    planned = dry_run([*argv, "--part", f"1/{count}"])
    near = Path(planned["plan"][-1]["out"]).parent
    tasks = (
        Task(str(part), (*argv, "--part", str(part)), _output(str(near / part.name)))
        for part in (Part(number, count) for number in range(1, count + 1))
    )
    return Step("parts", tuple(tasks))


def _without(argv: Sequence[str], *names: str) -> tuple[str, ...]:
    """Return the arguments without some options that have a value."""
    kept, skip = [], False
    for word in argv:
        if not skip and word.partition("=")[0] not in names:
            kept.append(word)
        skip = not skip and word in names
    return tuple(kept)


def _study(argv: tuple[str, ...], planned: Mapping[str, Any], profile: Profile) -> tuple[Step, ...]:
    own = {"--prepare", "--collect", "--json"} & set(argv)
    if own:
        raise UsageError(f"submit: {min(own)} is not for a job; take it out")
    out = str(planned["out"])
    runs = [
        Task(name, (*argv, "--run", name), {"kind": "run", "study": out, "run": name})
        for name in planned["runs"]
    ]
    measures = [
        Task(name, (*argv, "--run", name), _output(f"{out}/measures/{name.partition(':')[2]}"))
        for name in (f"measure:{cell}" for cell in planned["measures"])
    ]
    threads = dict.fromkeys(machine.THREADS, str(planned["plan"]["threads"]))
    page = f"{out}/report.html"
    prepared = {"kind": "study", "path": out}
    return (
        Step("prepare", (Task("prepare", (*argv, "--prepare"), prepared),)),
        Step("runs", (*runs, *measures), ("prepare",), environment=threads),
        Step("collect", (Task("collect", (*argv, "--collect"), _output(out)),), ("prepare", "runs"),
             strict=False),
        Step("report", (Task("report", ("report", out, "--out", page), _output(page)),),
             ("collect",)),
    )  # fmt: skip


_GRAPHS: dict[str, Callable[..., tuple[Step, ...]]] = {
    "embed": _split,
    "finetune": _finetune,
    "index": _split,
    "study": _study,
}
