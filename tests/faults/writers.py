"""Two processes at once, at one output or in one cold work folder: both right, nothing lost."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tests.faults.case import Case, Group, Place, nothing_left, require, same, sound, tree, well
from tests.faults.kills import watching
from tests.faults.world import COMMANDS, THEN, World, made

#: Pairs at one output, of each command.
PAIRS = 2
#: Pairs of commands that need the same of one work folder; the second's output is another.
#: `measure` of a subset is not beside what embeds its corpus: it reads these vectors if there.
SHARING = (
    ("select", "select"), ("select", "tokens"), ("select", "grid"), ("grid", "words"),
    ("embed", "measure"), ("embed", "macro"), ("macro", "macro"), ("measure", "measure"),
    ("embed-part", "embed"), ("embed-part", "macro"), ("clean", "embed"), ("quality", "select"),
    ("raw", "raw"), ("tags", "tags"), ("rewrite", "rewrite"), ("score", "pairwise"),
)  # fmt: skip
_HOLD_S = 4.0  # at most, for the second to come to where it waits


def groups(world: World) -> dict[str, Group]:
    """Return pairs at one output by command, and pairs that share a work folder."""
    found = {name: _one_output(world, name) for name in COMMANDS if name != "embed-part"}
    return found | {"sharing": _one_work(world)}


def _one_output(world: World, name: str) -> Group:
    def cases(dice: random.Random) -> Iterator[Case]:
        total = len(world.reference(name).steps)
        for number in sorted(dice.sample(range(total), min(PAIRS, total))):
            yield Case(
                f"at-{number}",
                "the second waits for the first or finds its output; both end well",
                partial(_same_place, world, name, number),
            )

    return cases


def _one_work(world: World) -> Group:
    def cases(dice: random.Random) -> Iterator[Case]:
        for first, second in SHARING:
            number = dice.randrange(len(world.reference(first).steps))
            yield Case(
                f"{first}+{second}-at-{number}",
                "in one work folder at once both make what each makes alone",
                partial(_same_work, world, first, second, number),
            )

    return cases


def holding(number: int, place: Place) -> None:
    """Have this process wait before its step `number` until `go` is there."""
    count = iter(range(1 << 30))
    at, go = place.said.with_suffix(".at"), place.said.with_suffix(".go")

    def seen(step: str) -> None:
        if next(count) == number:
            at.touch()
            until = time.monotonic() + 2 * _HOLD_S
            while not go.exists() and time.monotonic() < until:
                time.sleep(0.002)

    watching(place.home, seen)


def _pair(world: World, place: Place, first: str, second: list[str], number: int) -> None:
    """Run two commands, the first held before a step until the second waits or has ended."""
    one = place.start(*world.argv(first), before=lambda: holding(number, place))
    at = place.said.with_suffix(".at")
    while one.alive() and not at.exists():
        time.sleep(0.005)
    other = place.start(*second)
    until = time.monotonic() + _HOLD_S
    while other.alive() and "waiting for" not in other.err() and time.monotonic() < until:
        time.sleep(0.02)
    place.said.with_suffix(".go").touch()
    well(one.wait())
    well(other.wait())


def _same_place(world: World, name: str, number: int, place: Place) -> None:
    _pair(world, place, name, world.argv(name), number)
    sound(place.home)
    same(made(place.home), world.reference(name).files)
    nothing_left(place.home)


def _same_work(world: World, first: str, second: str, number: int, place: Place) -> None:
    argv = ["second" if word == "out" else word for word in world.argv(second)]
    _pair(world, place, first, argv, number)
    for name in {first, second} & THEN.keys():
        well(place.run(*THEN[name].split()))
    sound(place.home)
    _outputs(world, first, place.home, "out")
    _outputs(world, second, place.home, "second")
    nothing_left(place.home)


def _outputs(world: World, name: str, home: Path, out: str) -> None:
    """Require what a command makes, in a work folder that also holds what others make."""
    wanted = world.reference(name).files
    if name == "measure":  # it takes vectors of the corpus where there are some
        wanted = {key: raw for key, raw in wanted.items() if "/embed/" not in key}
    found = {
        f"out{key.removeprefix(out)}": raw
        for key, raw in tree(*(path for path in [home / out] if path.exists())).items()
    } | tree(home / "work")
    kept = {key: raw for key, raw in found.items() if key.startswith("out/") or key in wanted}
    require(bool(wanted), f"{name} makes nothing")
    same(kept, wanted)
