"""The declarative mapping: templates over columns. Text in, text out; nothing is evaluated."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from sft_diversity.core.errors import UsageError
from sft_diversity.ingestion.config import Mapping, Replacement
from sft_diversity.ingestion.exchanges import Exchange
from sft_diversity.ingestion.exchanges import Template as Columns
from sft_diversity.ingestion.formats import Reader, Sample, Turn, dialogue, is_null, joined
from sft_diversity.ingestion.rows import BadRow, Unreadable

_PART = re.compile(r"\{\{|\}\}|\{([^{}]+)\}|[{}]")

Template = list[tuple[str, tuple[str, ...]]]  # literal text, then the path of a value (or none)


def reader(mapping: Mapping) -> Reader:
    """Return the reader that a mapping describes."""
    if mapping.messages is not None:
        return dialogue(mapping.messages, mapping.role, mapping.content, mapping.roles)
    instruction, response = (
        compile_template(mapping.instruction),
        compile_template(mapping.response),
    )
    given, system = compile_template(mapping.input), compile_template(mapping.system)
    used = {path[0] for t in (instruction, given, response, system) for _, path in t if path}

    def read(row: dict[str, Any]) -> Sample:
        task = (fill(instruction, row), fill(given, row, optional=True))
        turns = [Turn("user", joined(*task)), Turn("assistant", fill(response, row))]
        if said := fill(system, row, optional=True):
            turns.insert(0, Turn("system", said))
        return Sample(turns, task, {k: v for k, v in row.items() if k not in used})

    plain = not mapping.system and all(
        len(path) < 2 for template in (instruction, given, response) for _, path in template
    )
    task, more, answer = map(_of_columns, (instruction, given, response))
    return Reader(read, Exchange(frozenset(used), task, more, answer) if plain else None)


def _of_columns(template: Template) -> Columns:
    """Return a template none of whose paths leads into a value."""
    return tuple((literal, path[0] if path else None) for literal, path in template)


def compile_template(text: str | None) -> Template:
    """Cut a template into literal texts and paths.

    Raises
    ------
    UsageError
        If a brace is left over.
    """
    parts: Template = []
    literal, at = "", 0
    text = text or ""
    for found in _PART.finditer(text):
        literal += text[at : found.start()]
        at = found.end()
        if found[1] is not None:
            parts.append((literal, tuple(found[1].strip().split("."))))
            literal = ""
        elif len(found[0]) == 2:
            literal += found[0][0]
        else:
            raise UsageError(f"ingest: template {text!r}: a single {found[0]}; write it twice")
    return [*parts, (literal + text[at:], ())]


def fill(template: Template, row: dict[str, Any], optional: bool = False) -> str:
    """Return the template with the row's values in it; a missing optional one is empty."""
    out = []
    for literal, path in template:
        out.append(literal)
        if path:
            out.append(_value(row, path, optional))
    return "".join(out)


def _value(row: dict[str, Any], path: tuple[str, ...], optional: bool) -> str:
    value: Any = row
    if ".".join(path) in row:  # a column whose own name has a dot
        value, path = row[".".join(path)], ()
    for name in path:
        try:
            value = value[int(name)] if isinstance(value, list) else value[name]
        except (KeyError, IndexError, ValueError, TypeError):
            if optional:
                return ""
            raise BadRow("missing-column", ".".join(path)) from None
    if isinstance(value, str):
        return value
    if is_null(value):
        if optional:
            return ""
        raise BadRow("null-text", ".".join(path))
    if isinstance(value, list | dict | Unreadable):
        raise BadRow("not-text", ".".join(path))
    return str(value)


def replacer(replacements: list[Replacement], inner: Reader) -> Reader:
    """Return `inner` with the replacements made in every text of the row, nested ones too."""
    if not replacements:
        return inner
    steps = [(one.find, one.replace, one.where == "end") for one in replacements]

    def mended_text(text: str) -> str:
        for find, replace, at_end in steps:
            if not at_end:
                text = text.replace(find, replace)
            elif text.endswith(find):
                text = text[: -len(find)] + replace
        return text

    def mended(value: Any) -> Any:
        if isinstance(value, str):
            return mended_text(value)
        if isinstance(value, list):
            return [mended(item) for item in value]
        if isinstance(value, dict):
            return {key: mended(item) for key, item in value.items()}
        return value

    def read(row: dict[str, Any]) -> Sample:
        return inner(
            {
                key: mended_text(value) if type(value) is str else mended(value)
                for key, value in row.items()
            }
        )

    exchange = inner.exchange
    return Reader(read, exchange and dataclasses.replace(exchange, mended=mended_text))
