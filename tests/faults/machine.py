"""Machines that fail: full disks, few descriptors, little memory, odd names, signals.

One line each, and where the fault is over the same command ends with the bytes of an undisturbed
run.
"""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

from tests.faults.case import (
    Case,
    Group,
    Place,
    Skipped,
    decent,
    nothing_left,
    refused,
    require,
    same,
    sound,
)  # fmt: skip
from tests.faults.processes import Ended
from tests.faults.world import World, made

#: Commands that meet each fault, and how often.
COMMANDS = (
    "ingest", "tokens", "words", "select", "grid", "export", "report", "pages", "fit", "rewrite",
    "schedule", "embed", "export-model", "clean",
)  # fmt: skip
SLOW = ("measure", "score", "finetune", "macro", "quality", "study")
DISKS, LIMITS, SIGNALS = 3, 2, 2
CODES = (0, 1, 2, 3)
LIMIT_S = 60.0


def groups(world: World) -> dict[str, Group]:
    """Return the cases by fault."""
    return {
        "full": partial(_each, world, _full, DISKS),
        "inodes": partial(_each, world, _inodes, 1),
        "file-size": partial(_each, world, _file_size, LIMITS),
        "read-only": partial(_each, world, _read_only, 1),
        "descriptors": partial(_each, world, _descriptors, LIMITS),
        "memory": partial(_each, world, _memory, LIMITS),
        "signals": partial(_each, world, _signal, SIGNALS),
        "names": partial(_names, world),
        "environment": partial(_environment, world),
        "streams": partial(_streams, world),
    }


def _each(
    world: World, check: Callable[[World, str, Place], None], times: int, dice: random.Random
) -> Iterator[Case]:
    expects = (check.__doc__ or "").rstrip(".").lower()
    for name in COMMANDS * times + SLOW:
        yield Case(f"{name}-{dice.randrange(1 << 16)}", expects, partial(check, world, name))


def _again(world: World, name: str, place: Place) -> None:
    """Run it without the fault; require what it makes undisturbed."""
    sound(place.home)
    world.finish(name, place)
    same(made(place.home), world.reference(name).files)
    nothing_left(place.home)


# ---- disks ------------------------------------------------------------------------------------


class _Disk:
    """A small file system in memory, at the place of a case's folder."""

    def __init__(self, place: Place, options: str) -> None:
        if os.geteuid():
            raise Skipped("only root mounts")
        self.home = place.home
        self.given = (place.home / "given").readlink()
        (place.home / "given").unlink()
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.home)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            raise Skipped("no tmpfs can be mounted here")
        (self.home / "given").symlink_to(self.given)

    def change(self, options: str) -> None:
        command = ["mount", "-o", f"remount,{options}", str(self.home)]
        subprocess.run(command, capture_output=True, check=True)

    def __enter__(self) -> _Disk:
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", "-l", str(self.home)], capture_output=True, check=True)


def _size(world: World, name: str) -> int:
    return sum(map(len, world.reference(name).files.values()))


def _full(world: World, name: str, place: Place) -> None:
    """One line, or it fits; with room it ends well."""
    pages = max(_size(world, name) // 4096, 2)
    with _Disk(place, f"size={4096 * place.dice.randint(1, pages)},mode=755") as disk:
        decent(place.run(*world.argv(name), limit_s=LIMIT_S), CODES)
        disk.change("size=1g")
        _again(world, name, place)


def _inodes(world: World, name: str, place: Place) -> None:
    """One line, or they suffice; with more it ends well."""
    most = len(world.reference(name).files) + 4
    with _Disk(place, f"nr_inodes={place.dice.randint(3, most)},mode=755") as disk:
        decent(place.run(*world.argv(name), limit_s=LIMIT_S), CODES)
        disk.change("nr_inodes=100k")
        _again(world, name, place)


def _read_only(world: World, name: str, place: Place) -> None:
    """One line; once it can be written it ends well."""
    with _Disk(place, "size=1g,mode=755") as disk:
        if place.dice.random() < 0.5:  # in the middle of the work
            running = place.start(*world.argv(name))
            signal.sigtimedwait([], place.dice.uniform(0, world.reference(name).seconds))
            running.kill()
            running.wait()
        disk.change("ro")
        ended = decent(place.run(*world.argv(name), limit_s=LIMIT_S), CODES)
        require(ended.code != 0 or made(place.home) != {}, "nothing can be written", ended)
        disk.change("rw")
        _again(world, name, place)


def _file_size(world: World, name: str, place: Place) -> None:
    """One line, or no file is so large; without the limit it ends well."""
    largest = max(map(len, world.reference(name).files.values()))
    limit = place.dice.randint(1, largest)

    def before() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    ended = place.run(*world.argv(name), before=before, limit_s=LIMIT_S)
    if len(ended.err.encode()) < limit:  # else what it says is cut too
        decent(ended, CODES)
    _again(world, name, place)


# ---- limits of a process ----------------------------------------------------------------------


def _descriptors(world: World, name: str, place: Place) -> None:
    """One line, or they suffice; with more it ends well."""
    most = place.dice.choice([4, 6, 8, 10, 12, 16, 24, 32])

    def before() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

    decent(place.run(*world.argv(name), before=before, limit_s=LIMIT_S), CODES)
    _again(world, name, place)


def _memory(world: World, name: str, place: Place) -> None:
    """One line, or it suffices; with more it ends well."""
    more = place.dice.choice([1, 4, 16, 40, 100, 250]) << 20

    def before() -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + more
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    ended = place.run(*world.argv(name), before=before, limit_s=LIMIT_S)
    if ended.late:
        raise Skipped("Python waits for ever for a thread that had no memory to begin with")
    if not _ended_natively(ended):
        decent(ended, CODES)
    _again(world, name, place)


def _ended_natively(ended: Ended) -> bool:
    """Whether native code ended the process for want of memory: nobody can catch that."""
    if ended.code == -signal.SIGABRT:  # Rust, C++, LLVM
        return "alloc" in ended.err
    last = (ended.err.strip().splitlines() or [""])[-1]
    return last.startswith(
        ("libgomp: Thread creation failed", "cannot allocate memory for thread", "OpenBLAS error:")
    )


def _signal(world: World, name: str, place: Place) -> None:
    """Exit code 75 and one line within seconds, or it ends well; the same command goes on."""
    running = place.start(*world.argv(name))
    signal.sigtimedwait([], place.dice.uniform(0, world.reference(name).seconds))
    if running.alive():
        os.kill(running.pid, place.dice.choice([signal.SIGTERM, signal.SIGINT, signal.SIGUSR1]))
    ended = running.wait(15.0)
    if ended.code not in (-signal.SIGTERM, -signal.SIGINT, -signal.SIGUSR1):  # before it listens
        decent(ended, [0, 75])
    _again(world, name, place)


# ---- names ------------------------------------------------------------------------------------

_LONG = "n" * 300
#: Names of inputs and outputs; where they can be, they are names like any other.
NAMES: Mapping[str, bytes] = {
    "255": b"n" * 250,
    "300": _LONG.encode(),
    "path-4096": b"/".join([b"d" * 200] * 21),
    "not-utf-8": b"caf\xe9\xff",
    "line": b"two\nlines",
    "escape": b"\x1b[31mred\x1b]0;title\x07",
    "turned": "\u202egnp".encode(),
    "dash": b"-rf",
    "blank": b" ",
    "quote": b"a'b\"c$HOME`id`",
    "star": b"a*b?c[d]",
    "percent": b"%s%d{x}{0}",
    "emoji": "\U0001f600".encode(),
    "equals": b"a=b:c,d",
    "hash": b"#a;b",
    "tilde": b"~nobody",
    "dots": b"...",
    "hub": b"hub:x",
    "url": b"http:",
    "comma": b"a,b",
}


def _names(world: World, dice: random.Random) -> Iterator[Case]:
    for name in NAMES:
        for command in ("ingest", "select", "export", "report", "schedule"):
            expects = "a name like any other, or one line"
            yield Case(
                f"{name}-out-{command}", expects, partial(_out_of_name, world, name, command)
            )
        expects = "read, or refused by one line"
        yield Case(f"{name}-in", expects, partial(_in_of_name, name))
        yield Case(f"{name}-inside", expects, partial(_inside_of_name, name))
    for what in _PLACES:
        for command in ("ingest", "select", "export", "report", "schedule", "fit"):
            expects = "refused by one line; what lies there stays"
            yield Case(f"at-{what}-{command}", expects, partial(_out_at, world, what, command))


def _renamed(world: World, command: str, to: str) -> list[str]:
    argv = world.argv(command)
    at = next(i for i, word in enumerate(argv) if word in ("--out", "--to", "--png")) + 1
    suffix = argv[at].removeprefix("out")
    return [*argv[:at], f"./{to}{suffix}", *argv[at + 1 :]]


def _out_of_name(world: World, name: str, command: str, place: Place) -> None:
    argv = _renamed(world, command, os.fsdecode(NAMES[name]))
    ended = decent(place.run(*argv, limit_s=LIMIT_S), CODES)
    if not ended.code:
        decent(place.run(*argv, limit_s=LIMIT_S), [0])  # found again
        nothing_left(place.home)


def _in_of_name(name: str, place: Place) -> None:
    path = place.home / f"{os.fsdecode(NAMES[name])}.jsonl"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(place.home / "given/raw/a.jsonl", path)
    except OSError:
        pass  # then it is not there
    ended = decent(place.run("ingest", f"./{path.relative_to(place.home)}", "--out", "out"), CODES)
    if not ended.code:
        sound(place.home)


def _inside_of_name(name: str, place: Place) -> None:
    folder = place.home / "raw"
    path = folder / f"{os.fsdecode(NAMES[name])}.jsonl"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(place.home / "given/raw/a.jsonl", path)
    except OSError:
        raise Skipped("no such name can be") from None
    ended = decent(place.run("ingest", "raw", "--out", "out"), CODES)
    if not ended.code:
        sound(place.home)


def _a_file(path: Path) -> None:
    path.write_text("mine\n")


def _a_folder(path: Path) -> None:
    path.mkdir()
    (path / "mine.txt").write_text("mine\n")


_PLACES: Mapping[str, Callable[[Path], object]] = {
    "file": _a_file,
    "folder": _a_folder,
    "dangling": lambda path: path.symlink_to("nowhere/x"),
    "loop": lambda path: path.symlink_to(path.name),
    "fifo": lambda path: os.mkfifo(path),
    "device": lambda path: path.symlink_to("/dev/full"),
}


def _out_at(world: World, what: str, command: str, place: Place) -> None:
    out = next(Path(word) for word in world.argv(command) if word.startswith("out"))
    path = place.home / out
    _PLACES[what](path)
    if command in ("schedule", "report") and what == "file":
        raise Skipped("a picture or a page may be replaced")
    ended = place.run(*world.argv(command), limit_s=LIMIT_S)
    refused(ended)
    require(path.is_symlink() or path.exists(), "what lay there is gone", ended)
    if what == "file":
        require(path.read_text() == "mine\n", "what lay there is another", ended)


# ---- surroundings -----------------------------------------------------------------------------

ENVIRONMENTS: Mapping[str, Mapping[str, str | None]] = {
    "epoch-text": {"SOURCE_DATE_EPOCH": "abc"},
    "epoch-empty": {"SOURCE_DATE_EPOCH": ""},
    "epoch-negative": {"SOURCE_DATE_EPOCH": "-5"},
    "epoch-huge": {"SOURCE_DATE_EPOCH": "9" * 20},
    "epoch-float": {"SOURCE_DATE_EPOCH": "1.5"},
    "no-home": {"HOME": None},
    "home-gone": {"HOME": "/nonexistent", "XDG_CACHE_HOME": "/nonexistent"},
    "tmp-gone": {"TMPDIR": "/nonexistent"},
    "ascii": {"LANG": "C", "LC_ALL": "POSIX", "PYTHONIOENCODING": "ascii"},
    "narrow": {"COLUMNS": "1"},
    "columns": {"COLUMNS": "x", "LINES": "-1"},
    "zone": {"TZ": "Mars/Phobos"},
    "threads": {"OMP_NUM_THREADS": "x", "POLARS_MAX_THREADS": "0"},
    "detect": {"SFTDIV_DETECT": "cores=0"},
    "detect-text": {"SFTDIV_DETECT": "garbage"},
    "data": {"SFTDIV_DATA": "/nonexistent"},
    "hub": {"HF_HOME": "/proc/x", "HF_TOKEN": "hf_\x01"},
    "matplotlib": {"MPLBACKEND": "nope", "MPLCONFIGDIR": "/nonexistent"},
    "proxy": {"HTTP_PROXY": "http://[bad", "ALL_PROXY": "nope"},
    "rank": {"RANK": "x"},
}


def _environment(world: World, dice: random.Random) -> Iterator[Case]:
    for name, variables in ENVIRONMENTS.items():
        more = ["figures"] if name.startswith("epoch") else dice.sample(COMMANDS, 2)
        for command in ["schedule", "ingest", *more]:
            expects = "as without it, or one line"
            yield Case(
                f"{name}-{command}", expects, partial(_surrounded, world, command, variables)
            )


def _surrounded(
    world: World, command: str, variables: Mapping[str, str | None], place: Place
) -> None:
    if command == "figures":
        argv = [*world.argv("report"), "--figures", "figures"]
        decent(place.run(*argv, environment=variables, limit_s=LIMIT_S), CODES)
        return
    ended = decent(place.run(*world.argv(command), environment=variables, limit_s=LIMIT_S), CODES)
    if not ended.code:
        same(made(place.home), world.reference(command).files)


def _closed(*numbers: int) -> Callable[[], None]:
    def before() -> None:
        for number in numbers:
            os.close(number)

    return before


def _to_full(*numbers: int) -> Callable[[], None]:
    def before() -> None:
        full = os.open("/dev/full", os.O_WRONLY)
        for number in numbers:
            os.dup2(full, number)

    return before


def _broken(number: int) -> Callable[[], None]:
    def before() -> None:
        read, write = os.pipe()
        os.close(read)
        os.dup2(write, number)

    return before


def _gone() -> None:
    place = Path.cwd() / "gone"
    place.mkdir()
    os.chdir(place)
    place.rmdir()


STREAMS: Mapping[str, Callable[[], None]] = {
    "stdin-closed": _closed(0), "stdout-closed": _closed(1), "stderr-closed": _closed(2),
    "all-closed": _closed(0, 1, 2), "stdout-full": _to_full(1), "stderr-full": _to_full(2),
    "both-full": _to_full(1, 2), "stdout-broken": _broken(1), "stderr-broken": _broken(2),
    "no-folder": _gone,
}  # fmt: skip


def _streams(world: World, dice: random.Random) -> Iterator[Case]:
    for name, before in STREAMS.items():
        for command in ("ingest", "export", "schedule"):
            expects = "what it makes is right, whatever cannot be said; no traceback"
            yield Case(f"{name}-{command}", expects, partial(_unheard, world, command, before))


def _unheard(world: World, command: str, before: Callable[[], None], place: Place) -> None:
    ended = place.run(*world.argv(command), before=before, limit_s=LIMIT_S)
    require(ended.code in (0, 1, 2), "neither done nor refused", ended)
    require("Traceback" not in ended.err, "a traceback", ended)
    if ended.code == 0:
        same(made(place.home), world.reference(command).files)
    else:
        _again(world, command, place)
