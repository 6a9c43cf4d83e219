"""Killed before any step in the file system, or at any moment: the same command ends it well."""

from __future__ import annotations

import itertools
import os
import random
import signal
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from tests.faults.case import Case, Group, Place, nothing_left, require, same, sound
from tests.faults.world import COMMANDS, World, made

#: Steps and moments of each command at which it is killed; fewer of those that take seconds.
STEPS, MOMENTS = 9, 3
FEW = {
    "finetune": (6, 3), "study": (5, 3), "measure": (6, 2), "quality": (6, 2), "clean": (6, 2),
    "harness": (5, 2),
}  # fmt: skip
_CHANGES = {
    "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate",
}  # fmt: skip
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def watching(home: Path, seen: Callable[[str], None]) -> None:
    """Call `seen` right before each step by which this process changes the folder `home`.

    What libraries of other languages open themselves is not seen; the rename of it is.
    """
    inside = f"{home}/"

    def hook(event: str, given: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = given
            if not (flags & _WRITES if isinstance(flags, int) else set("wax+") & set(mode or "")):
                return
        elif event in _CHANGES:
            path = given[0]
        else:
            return
        if isinstance(path, str | bytes | os.PathLike):
            said = os.fsdecode(path)
            full = os.path.abspath(said)  # noqa: PTH100  (no pathlib within the hook)
            if full.startswith(inside) or (event != "open" and given[-1] not in (-1, None)):
                seen(f"{event} {said.removeprefix(inside)}")

    sys.addaudithook(hook)


def counting(log: Path, home: Path) -> None:
    """Write the steps of this process to a file, a line each."""
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)

    def seen(step: str) -> None:
        os.write(handle, f"{step}\n".encode())

    watching(home, seen)


def dying(number: int, home: Path) -> None:
    """Have this process killed right before its step `number`, counted from 0."""
    count = itertools.count()

    def seen(step: str) -> None:
        if next(count) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    watching(home, seen)


def groups(world: World) -> dict[str, Group]:
    """Return the cases by command."""
    return {name: _group(world, name) for name in COMMANDS}


def _group(world: World, name: str) -> Group:
    def cases(dice: random.Random) -> Iterator[Case]:
        steps, moments = FEW.get(name, (STEPS, MOMENTS))
        total = len(world.reference(name).steps)
        expects = "killed, the same command gives the bytes of an undisturbed one, nothing is left"
        for number in sorted(dice.sample(range(total), min(steps, total))):
            yield Case(f"step-{number}", expects, partial(_step, world, name, number))
        for number in range(moments):
            yield Case(f"moment-{number}", expects, partial(_moments, world, name))

    return cases


def _step(world: World, name: str, number: int, place: Place) -> None:
    ended = place.run(*world.argv(name), before=lambda: dying(number, place.home))
    what = world.reference(name).steps[number]
    if ended.code == 0 and name in ("study", "pairwise", "rewrite", "tags"):
        what = "ended before"  # what threads and children do is not the same each time
    else:
        require(ended.code == -signal.SIGKILL, f"not killed before step {number}, {what}", ended)
    sound(place.home)
    _again(world, name, place, f"killed before step {number}, {what}")


def _moments(world: World, name: str, place: Place) -> None:
    """Kill it once or twice, then let it end."""
    took = world.reference(name).seconds
    at = [place.dice.uniform(0, took) for _ in range(place.dice.choice([1, 2]))]
    for seconds in at:
        running = place.start(*world.argv(name))
        signal.sigtimedwait([], seconds)  # sleeps, whatever signals come
        running.kill()
        running.wait()
        sound(place.home)
    _again(world, name, place, f"killed after {', '.join(f'{one:.3f}' for one in at)} s")


def _again(world: World, name: str, place: Place, how: str) -> None:
    ended = world.finish(name, place)
    try:
        same(made(place.home), world.reference(name).files)
        sound(place.home)
        nothing_left(place.home)
    except AssertionError as fault:
        raise type(fault)(f"{how}: {fault}\n{ended[0]}") from None
