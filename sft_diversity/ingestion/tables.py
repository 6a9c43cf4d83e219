"""Rows of Parquet and Arrow files, a batch at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from sft_diversity.core.isolated import IsolatedReader
from sft_diversity.ingestion import streams
from sft_diversity.ingestion.rows import (
    RAW_LIMIT,
    BadRow,
    Block,
    Limits,
    Row,
    Unreadable,
    block_of,
)


def columnar_blocks(
    isolated: IsolatedReader, path: Path, kind: str, limits: Limits
) -> Iterator[Block]:
    """Yield the rows of a Parquet or Arrow file (IPC file or stream).

    Raises
    ------
    DataError
        If the file is not what its name says, or is damaged, or holds more than
        `limits.expanded_bytes`; such files have no rows to save.
    """
    total = 0
    for batch in isolated.batches(path, kind):
        total += batch.nbytes
        streams.check_size(path, total, limits)
        yield block_of([Row(None, value, b"", 0) for value in _values(batch, limits.row_bytes)])


def _values(batch: pa.RecordBatch, max_bytes: int) -> Sequence[dict[str, Any] | BadRow]:
    rows = _sliced(batch) if batch.nbytes > max_bytes else []
    if all(row.nbytes <= max_bytes for row in rows):
        try:
            return list(batch.to_pylist())
        except Exception:  # of a cell; which kinds there are is up to the libraries of time zones
            pass
    return [_value(row, max_bytes) for row in _sliced(batch)]


def _sliced(batch: pa.RecordBatch) -> list[pa.RecordBatch]:
    return [batch.slice(number, 1) for number in range(batch.num_rows)]


def _value(row: pa.RecordBatch, max_bytes: int) -> dict[str, Any] | BadRow:
    if row.nbytes > max_bytes:
        return BadRow("too-long", f"{row.nbytes:,} bytes")
    try:
        return {name: _cell(row[name][0]) for name in row.schema.names}
    except UnicodeDecodeError as fault:
        return BadRow("invalid-utf8", f"byte {fault.start} of a text: {fault.reason}")


def _cell(cell: pa.Scalar) -> Any:
    try:
        return cell.as_py()
    except UnicodeDecodeError:
        raise
    except Exception as fault:  # out of range, of an unknown time zone
        try:
            return Unreadable(str(cell.cast(pa.string()).as_py()))
        except pa.ArrowException:
            return Unreadable(f"<{fault}>"[:200])


def as_json(value: Any, option: int = orjson.OPT_NON_STR_KEYS) -> bytes:
    """Return a value of a row as JSON; integers of more than 64 bits become floats.

    Raises
    ------
    TypeError
        If it is nested too deep, or holds a text that is none.
    """
    try:
        return orjson.dumps(value, default=plain, option=option)
    except TypeError as fault:
        try:
            value = orjson.loads(json.dumps(value, default=plain))
        except (ValueError, RecursionError):
            raise fault from None
        return orjson.dumps(value, option=option)


def as_text(row: dict[str, Any]) -> tuple[bytes, int]:
    """Return a row as JSON for the quarantine, cut to `RAW_LIMIT`, and its full length."""
    try:
        raw = as_json(row)
    except TypeError:
        raw = repr(row).encode("utf-8", "backslashreplace")
    return raw[:RAW_LIMIT], len(raw)


def plain(value: Any) -> Any:
    """Return what stands for a value that JSON does not know; binary content by its length."""
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    return str(value)
