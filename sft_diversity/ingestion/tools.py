"""Thoughts, calls of tools and tools as rows hold them -> as samples hold them."""

from __future__ import annotations

import re
from typing import Any

import orjson

from sft_diversity.ingestion import tables
from sft_diversity.ingestion.rows import BadRow

_THOUGHT = re.compile(r"\s*<think>(.*?)</think>\s*", re.DOTALL)
_CALL, _CALL_END = "<tool_call>", "</tool_call>"


def parsed(value: Any) -> Any:
    """Return a JSON object or list that is given as its text; all else as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            return orjson.loads(value)
        except ValueError:
            return value
    return value


def text_in(turn: dict[str, Any], field: str) -> str | None:
    """Return a field's text, trimmed; None where there is none."""
    value = turn.get(field)
    return value.strip() or None if isinstance(value, str) else None


def thought_in(said: str) -> tuple[str, str | None]:
    """Return what follows a thought at the beginning of a text, and the thought, if any."""
    found = _THOUGHT.match(said)
    if found is None:
        return said, None
    return said[found.end() :], found[1].strip() or None


def marked_calls(said: str) -> tuple[str, str | None]:
    """Return what comes before the calls at the end of a text, and these, if there are any."""
    rest, listed = said.rstrip(), list[Any]()
    while rest.endswith(_CALL_END):
        before, mark, inside = rest.removesuffix(_CALL_END).rpartition(_CALL)
        call = parsed(inside.strip())
        if not (mark and isinstance(call, dict) and isinstance(call.get("name"), str)):
            return said, None
        rest, listed = before.rstrip(), [call, *listed]
    return (rest, calls_of(listed)) if listed else (said, None)


def calls_in(said: Any) -> str | None:
    """Return the calls of a turn that is nothing else, None where it is some other text."""
    found = parsed(said)
    try:
        return calls_of(found) if isinstance(found, dict | list) else None
    except BadRow:
        return None


def calls_of(value: Any) -> str | None:
    """Return calls as JSON, `[{id?, type, function: {name, arguments}}]`; None where there is none.

    Calls may be flat (`name` and `arguments`), arguments JSON in a text. What is null in an object
    of arguments is left out: tables fill up with it what other rows have.

    Raises
    ------
    BadRow
        If a call names no function.
    """
    value = parsed(value)
    if not value:
        return None
    listed = [_call(parsed(one)) for one in (value if isinstance(value, list) else [value])]
    return _json(listed)


def _call(call: Any) -> dict[str, Any]:
    inner = parsed(call.get("function")) if isinstance(call, dict) else None
    function = inner if isinstance(inner, dict) else call
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise BadRow("bad-turns", "a tool call names no function")
    given = function.get("arguments", function.get("parameters"))
    arguments = without_null(parsed({} if given is None or given == "" else given))
    found = {"type": "function", "function": {"name": function["name"], "arguments": arguments}}
    number = call.get("id")
    return {"id": number, **found} if isinstance(number, str) and number else found


def without_null(value: Any) -> Any:
    """Return an object without its keys that are null, within it too."""
    if isinstance(value, dict):
        return {key: without_null(one) for key, one in value.items() if one is not None}
    return [without_null(one) for one in value] if isinstance(value, list) else value


def tools_of(value: Any) -> str | None:
    """Return tools as JSON, each `{type, function: {name, ...}}`; None where they are no such list.

    They may be the functions alone, and JSON in a text.
    """
    value = parsed(value)
    if not isinstance(value, list) or not value:
        return None
    listed = []
    for one in map(parsed, value):
        inner = one.get("function") if isinstance(one, dict) else None
        function = inner if isinstance(inner, dict) else one
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            return None
        listed.append({"type": "function", "function": without_null(function)})
    return _json(listed)


def _json(value: Any) -> str:
    try:
        return tables.as_json(value).decode()
    except TypeError:
        raise BadRow("bad-turns", "calls or tools are no JSON") from None
