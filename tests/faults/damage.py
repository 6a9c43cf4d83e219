"""What is damaged is named by whoever reads it: one line, or the bytes of an undisturbed run.

A flipped bit may pass a reader, which compares sizes: `verify` finds it.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sft_diversity.core import folder
from tests.faults.case import Case, Group, Place, decent, require, same
from tests.faults.world import World, made

#: Cases of each reader.
CASES = 5
CODES = (0, 1, 2, 3)
_DIFF = "diff given/subset given/other --corpus given/corpus --work work"
_CHECKED = "--tokenizer given/tokenizer.json --work work --out out2"
_TUNE = "--config given/finetune.yaml --out out2 --dry-run"


@dataclass(frozen=True)
class Target:
    """A folder that is damaged, who made it, and who reads it then.

    `maker` is a command, run before; none where the folder is given to all cases. A reader is a
    command of the table, whose bytes are known, or a command line. `unread` is how files begin
    that lie in an output and that its maker never reads again.
    """

    folder: str
    readers: tuple[str, ...]
    maker: str = ""
    unread: tuple[str, ...] = ()


TARGETS = {
    "corpus": Target("given/corpus", (
        "tokens", "words", "select", "report", "export given/corpus --to out2",
        "ingest given/corpus --out out2", "rewrite", "clean", "embed", _DIFF,
        f"finetune given/corpus {_TUNE}", "measure given/corpus --work work --dry-run",
    )),
    "subset": Target("given/subset", (
        "export", "report", "pages", "measure", "finetune", _DIFF,
        "ingest given/subset --out out2", "rewrite given/subset --endpoint URL --model big "
        "--out out2 --work work",
        f"select given/corpus --strategy random --size 9 --exclude given/subset {_CHECKED}",
        f"select given/corpus --strategy random --size 12 --match-length given/subset {_CHECKED}",
    )),
    "export": Target("given/exported", (
        "ingest given/exported --out out2", f"finetune given/exported {_TUNE}",
    )),
    "model": Target("given/tuned", (
        "export-model", "score given/tuned --config given/score.yaml --out out2 --work work",
        "finetune given/subset --model given/tuned --steps 1 --out out2",
    )),
    "cache-of-select": Target("work", (
        "select", f"select given/corpus --strategy micro-response --size 7 {_CHECKED}",
        "tokens",
    ), "select"),
    "cache-of-meso": Target("work", ("words",), "words"),
    "cache-of-embed": Target("work", ("embed", "macro", "measure"), "embed-part"),
    "cache-of-answers": Target("work", ("rewrite",), "rewrite"),
    "cache-of-map": Target("work", ("map",), "map"),
    "cache-of-generate": Target("work", ("generate",), "generate"),
    "cache-of-quality": Target("work", ("quality",), "quality"),
    "output-of-index": Target("out", ("tokens",), "tokens"),
    "output-of-ingest": Target("out", ("ingest",), "ingest"),
    "output-of-select": Target("out", ("select",), "select"),
    "output-of-grid": Target("out", ("grid",), "grid"),
    "output-of-export": Target("out", ("export",), "export"),
    "output-of-fit": Target("out", ("fit",), "fit"),
    "output-of-finetune": Target("out", ("finetune",), "finetune"),
    "output-of-score": Target("out", ("score",), "score"),
    "output-of-study": Target("out", (
        "study", "fit out --draws 200", "report out --no-measure --out out.html --work work",
    ), "study", ("out/models/", "out/scores/")),  # a record of each run is all that a study needs
} | {
    f"output-of-{name}": Target("out", (name,), name)
    for name in (
        "clean", "clean-report", "words", "tags", "macro", "embed", "measure", "pages", "rewrite",
        "pairwise", "harness", "export-model", "quality",
        "advise", "generate",
    )
}  # fmt: skip


def groups(world: World) -> dict[str, Group]:
    """Return the cases by what is damaged."""
    return {name: _group(world, target) for name, target in TARGETS.items()}


def _group(world: World, target: Target) -> Group:
    def cases(dice: random.Random) -> Iterator[Case]:
        for number, reader in enumerate(target.readers * CASES):
            harm = dice.choice([*HARMS] + ["manifest"] * 3)
            yield Case(
                f"{number}-{harm}-{reader.split()[0]}",
                "who reads it names it in one line or is not misled; `verify` finds it",
                partial(_check, world, target, reader, harm),
            )

    return cases


def _check(world: World, target: Target, reader: str, harm: str, place: Place) -> None:
    _prepare(world, target, place)
    given = {path: _meaning(path) for path in place.home.rglob(folder.MANIFEST)}
    damaged = place.home / target.folder
    files = sorted(path for path in damaged.rglob("*") if path.is_file())
    manifests = [path for path in files if path.name == folder.MANIFEST]
    if harm == "manifest":
        path = place.dice.choice(manifests or files)
        what = _edit(path, place.dice)
    else:
        path = place.dice.choice([path for path in files if path.stat().st_size])
        what = HARMS[harm](path, place.dice)
    before = _state(damaged)
    argv = world.argv(reader) if " " not in reader else _words(world, reader)
    ended = decent(place.run(*argv), CODES)
    about = f"{path.relative_to(place.home)}: {what}"
    if ended.code:
        flipped = harm.startswith("flipped")  # what comes of it may be seen elsewhere
        names = {path.name, str(damaged), target.folder, *path.parts[-3:-1]}
        named = any(one in ended.errors[0] for one in names)
        require(named or flipped, f"{about}; not named", ended)
    elif " " not in reader and not harm.startswith(("flipped", "noise", "manifest")):
        wanted, found = world.reference(reader).files, made(place.home)
        out = [n for n in wanted if n.startswith("out") and not n.startswith(target.unread)]
        same({n: found[n] for n in out if n in found}, {n: wanted[n] for n in out})
    unseen = path in given and _meaning(path) == given[path]
    if _state(damaged) == before and not unseen:  # nobody has made it anew
        _verified(place, path, given, about)


def _verified(place: Place, path: Path, given: Mapping[Path, Any], about: str) -> None:
    """Require that `verify` names the fault of a folder that has a manifest."""
    home = next((p for p in path.parents if p / folder.MANIFEST in given), None)
    if home is None or place.home not in home.parents:
        return
    ended = decent_verify(place, home)
    manifest = _manifest(home)
    if manifest is None:
        return  # refused, as no finished output
    listed = {one["path"] for one in manifest["files"]}
    own = path.name == folder.MANIFEST or path.relative_to(home).as_posix() in listed
    if own or not manifest.get("grows"):
        require(ended.code != 0, f"{about}; `verify` finds nothing", ended)


def decent_verify(place: Place, home: Path) -> Any:
    """Run `verify`; its faults are its result, so it need not say `error: `."""
    ended = place.run("verify", home.relative_to(place.home))
    if ended.code == 1 and not ended.errors:
        require("Traceback" not in ended.err and "faults" in ended.out, "no fault named", ended)
        return ended
    return decent(ended, CODES)


def _meaning(path: Path) -> Any:
    """Return what a manifest says under its digest; None where it is none."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return {k: v for k, v in found.items() if k != "run"} if isinstance(found, dict) else found


def _manifest(home: Path) -> dict[str, Any] | None:
    try:
        found = json.loads((home / folder.MANIFEST).read_text("utf-8"))
        return found if isinstance(found, dict) and found["files"][0]["path"] else None
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None


def _prepare(world: World, target: Target, place: Place) -> None:
    if not target.maker:
        world.copied(place, Path(target.folder).name)
        return
    for path in world.kept(target.maker).iterdir():
        if target.folder == "work" and path.name != "work":
            continue  # what is made of the cache is made again
        if path.is_dir() and not path.is_symlink():
            shutil.copytree(path, place.home / path.name)
        elif path.is_file():
            shutil.copyfile(path, place.home / path.name)


def _words(world: World, line: str) -> list[str]:
    return [world.url if word == "URL" else word for word in line.split()]


def _state(place: Path) -> dict[str, tuple[int, int]]:
    return {
        path.relative_to(place).as_posix(): (found.st_size, found.st_mtime_ns)
        for path in place.rglob("*")
        if path.is_file()
        for found in [path.stat()]
    }


# ---- kinds of damage; each says what it did --------------------------------------------------


def _missing(path: Path, dice: random.Random) -> str:
    path.unlink()
    return "deleted"


def _truncated(path: Path, dice: random.Random) -> str:
    size = path.stat().st_size
    kept = dice.choice([0, size // 2, max(size - 1, 0), dice.randrange(size + 1)])
    kept = min(kept, max(size - 1, 0))
    path.write_bytes(path.read_bytes()[:kept])
    return f"cut to {kept} of {size} bytes"


def _grown(path: Path, dice: random.Random) -> str:
    path.write_bytes(path.read_bytes() + dice.randbytes(dice.choice([1, 100])))
    return "longer"


def _flipped(path: Path, dice: random.Random) -> str:
    raw = bytearray(path.read_bytes())
    if not raw:
        return _grown(path, dice)
    at = dice.randrange(len(raw))
    raw[at] ^= 1 << dice.randrange(8)
    path.write_bytes(raw)
    return f"a bit of byte {at} flipped"


def _noise(path: Path, dice: random.Random) -> str:
    path.write_bytes(dice.randbytes(path.stat().st_size or 1))
    return "overwritten"


def _folder(path: Path, dice: random.Random) -> str:
    path.unlink()
    path.mkdir()
    return "a folder"


def _dangling(path: Path, dice: random.Random) -> str:
    path.unlink()
    path.symlink_to("nowhere")
    return "a dangling link"


def _gone(path: Path, dice: random.Random) -> str:
    shutil.rmtree(path.parent)
    return "its folder is deleted"


def _more(path: Path, dice: random.Random) -> str:
    shutil.copyfile(path, path.with_name(f"zz-{path.name}"))
    return "there twice, by another name"


HARMS: dict[str, Callable[[Path, random.Random], str]] = {
    "missing": _missing,
    "truncated": _truncated,
    "grown": _grown,
    "flipped": _flipped,
    "flipped-too": _flipped,
    "noise": _noise,
    "folder": _folder,
    "dangling": _dangling,
    "gone": _gone,
    "more": _more,
}
_VALUES: tuple[Any, ...] = (
    None, True, 7, -1, 1e308, "", "x", "../..", [], [None], {}, {"a": {}}, [[]], 10**30,
)  # fmt: skip


def _edit(path: Path, dice: random.Random) -> str:
    """Edit a manifest by hand: a value of another type, a key gone, other JSON, no JSON."""
    text = path.read_text("utf-8", "replace")
    way = dice.choice(["value", "value", "value", "inner", "key", "whole", "cut", "words"])
    try:
        manifest = json.loads(text)
    except ValueError:
        way = "words"
    if way == "words":
        path.write_bytes(dice.choice([b"", b"\xff\xfe{", b"not JSON", b"[" * 10_000, b"{}", b"7"]))
        return "no JSON of a manifest"
    if way == "cut":
        path.write_text(text[: dice.randrange(len(text))], "utf-8")
        return "cut"
    if way == "whole":
        value = dice.choice(_VALUES)
        path.write_text(json.dumps(value), "utf-8")
        return f"is {value!r}"
    if not isinstance(manifest, dict) or not manifest:
        return _edit_words(path)
    name = dice.choice(sorted(manifest))
    if way == "key":
        del manifest[name]
        said = f"without {name}"
    elif way == "inner" and isinstance(manifest[name], dict) and manifest[name]:
        inner = dice.choice(sorted(manifest[name]))
        manifest[name][inner] = dice.choice(_VALUES)
        said = f"{name}.{inner} is {manifest[name][inner]!r}"
    elif way == "inner" and isinstance(manifest[name], list) and manifest[name]:
        manifest[name][0] = dice.choice(_VALUES)
        said = f"{name}[0] is {manifest[name][0]!r}"
    else:
        manifest[name] = dice.choice(_VALUES)
        said = f"{name} is {manifest[name]!r}"
    path.write_text(json.dumps(manifest), "utf-8")
    return said


def _edit_words(path: Path) -> str:
    path.write_text("no manifest", "utf-8")
    return "no JSON"
