"""From a command to a graph of steps, by asking the library what the command would do.

A command becomes one task, unless it is one of these:

    study     prepare → runs (an array: fine-tune and score, measure) → collect → report
    embed     parts (an array over the corpus) → embed, which finds all in the cache; index too
    finetune  one task, of several processes where the profile asks for them
"""

from __future__ import annotations

import contextlib
import inspect
import runpy
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import typer

from sft_diversity.cluster.jobs import Step, Task
from sft_diversity.cluster.profile import SUBMITTED, Profile
from sft_diversity.core import machine, resources
from sft_diversity.core.errors import UsageError
from sft_diversity.verbs import VERBS, settings
from sft_diversity.verbs.options import command as command_of

_OURS = ("--collect", "--dry-run", "--help", "--part", "--prepare", "--run")
_PROGRAM = "sftdiv"
Plan = Mapping[str, Any]
Words = tuple[str, ...]


@dataclass(frozen=True)
class Call:
    """What a command line calls: `sft_diversity.VERB(*arguments, **options)`.

    Of `run`, which is no function, the arguments are the recipe and its own words.
    """

    verb: str
    arguments: tuple[Any, ...]
    options: Mapping[str, Any]  # those that were given

    def dry_run(self) -> dict[str, Any] | None:
        """Return what the library says that it would do; None of a verb that plans nothing.

        Its errors are those of the command.
        """
        verb = VERBS[self.verb].function() if self.verb in VERBS else None
        if verb is None or "dry_run" not in inspect.signature(verb).parameters:
            return None
        options = settings.settled(VERBS[self.verb], self.options)
        found: dict[str, Any] = verb(*self.arguments, **options, dry_run=True)
        return found

    def but(self, **options: Any) -> Call:
        """Return the call with other options; None: without it."""
        merged = {**self.options, **options}
        return replace(self, options={k: v for k, v in merged.items() if v is not None})

    @property
    def argv(self) -> Words:
        """The command line of the call."""
        words = [self.verb, *map(str, self.arguments)]
        for name, value in self.options.items():
            flag = name.replace("_", "-")
            for one in value if isinstance(value, list | tuple) else [value]:
                yes_or_no = {True: f"--{flag}", False: f"--no-{flag}"}
                words.append(yes_or_no[one] if isinstance(one, bool) else f"--{flag}={one}")
        return tuple(words)


def checked(command: Sequence[str]) -> Words:
    """Return the command without the program's name.

    Raises
    ------
    UsageError
        If it is none that can be submitted.
    """
    argv = tuple(command[1:] if command[:1] == [_PROGRAM] else command)
    if not argv:
        raise UsageError("submit: no command; write it behind `--`: sftdiv submit -- study FILE")
    if argv[0] not in SUBMITTED:
        known = ", ".join(sorted(SUBMITTED))
        raise UsageError(f"submit: {argv[0]!r} cannot be submitted; known: {known}")
    taken = [word for word in argv if word.partition("=")[0] in _OURS]
    if taken:
        raise UsageError(f"submit: {taken[0]} is not for a job; take it out")
    return argv


def parse(argv: Sequence[str]) -> Call:
    """Return what a command line calls, by the parser of the command line.

    Raises
    ------
    UsageError
        If it has an option or a value that the verb does not know.
    """
    verb, *words = argv
    if verb not in VERBS:
        return Call(verb, tuple(words), {})
    parser = command_of(VERBS[verb], lambda *_: None)
    try:
        context = parser.make_context(verb, words)
    except typer.TyperException as fault:
        raise UsageError(f"{verb}: {fault.format_message()}") from None
    given = {
        "json" if parameter.name == "as_json" else parameter.name: context.params[parameter.name]
        for parameter in parser.params
        if context.get_parameter_source(parameter.name).name in ("COMMANDLINE", "ENVIRONMENT")
    }
    arguments: list[Any] = []
    for parameter in parser.params:
        if parameter.param_type_name == "argument":
            value = given.pop(parameter.name, [])
            arguments += value if isinstance(value, list | tuple) else [value]
    return Call(verb, tuple(arguments), given)


def steps(call: Call, profile: Profile) -> tuple[Step, ...]:
    """Return the steps of a command.

    Raises
    ------
    UsageError, DataError
        If the command is wrong; what it would say itself.
    """
    verb = call.verb
    if verb == "run":
        _try_recipe(*call.arguments)
    plan = call.dry_run()
    if plan is None:
        return (_step(verb, {verb: (call.argv, ())}),)
    if verb == "study":
        return _study(call, plan)
    launch = verb == "finetune" and profile.of(verb).shared
    if launch:
        profile.launch_file()
    outputs = [step.get("out") for step in plan["plan"] if step["stage"] == verb]
    here = tuple(out for out in outputs if out and not out.startswith("hub:"))
    last = _step(verb, {verb: (call.argv, here)}, launch=launch)
    if verb in ("embed", "index") and profile.parts > 1 and plan["plan"][-1]["state"] != "cached":
        return _parts(call, profile.parts), replace(last, after=("parts",))
    return (last,)


def _step(name: str, tasks: Mapping[str, tuple[Words, Words]], **how: Any) -> Step:
    """Return a step of numbered tasks: label, and what is called and left."""
    numbered = enumerate(tasks.items())
    return Step(name, tuple(Task(name, n, label, *both) for n, (label, both) in numbered), **how)


def _try_recipe(name: str, *arguments: str) -> None:
    """Let a recipe that can check all it is asked for do so."""
    path = Path(name) if name.endswith(".py") else resources.shipped("pipelines") / f"{name}.py"
    if not path.is_file() or "--dry-run" not in path.read_text("utf-8"):
        return
    try:
        with contextlib.redirect_stdout(sys.stderr):
            runpy.run_path(str(path))["main"]([*arguments, "--dry-run"])
    except SystemExit:
        raise UsageError(f"run: {name} does not take these arguments; see above") from None


def _parts(call: Call, count: int) -> Step:
    """Return the array of a command's parts; the command behind it finds them by their place."""
    from sft_diversity.verbs.data import part_folder  # loads what all stages need: not for `status`

    call = call.but(out=None)
    call.but(part=f"1/{count}").dry_run()
    tasks = {}
    for part in (f"{number}/{count}" for number in range(1, count + 1)):
        place = part_folder(call.verb, call.arguments[0], part, **call.options)
        tasks[part] = (call.but(part=part).argv, (str(place),))
    return _step("parts", tasks)


def _study(call: Call, plan: Plan) -> tuple[Step, ...]:
    out = str(plan["out"])
    outputs = {name: f"{out}/runs/{name}.json" for name in plan["runs"]}
    outputs |= {f"measure:{cell}": f"{out}/measures/{cell}" for cell in plan["measures"]}
    runs = {name: (call.but(run=name).argv, (place,)) for name, place in outputs.items()}
    prepare = (call.but(prepare=True).argv, (f"{out}/study.json", f"{out}/subsets"))
    collect = (call.but(collect=True).argv, (out,))
    page = f"{out}/report.html"
    report = (("report", out, "--out", page), (page,))
    threads = dict.fromkeys(machine.THREADS, str(plan["plan"]["threads"]))
    return (
        _step("prepare", {"prepare": prepare}),
        _step("runs", runs, after=("prepare",), environment=threads),
        _step("collect", {"collect": collect}, after=("prepare", "runs"), strict=False),
        _step("report", {"report": report}, after=("collect",)),
    )
