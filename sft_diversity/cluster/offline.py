"""What a command takes from the network, fetched before its jobs run on nodes without internet."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sft_diversity.cluster.plan import Call
from sft_diversity.cluster.profile import Profile
from sft_diversity.core import config as configs
from sft_diversity.core import urls
from sft_diversity.core.errors import DataError, SftdivError, UsageError

_KINDS = ("model", "tokenizer", "encoder")
_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w./-]+)?")
_HUB = "hub:"
_NOT_MODELS = ("rewrite",)  # its `model` is a name that an endpoint knows
_NO_NETWORK = "jobs of this profile have no internet (offline: true)"


@dataclass(frozen=True)
class Need:
    """Something on the Hub: a model, a tokenizer, an encoder, or a data set."""

    kind: str
    name: str
    revision: str | None = None

    def __str__(self) -> str:
        return f"{self.kind} {self.name}" + (f"@{self.revision}" if self.revision else "")


def stage(call: Call, profile: Profile) -> list[str]:
    """Fetch what a command takes from the Hub into the cache that jobs read; say what it was.

    Raises
    ------
    UsageError
        If something can only be had while it is used, such as a data set that is streamed.
    DataError
        If something is neither in the cache nor can be fetched from here; it lists all of it.
    """
    if not profile.offline:
        return []
    if call.verb == "export" and _is_elsewhere(call.options["to"]):
        raise UsageError(f"submit: {_NO_NETWORK}; run it here, without submit")
    found = needs(call)
    streamed = [str(need) for need in found if need.kind == "data set"]
    if streamed:
        raise UsageError(
            f"submit: {_NO_NETWORK}, and {', '.join(streamed)} would be streamed: ingest it here "
            "first, and submit what reads the corpus"
        )
    if found:
        _fetch_apart(found, profile)
    return [str(need) for need in found]


def needs(call: Call) -> list[Need]:
    """Return what the options of a command, and the files they name, take from the Hub."""
    words = [str(word).rpartition("=")[2] for word in call.arguments]
    given = dict(call.options) | ({"model": words[0]} if call.verb == "score" else {})
    data = [word for word in words if call.verb != "score" and _is_elsewhere(word)]
    found = [*_needs_in(given, call.verb), *map(_data_set, data)]
    named = [given.get("config"), *(words if call.verb in ("study", "run") else [])]
    for path in (Path(name) for name in named if name):
        if path.suffix in (".yaml", ".yml") and path.is_file():
            found += _needs_of_file(path, call.verb)
    return sorted(set(found), key=str)


def _needs_of_file(path: Path, block: str) -> Iterator[Need]:
    yield from _needs_in(configs.read_yaml(path), block, path.parent)


def _needs_in(given: Mapping[str, Any], block: str, root: Path | None = None) -> Iterator[Need]:
    """Yield what a block of options needs; blocks within it, and the files it names, too."""
    for name, value in given.items():
        if name in _KINDS and isinstance(value, str) and block not in _NOT_MODELS:
            if _ID.fullmatch(value) and not Path(value).exists():
                kind = "scored model" if name == "model" and block in ("score", "judge") else name
                revision = given.get("revision") if kind in ("model", "encoder") else None
                yield Need(kind, value, revision if isinstance(revision, str) else None)
        elif _is_elsewhere(value) and block in ("ingest", "sources"):
            yield _data_set(value)
        elif name == "config" and isinstance(value, str) and root is not None:
            if (root / value).is_file():
                yield from _needs_of_file(root / value, block)
        elif isinstance(value, dict):
            yield from _needs_in(value, name, root)
        elif isinstance(value, list):
            for entry in value:
                if isinstance(entry, dict):
                    yield from _needs_in(entry, name, root)


def _is_elsewhere(value: object) -> bool:
    return urls.is_remote(value) or (isinstance(value, str) and value.startswith(_HUB))


def _data_set(text: str) -> Need:
    if urls.is_remote(text):
        return Need("data set", urls.public_url(text))
    name, _, revision = text.removeprefix(_HUB).partition("@")
    return Need("data set", name, revision or None)


def _fetch_apart(found: Sequence[Need], profile: Profile) -> None:
    """Fetch in a process with the profile's variables: HF_HOME says which cache it is."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "sft_diversity.cluster.offline"],
        input=json.dumps([asdict(need) for need in found]),
        capture_output=True, text=True, check=False, env=os.environ | profile.environment,
    )  # fmt: skip
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["no reason given"]
        raise DataError(
            f"submit: {_NO_NETWORK}, and cannot be fetched from here: "
            f"{lines[-1].removeprefix('error: ')}"
        )


def _fetch(need: Need) -> None:
    from sft_diversity.embedding.encoders import ENCODERS
    from sft_diversity.levels.tokenizing import load_tokenizer
    from sft_diversity.scoring.model import MODELS
    from sft_diversity.training.models import BASES

    if need.kind == "model":
        BASES.find(need.name, need.revision)
    elif need.kind == "scored model":
        MODELS.find(need.name)
    elif need.kind == "encoder":
        ENCODERS.find(need.name, need.revision)
    else:
        load_tokenizer(need.name)


def main() -> int:
    """Fetch the needs on stdin; name those that cannot be had in the last line of stderr."""
    missing = []
    for one in json.loads(sys.stdin.read()):
        need = Need(**one)
        try:
            _fetch(need)
        except SftdivError as fault:
            print(fault, file=sys.stderr)
            missing.append(str(need))
    if missing:
        print(f"error: {', '.join(missing)}", file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
