"""JSON rows of a stream: lines, or the elements of one list.

Most text is good, and is parsed many rows at a time; where a block holds anything else than whole
objects, its rows are parsed one by one, each on its own, and show what is wrong with which.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Any

import orjson

from sft_diversity.ingestion.json_list import list_blocks
from sft_diversity.ingestion.rows import BadRow, Block, Row
from sft_diversity.ingestion.streams import Piece, pieces


def blocks(chunks: Iterator[bytes], max_bytes: int) -> Iterator[Block]:
    """Yield the rows of JSON text: a list's elements, else one a line."""
    first = b""
    for chunk in chunks:
        first += chunk
        if first.strip():
            break
    if first.lstrip()[:1] == b"[":
        yield from list_blocks(_again(first, chunks), max_bytes, parse, parse_flat, parse_many)
    else:
        for piece in pieces(_again(first, chunks), max_bytes):
            yield Block(_objects(piece, max_bytes), partial(_rows, piece, max_bytes))


def _again(first: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from chunks


def _objects(piece: Piece, max_bytes: int) -> list[dict[str, Any]] | None:
    """Return what the lines hold, None where one of them is bad."""
    lines = [line for line in piece.text.split(b"\n") if line and not line.isspace()]
    if piece.size > max_bytes and max(map(len, lines), default=0) > max_bytes:
        return None
    try:
        values = [_parse(line) for line in lines]
    except ValueError:
        return None
    return values if {*map(type, values)} <= {dict} else None


def _rows(piece: Piece, max_bytes: int) -> Iterator[Row]:
    """Yield one row a line; blank lines are no rows."""
    for offset, line, size, ended in piece.lines(max_bytes):
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


def parse_many(raw: bytes) -> list[dict[str, Any]] | None:
    """Return the objects that stand in `raw`, a comma between two; None where anything else does.

    What `[raw]` parses to is what its elements, each parsed alone, would be: where an element ends
    does not depend on what follows it.
    """
    try:
        values = _parse(b"[%b]" % raw)
    except ValueError:
        return None
    return values if {*map(type, values)} <= {dict} else None


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
