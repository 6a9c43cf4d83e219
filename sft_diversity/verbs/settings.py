"""Options from elsewhere than flags: `--set KEY=VALUE`, and variables `SFTDIV_VERB_OPTION`.

Flags go before `--config`, that before the environment, that before defaults. What is set is merged
into the block of the file that it belongs to.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sft_diversity.core import config as configs
from sft_diversity.core.errors import UsageError
from sft_diversity.verbs import Verb

#: Of verbs' own arguments; what is not among them is an option of its config.
SHELL = ("as_json", "json", "quiet", "set", "verbose")


def variable(verb: str, name: str) -> str:
    """Return the environment variable of an option: `SFTDIV_SELECT_SIZE`."""
    return f"SFTDIV_{verb}_{name}".upper()


def settled(verb: Verb, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return keyword arguments of a verb's function for what a command line gave.

    Raises
    ------
    UsageError
        If a setting is no KEY=VALUE or names no option, or a variable names none.
    """
    own = verb.arguments()
    asked = {name: value for name, value in given.items() if name in own or name not in SHELL}
    if not verb.options:
        return asked
    settings, read = given.get("set") or (), _environment(verb)
    if not settings and not read:
        return asked
    file = configs.read_yaml(Path(asked["config"])) if asked.get("config") else {}
    for name, value in read.items():
        if asked.get(name) is None and name not in file:
            asked[name] = value
    return _merged(verb, asked, file, settings)


def _merged(
    verb: Verb, asked: dict[str, Any], file: Mapping[str, Any], settings: Sequence[str]
) -> dict[str, Any]:
    """Put `KEY.SUB=VALUE` on top of the options, and of the file's block for KEY."""
    fields = _fields(verb)
    for setting in settings:
        key, equals, text = setting.partition("=")
        first, *inner = key.split(".")
        if not equals or not text or not all([first, *inner]):
            raise UsageError(f"--set {setting}: must be KEY=VALUE or KEY.SUB=VALUE")
        if first not in fields:
            raise UsageError(f"--set {setting}: {configs.unknown_key(first, fields)}")
        value = configs.read_value(text, f"--set {key}")
        if not inner:
            asked[first] = value
            continue
        held = asked.get(first)
        block = copy.deepcopy(held if held is not None else file.get(first, {}))
        at = block
        for part in inner[:-1]:
            at = at.setdefault(part, {}) if isinstance(at, dict) else None
        if not isinstance(at, dict):
            raise UsageError(f"--set {setting}: `{first}` holds no such block")
        at[inner[-1]] = value
        asked[first] = block
    return asked


def _fields(verb: Verb) -> Mapping[str, Any]:
    config = verb.config()
    return {} if config is None else config.model_fields


def _environment(verb: Verb) -> dict[str, Any]:
    """Return the values that variables have for options of the verb's config."""
    prefix, fields = variable(verb.name, ""), _fields(verb)
    known = {variable(verb.name, name): name for name in fields}
    of_function = {variable(verb.name, name) for name in verb.arguments()}
    found = {}
    for name, text in os.environ.items():
        if not name.startswith(prefix) or name in of_function or not text:
            continue
        if name not in known:
            raise UsageError(f"{name}: {configs.unknown_key(name, [*known, *of_function])}")
        found[known[name]] = configs.read_value(text, name)
    return found
