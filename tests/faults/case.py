"""A case: what is done to a command, and what must come of it."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from sft_diversity.core import folder, locks
from tests.faults import processes
from tests.faults.processes import Ended, Running

#: Longest line that says what is wrong, in characters.
LINE = 4_200
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


class Fault(AssertionError):
    """An expectation that did not hold."""


class Skipped(Exception):
    """A case that this machine cannot run, and why."""


@dataclass
class Place:
    """Where a case happens: a folder of its own, dice of its own, and what it has run.

    `home/given` is what commands read, made once for all cases, never written to.
    """

    home: Path
    said: Path
    dice: random.Random
    ran: list[Running] = field(default_factory=list)

    def start(
        self,
        *argv: str | Path,
        before: Callable[[], None] | None = None,
        environment: Mapping[str, str | None] | None = None,
        home: Path | None = None,
    ) -> Running:
        """Begin a command in the case's folder, or in `home`."""
        said = self.said.with_name(f"{self.said.name}-{len(self.ran)}")
        words = [str(word) for word in argv]
        running = processes.start(
            words, home or self.home, said, before=before, environment=environment
        )
        self.ran.append(running)
        return running

    def run(self, *argv: str | Path, limit_s: float = processes.LIMIT_S, **how: Any) -> Ended:
        """Run a command to its end."""
        return self.start(*argv, **how).wait(limit_s)


@dataclass(frozen=True)
class Case:
    """One case. `name` is FAMILY/GROUP/WHAT: with the seed it says all; `check` raises `Fault`."""

    name: str
    expects: str
    check: Callable[[Place], None]


#: The cases of a group, made from dice that the seed and the group's name decide.
Group = Callable[[random.Random], Iterator[Case]]


# ---- what must hold -------------------------------------------------------------------------


def require(holds: bool, what: str, *ended: Ended) -> None:
    """Raise `Fault` unless something holds."""
    if not holds:
        raise Fault("\n".join([what, *map(str, ended)]))


def decent(ended: Ended, codes: Sequence[int]) -> Ended:
    """Require one of some exit codes, and of a failure one line, the last, that says why.

    Whatever comes: no traceback, no hanging, no control character in what is said.
    """
    require(not ended.late, f"it hangs: ended only by a kill after {ended.seconds:.0f} s", ended)
    require("Traceback (most recent call last)" not in ended.err, "a traceback", ended)
    require(ended.code in codes, f"exit code is not in {list(codes)}", ended)
    for said in (ended.err, ended.out):
        found = _CONTROL.search(said.replace("\r\n", "\n"))
        require(found is None, f"a control character is printed: {found and found[0]!r}", ended)
    if ended.code:
        require(len(ended.errors) == 1, "not one line that begins with `error: `", ended)
        last = ended.err.rstrip("\n").rpartition("\n")[2]
        require(last == ended.errors[0], "the error is not the last line", ended)
        require(len(last) <= LINE, f"the line has {len(last):,} characters", ended)
    return ended


def well(ended: Ended) -> Ended:
    """Require success."""
    return decent(ended, [0])


def refused(ended: Ended, *names: str, codes: Sequence[int] = (1, 2)) -> Ended:
    """Require failure by one line, in which one of `names` stands."""
    decent(ended, codes)
    said = ended.errors[0]
    require(not names or any(name in said for name in names), f"{names} is not named", ended)
    return ended


def sound(out: Path) -> None:
    """Require that every finished folder in `out` is what its manifest says."""
    for path in sorted(out.rglob(folder.MANIFEST)):
        inside = path.relative_to(out).parts
        if not any(part.startswith(".") for part in inside):
            faults = folder.verify(path.parent)["faults"]
            require(not faults, f"{path.parent} does not verify: {faults}")


def nothing_left(home: Path) -> None:
    """Require that no draft or scratch is left, and no lock that somebody holds.

    The empty lock of a process that was killed may lie on: nobody waits for it.
    """
    for path in sorted(home.rglob(".*")):
        if path.name.endswith(".lock"):
            guarded = path.with_name(path.name.removeprefix(".").removesuffix(".lock"))
            require(not locks.held(guarded), f"{path} is held")
        elif not path.name.startswith("...") and "given" not in path.relative_to(home).parts[:1]:
            raise Fault(f"left behind: {path.relative_to(home)}")


def tree(*places: Path) -> dict[str, bytes]:
    """Return the files of some folders or files; of manifests without what differs by nature.

    Of cached vectors each text's: how they are cut into files is up to who embedded what.
    """
    found: dict[str, bytes] = {}
    for place in places:
        files = sorted(place.rglob("*")) if place.is_dir() else [place]
        for path in files:
            name = f"{place.name}/{path.relative_to(place).as_posix()}"
            if path.is_file() and not _CACHE.search(name) and not path.name.startswith("."):
                vectors = _vectors(path) if "/vectors/" in name else None
                found |= {name: _plain(path)} if vectors is None else vectors
    return found


def _vectors(path: Path) -> dict[str, bytes] | None:
    """Return the vector of each text in a file of the cache; None where it is none."""
    try:
        table = pa.ipc.open_file(path.read_bytes()).read_all()
        rows = table.select(["key", "embedding", "cut"]).to_pylist()
    except (pa.ArrowException, OSError, KeyError):
        return None
    return {
        f"{path.parent.name}/{row['key'].decode()}": repr((row["embedding"], row["cut"])).encode()
        for row in rows
    }


#: Answers lie in a file a run, and logs speak of time.
_CACHE = re.compile(r"/answers/|/logs/|/jobs/")


def _plain(path: Path) -> bytes:
    raw = path.read_bytes()
    if path.name in (folder.MANIFEST, "study.json") or "/runs/" in path.as_posix():
        value = json.loads(raw)
        if isinstance(value, dict):
            for name in ("run", "seconds", "work"):
                value.pop(name, None)
            return json.dumps(value, sort_keys=True).encode()
    return raw


def same(made: Mapping[str, bytes], wanted: Mapping[str, bytes]) -> None:
    """Require equal names and bytes."""
    missing, more = sorted(wanted.keys() - made.keys()), sorted(made.keys() - wanted.keys())
    require(not missing and not more, f"missing: {missing[:5]}; not to be there: {more[:5]}")
    wrong = [name for name in wanted if made[name] != wanted[name]]
    require(not wrong, f"other bytes: {wrong[:5]}")
