"""JSON rows of a stream: lines, or the elements of one list; each is parsed on its own."""

from __future__ import annotations

import json
from collections import Counter
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

    NaN and Infinity are read as null. An object with a key given twice, at any depth, is bad: which
    of the values was meant cannot be known.
    """
    try:
        value = _parse(raw)
    except ValueError:
        value = _parse_loosely(raw)
    return _object(value)


def parse_flat(raw: bytes) -> dict[str, Any] | BadRow | None:
    """Return what `parse` does, but None where `raw` is not JSON as a whole."""
    try:
        return _object(_parse(raw))
    except ValueError:
        return None


def _parse(raw: bytes) -> Any:
    """Parse JSON that nests at most 200 deep and gives no key twice."""
    import jiter

    return jiter.from_json(raw, allow_inf_nan=False, cache_mode="keys", catch_duplicate_keys=True)


def _object(value: Any) -> dict[str, Any] | BadRow:
    if isinstance(value, dict | BadRow):
        return value
    return BadRow("not-an-object", type(value).__name__)


def _parse_loosely(raw: bytes) -> Any:
    """Parse what NaN, depth or nothing at all keeps from being good JSON; else name the fault.

    The standard parser is slower and takes more: what it lets through tells what was wrong.
    """
    twice: list[str] = []

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) < len(pairs):
            count = Counter(key for key, _ in pairs)
            twice.append(min(key for key in count if count[key] > 1))
        return made

    try:
        value = json.loads(raw.decode(), parse_constant=lambda _: None, object_pairs_hook=once)
        json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        return BadRow("too-deep")
    except UnicodeDecodeError as undecodable:
        return BadRow("invalid-utf8", f"byte {undecodable.start}: {undecodable.reason}")
    except UnicodeEncodeError:
        return BadRow("lone-surrogate", _fault(raw))
    except ValueError:
        return BadRow("not-json", _fault(raw))
    if twice and isinstance(value, dict):
        return BadRow("duplicate-key", twice[0])
    return value


def _fault(raw: bytes) -> str:
    """Say where `raw` ceases to be JSON."""
    try:
        orjson.loads(raw)
    except orjson.JSONDecodeError as fault:
        return str(fault)
    return ""
