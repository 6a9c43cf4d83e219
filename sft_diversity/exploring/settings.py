"""From the settings of a page to options of `select`, and to the command that makes the same."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from sft_diversity.core.config import faults_of
from sft_diversity.core.errors import UsageError
from sft_diversity.core.hashing import content_key
from sft_diversity.selection.config import CORPUS, ELIGIBLE, EMBEDDED, MADE_OF, SelectConfig

_LISTS = ("must_include", "exclude")
#: Options that a page may set: none that names a path, a model or a folder.
NAMES = (*(name for name in SelectConfig.model_fields if name not in MADE_OF), "band")
#: What those that are one of several words may be.
CHOICES: dict[str, tuple[str, ...]] = {
    name: get_args(SelectConfig.model_fields[name].annotation)
    for name in ("strategy", "objective", "fill", "no_kind", "embedded")
}
WORK = ".sftdiv"


class Refused(UsageError):
    """Settings that cannot be.

    Attributes
    ----------
    name : str or None
        Of the one that is wrong.
    """

    def __init__(self, why: str, name: str | None = None) -> None:
        super().__init__(why)
        self.name = name


@dataclass(frozen=True)
class Asked:
    """Options that were asked for.

    Attributes
    ----------
    file : str
        A file that has them, to be named in a command in their place.
    """

    config: SelectConfig
    file: str = ""

    @property
    def key(self) -> str:
        """Of all options."""
        return content_key(self.config.model_dump(mode="json"))

    def at(self, diversity: float) -> Asked:
        """Return the same at another diversity."""
        return Asked(self.config.model_copy(update={"diversity": float(diversity)}))

    @property
    def options(self) -> dict[str, Any]:
        """The options that are no defaults."""
        said = self.config.model_dump(mode="json")
        fields = SelectConfig.model_fields
        kept = {n: v for n, v in said.items() if n in fields and v != fields[n].default}
        return {name: kept[name] for name in dict.fromkeys(("strategy", "size", *kept))}


def read(
    settings: Any,
    given: Mapping[str, Any],
    ids_file: Callable[[Sequence[str | int]], str | None],
) -> Asked:
    """Return the options that settings come to, over those `given` when the page was opened.

    Parameters
    ----------
    ids_file : callable
        From ids and rows to the file that lists them.

    Raises
    ------
    Refused
        Naming what is unknown or wrong.
    """
    if not isinstance(settings, dict):
        raise Refused("settings are a JSON object of option names and values")
    options = dict(given)
    for name, value in settings.items():
        if name not in NAMES:
            raise Refused(f"there is no setting {str(name)[:60]!r}", str(name)[:60])
        options[name] = value
    for name in _LISTS:
        value = settings.get(name)
        if value is None or value == given.get(name):
            continue
        if not isinstance(value, list) or not all(type(one) in (str, int) for one in value):
            raise Refused(f"{name} is a list of ids or rows", name)
        options[name] = ids_file(value)
    if settings.get("match_length") not in (None, CORPUS, ELIGIBLE, given.get("match_length")):
        raise Refused(f"match_length is {CORPUS} or {ELIGIBLE}", "match_length")
    options = {name: value for name, value in options.items() if value is not None}
    strategy = str(options.get("strategy"))
    if not (strategy.startswith("macro-") or strategy in EMBEDDED):  # given for those that read it
        options.pop("embeddings", None)
    if strategy != "own":
        options.pop("kinds_column", None)
    try:
        return Asked(SelectConfig.model_validate(options))
    except ValidationError as fault:
        where = fault.errors(include_url=False)[0]["loc"]
        name = str(where[0]) if where else None
        raise Refused(f"settings: {faults_of(fault, SelectConfig, options)}", name) from None


def command(asked: Asked, sources: Sequence[str], work: Path, out: str = "subset") -> str:
    """Return the command that writes just this subset."""
    words = ["sftdiv", "select", *sources]
    if asked.file:
        words.append(f"--config={asked.file}")
    for name, value in ({} if asked.file else asked.options).items():
        if isinstance(value, dict):
            for key, inner in _flat(value, name):
                words.append(f"--set={key}={json.dumps(inner, ensure_ascii=False)}")
        else:
            words.append(f"--{name.replace('_', '-')}={_plain(value)}")
    words += [] if str(work) == WORK else [f"--work={work}"]
    return shlex.join([*words, f"--out={out}"])


def python_call(asked: Asked, sources: Sequence[str], work: Path) -> str:
    """Return the Python call that picks just this subset; `sd` is the package."""
    named = {**asked.options, "work": str(work)}
    words = [*map(repr, sources), *(f"{name}={value!r}" for name, value in named.items())]
    return f"sd.select({', '.join(words)})"


def _plain(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _flat(value: Mapping[str, Any], under: str) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, inner in value.items():
        key = f"{under}.{name}"
        found += _flat(inner, key) if isinstance(inner, dict) and inner else [(key, inner)]
    return found
