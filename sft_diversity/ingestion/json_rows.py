"""JSON rows of a stream: lines, or the elements of one list; each is parsed on its own."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from typing import Any

import orjson

from sft_diversity.ingestion.json_list import list_elements
from sft_diversity.ingestion.rows import BadRow, Row
from sft_diversity.ingestion.streams import lines


def rows(blocks: Iterator[bytes], max_bytes: int) -> Iterator[Row]:
    """Yield the rows of JSON text: a list's elements, else one a line."""
    first = b""
    for block in blocks:
        first += block
        if first.strip():
            break
    if first.lstrip()[:1] == b"[":
        yield from list_elements(_again(first, blocks), max_bytes, parse, parse_flat)
    else:
        yield from line_rows(_again(first, blocks), max_bytes)


def _again(first: bytes, blocks: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from blocks


def line_rows(blocks: Iterator[bytes], max_bytes: int) -> Iterator[Row]:
    """Yield one row a line; blank lines are no rows."""
    for offset, line, size, ended in lines(blocks, max_bytes):
        if size > max_bytes:
            yield Row(offset, BadRow("too-long", f"{size:,} bytes"), line, size)
        elif line and not line.isspace():
            value = parse(line)
            if isinstance(value, BadRow) and value.reason == "not-json" and not ended:
                value = BadRow("cut-row", value.detail)
            yield Row(offset, value, line, size)


def parse(raw: bytes) -> dict[str, Any] | BadRow:
    """Return the object that `raw` is, or why it is none.

    NaN and Infinity are read as null. An object with a key given twice is bad: which of the values
    was meant cannot be known.
    """
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as fault:
        value = _parse_loosely(raw, str(fault))
    return _checked(raw, value)


def parse_flat(raw: bytes) -> dict[str, Any] | BadRow | None:
    """Return what `parse` does, but None where `raw` is not JSON as a whole."""
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None
    return _checked(raw, value)


def _checked(raw: bytes, value: Any) -> dict[str, Any] | BadRow:
    if isinstance(value, BadRow):
        return value
    if not isinstance(value, dict):
        return BadRow("not-an-object", type(value).__name__)
    if _maybe_twice(raw, value) and (key := _key_given_twice(raw)) is not None:
        return BadRow("duplicate-key", key)
    return value


def _parse_loosely(raw: bytes, fault: str) -> Any:
    """Parse what only NaN or Infinity keep from being JSON; else name the fault.

    The standard parser is slower and takes more: what it lets through tells what was wrong.
    """
    try:
        value = json.loads(raw.decode(), parse_constant=lambda _: None)
        json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        return BadRow("too-deep")
    except UnicodeDecodeError as undecodable:
        return BadRow("invalid-utf8", f"byte {undecodable.start}: {undecodable.reason}")
    except UnicodeEncodeError:
        return BadRow("lone-surrogate", fault)
    except ValueError:
        return BadRow("not-json", fault)
    return value


def _maybe_twice(raw: bytes, value: dict[str, Any]) -> bool:
    """Whether a key's text occurs more often than once a (sub)object: cheap, errs to yes."""
    for key, inner in value.items():
        if raw.count(_quoted(key)) > 1:
            return True
        if isinstance(inner, str):
            continue
        if isinstance(inner, list) and inner and isinstance(inner[0], dict):
            for name in inner[0]:
                if raw.count(_quoted(name)) > len(inner):
                    return True
        elif isinstance(inner, dict):
            return True
    return False


@functools.lru_cache(4096)
def _quoted(key: str) -> bytes:
    return f'"{key}"'.encode()


def _key_given_twice(raw: bytes) -> str | None:
    twice: list[str] = []

    def check(pairs: list[tuple[str, Any]]) -> None:
        names = [name for name, _ in pairs]
        if len(set(names)) < len(names):
            twice.extend(sorted({name for name in names if names.count(name) > 1}))

    try:
        json.loads(raw, object_pairs_hook=check)
    except (ValueError, RecursionError):
        return None  # deeper than this check goes: let it pass, the later steps decide
    return twice[0] if twice else None
