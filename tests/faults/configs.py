"""Wrong options, in files and on the command line: refused by one line, never taken in silence."""

from __future__ import annotations

import os
import random
import shlex
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel

from sft_diversity.verbs import VERBS
from tests.faults.case import Case, Group, Place, decent, refused, require
from tests.faults.world import World

#: Fields of each verb that are given each a few of the values.
FIELDS, VALUES_EACH = 12, 2
CODES = (0, 1, 2, 3)
#: Command lines whose options come from a file; with what the file must have besides.
BASES: dict[str, tuple[str, dict[str, Any]]] = {
    "ingest": ("ingest given/raw --out out --dry-run", {}),
    "embed": ("embed given/corpus --out out --dry-run", {}),
    "index": ("index given/corpus --work work --dry-run", {}),
    "select": (
        "select given/corpus --tokenizer given/tokenizer.json --out out --dry-run",
        {"strategy": "micro-response", "size": 9},
    ),
    "measure": ("measure given/subset --work work --dry-run", {}),
    "schedule": ("schedule", {}),
    "finetune": ("finetune given/subset --out out --dry-run", {}),
    "score": ("score given/model --out out --dry-run", {}),
    "study": ("study FILE --out out --dry-run", {
        "corpus": "given/corpus",
        "grid": {"strategy": ["micro-response"], "size": [9], "diversity": [0]},
    }),
    "fit": ("fit given/results.csv --dry-run", {}),
    "report": ("report given/subset --corpus given/corpus --out out --work work --dry-run", {}),
    "clean": ("clean given/corpus --out out --dry-run", {}),
    "rewrite": ("rewrite given/corpus --out out --dry-run", {"endpoint": "URL", "model": "big"}),
    "export": ("export given/subset --to out --dry-run", {}),
}  # fmt: skip

_DIGITS = "9" * 5_000
#: YAML of values.
VALUES = (
    "", "~", "true", "no", "0", "-1", "1.5", "1e999", ".inf", "-.inf", ".nan", _DIGITS,
    f"-{_DIGITS}", f"0.{_DIGITS}", "''", "' '", "x", "'../..'", "'~'", "[]", "[1, a]", "[[[]]]",
    "{}", "{a: b}", "2024-13-45", "2024-02-30", "2024-01-01", "!!int foo", "!!float x",
    "!!timestamp x", "!!binary '*'", "!!bool maybe", "!!set {a}", "!!omap [a: 1]", "!!null x",
    "!!python/object/apply:os.system ['touch pwned']", "!!python/name:os.system", "!unknown x",
    "&a [*a]", "*nowhere", "08", "0x1G", "1:60", "190:20:30", "=", '"\\0"', '"\\x1b[31mred"',
    '"a\\nb"', '"\\ud800"', f"'{'y' * 100_000}'", "'" + "é" * 300 + "'",
)  # fmt: skip
#: What no number is.
NO_NUMBER = ("true", "no", ".inf", "-.inf", ".nan", "1e999", "x", "[]", "{}", "!!int foo", "''")


def groups(world: World) -> dict[str, Group]:
    """Return fields by verb, files that are no config, and wrong command lines."""
    found: dict[str, Group] = {verb: partial(_fields, world, verb) for verb in BASES}
    return found | {"files": partial(_files, world), "words": partial(_words, world)}


def _fields(world: World, verb: str, dice: random.Random) -> Iterator[Case]:
    paths = list(_paths(VERBS[verb].config()))
    chosen = dice.sample(paths, min(FIELDS, len(paths)))
    for path, numeric in chosen:
        for value in dice.sample(VALUES, VALUES_EACH) + ([dice.choice(NO_NUMBER)] * numeric):
            bad = numeric and value in NO_NUMBER
            expects = "refused by one line" if bad else "taken, or refused by one line"
            name = f"{path}-{VALUES.index(value)}"
            yield Case(name, expects, partial(_field, world, verb, path, value, bad))
    yield Case("typo", "named, with what is near", partial(_typo, world, verb, paths[0][0]))
    yield Case("long-key", "one line, not a page", partial(_typo, world, verb, "z" * 200_000))


def _paths(model: type[BaseModel], before: str = "") -> Iterator[tuple[str, bool]]:
    """Yield the fields of a config, inner ones by dots, and whether a number is due."""
    for name, field in model.model_fields.items():
        inner = [one for one in (field.annotation, *get_args(field.annotation)) if _is_model(one)]
        yield f"{before}{name}", _is_number(field.annotation)
        for one in inner:
            yield from _paths(one, f"{before}{name}.")


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _is_number(kind: Any) -> bool:
    options = {one for one in get_args(kind) if one is not type(None)} or {kind}
    return options <= {int, float}


def _argv(world: World, verb: str, file: str) -> list[str]:
    words = [file if word == "FILE" else word for word in BASES[verb][0].split()]
    return words if verb == "study" else [*words, "--config", file]


def _write(world: World, verb: str, place: Place, path: str, value: str) -> None:
    """Write a config in which one field has a value, given as YAML."""
    options: dict[str, Any] = yaml.safe_load(yaml.safe_dump(BASES[verb][1]))
    options = {k: world.url if v == "URL" else v for k, v in options.items()}
    *above, name = path.split(".")
    inner = options
    for one in above:
        inner = inner.setdefault(one, {})
    inner[name] = "VALUE"
    text = yaml.safe_dump(options, width=1 << 20).replace("VALUE", value)
    (place.home / "c.yaml").write_text(text, "utf-8", "surrogatepass")


def _field(world: World, verb: str, path: str, value: str, bad: bool, place: Place) -> None:
    _write(world, verb, place, path, value)
    ended = place.run(*_argv(world, verb, "c.yaml"))
    if bad:
        refused(ended)
    else:
        decent(ended, CODES)
    require(not (place.home / "pwned").exists(), "code of a config was run", ended)
    require(not (place.home / "out").exists(), "a dry run wrote something", ended)


def _typo(world: World, verb: str, path: str, place: Place) -> None:
    _write(world, verb, place, f"{path}x", "1")
    ended = refused(place.run(*_argv(world, verb, "c.yaml")), codes=[2])
    require("unknown key" in ended.errors[0], "the key is not named", ended)


# ---- files that are no config -----------------------------------------------------------------


def _bomb() -> str:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [
        f"{n}: &{n} [{', '.join([f'*{b}'] * 9)}]"
        for b, n in zip("abcdefgh", "bcdefghi", strict=True)
    ]
    return "\n".join(lines)


NO_CONFIGS: Mapping[str, bytes] = {
    "empty": b"",
    "comment": b"# nothing\n",
    "list": b"- a\n- b\n",
    "scalar": b"7\n",
    "text": b"just words\n",
    "two-documents": b"seed: 1\n---\nseed: 2\n",
    "tabs": b"seed:\t1\n\tsize: 2\n",
    "not-utf-8": b"title: \xff\xfe\n",
    "utf-16": "seed: 1\n".encode("utf-16"),
    "mark": "\ufeffseed: 1\n".encode(),
    "nul": b"seed: \0\n",
    "escape": b"\x1b[31mseed: 1\n",
    "twice": b"seed: 1\nseed: 2\n",
    "merge": b"<<: {seed: 1}\nseed: 2\n",
    "merge-nothing": b"<<: 7\n",
    "numbers-for-keys": b"1: 2\n",
    "lists-for-keys": b"? [a]\n: b\n",
    "objects-for-keys": b"? {a: b}\n: c\n",
    "bomb": b"",
    "deep": b"a: " + b"[" * 20_000 + b"]" * 20_000,
    "deep-keys": b"".join(b" " * i + b"a:\n" for i in range(900)),
    "large": b"a: '" + b"x" * (5 << 20) + b"'\n",
    "many-keys": b"".join(b"k%d: 1\n" % i for i in range(20_000)),
    "unfinished": b"seed: [1, 2",
    "anchor-of-itself": b"seed: &s {a: *s}\n",
    "parquet": b"PAR1\0\0\0\0PAR1",
    "tag-of-python": b"!!python/object/new:os.system [touch pwned]\n",
}


def _files(world: World, dice: random.Random) -> Iterator[Case]:
    for name in NO_CONFIGS:
        for verb in dice.sample(list(BASES), 2):
            yield Case(f"{name}-{verb}", "one line, or taken", partial(_file, world, name, verb))
    for name in _PLACES:
        verb = dice.choice(list(BASES))
        yield Case(f"{name}-{verb}", "refused by one line", partial(_no_file, world, name, verb))


def _file(world: World, name: str, verb: str, place: Place) -> None:
    (place.home / "c.yaml").write_bytes(_bomb().encode() if name == "bomb" else NO_CONFIGS[name])
    decent(place.run(*_argv(world, verb, "c.yaml"), limit_s=20), CODES)
    require(not (place.home / "pwned").exists(), "code of a config was run")


_PLACES: Mapping[str, Callable[[Path], object]] = {
    "missing": lambda path: None,
    "folder": lambda path: path.mkdir(),
    "fifo": lambda path: os.mkfifo(path),
    "zeros": lambda path: path.symlink_to("/dev/zero"),
    "dangling": lambda path: path.symlink_to("nowhere"),
    "loop": lambda path: path.symlink_to(path.name),
}


def _no_file(world: World, name: str, verb: str, place: Place) -> None:
    _PLACES[name](place.home / "c.yaml")
    refused(place.run(*_argv(world, verb, "c.yaml"), limit_s=20), "c.yaml")


# ---- the command line -------------------------------------------------------------------------

_TOKENS = "--tokenizer given/tokenizer.json --out out --work work"
#: What words of `wrong.txt` stand for.
_WORDS = {
    "SELECT": f"select given/corpus --strategy micro-response --size 9 {_TOKENS}",
    "PLAIN": f"select given/corpus --strategy random {_TOKENS}",
}
WRONG = Path(__file__).with_name("wrong.txt")


def _words(world: World, dice: random.Random) -> Iterator[Case]:
    lines = [line for line in WRONG.read_text("utf-8").splitlines() if line[:1] != "#"]
    for number, line in enumerate(lines):
        first, _, rest = line.partition(" ")
        whole = f"{_WORDS.get(first, first)} {rest}"
        name = f"{number}-{whole.split()[0]}"
        yield Case(name, "refused by one line", partial(_line, world, whole))


def _line(world: World, line: str, place: Place) -> None:
    (place.home / "ids.txt").write_text("0123\nnot an id of this corpus\n")
    words = [world.url if word == "URL" else word for word in shlex.split(line)]
    refused(place.run(*words, limit_s=30))
    left = {path.name for path in place.home.iterdir()} - {"given", "ids.txt", "work"}
    left -= {".sftdiv", ".out.partial"}  # what a next run goes on from
    require(not left, f"refused, but made: {left}", place.ran[-1].wait())
