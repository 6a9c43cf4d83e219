"""Rows of Parquet and Arrow files, a batch at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from sft_diversity.core.errors import DataError
from sft_diversity.ingestion.rows import RAW_LIMIT, BadRow, Row

_BATCH = 1024


def columnar_rows(path: Path, kind: str) -> Iterator[Row]:
    """Yield the rows of a Parquet or Arrow file (IPC file or stream).

    Raises
    ------
    DataError
        If the file is not what its name says, or is damaged; such files have no rows to save.
    """
    try:
        batches = _parquet(path) if kind == "parquet" else _arrow(path)
        for batch in batches:
            yield from _rows(batch)
    except (pa.ArrowException, OSError) as fault:
        reason = " ".join(str(fault).split())[:200].replace(str(path), path.name)
        raise DataError(
            f"ingest: {path.name} cannot be read as {kind}: {reason}; fetch or write it again"
        ) from None


def number_of_rows(path: Path, kind: str) -> int:
    """Return the rows of a Parquet or Arrow file."""
    if kind == "parquet":
        return int(pq.read_metadata(path).num_rows)
    return sum(batch.num_rows for batch in _arrow(path))


def _parquet(path: Path) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(path) as file:
        yield from file.iter_batches(batch_size=_BATCH)


def _arrow(path: Path) -> Iterator[pa.RecordBatch]:
    with pa.memory_map(str(path)) as memory:
        if memory.read(6) == b"ARROW1":
            file = pa.ipc.open_file(memory)
            for number in range(file.num_record_batches):
                yield file.get_batch(number)
        else:
            memory.seek(0)
            yield from pa.ipc.open_stream(memory)


def _rows(batch: pa.RecordBatch) -> Iterator[Row]:
    try:
        values: list[Any] = batch.to_pylist()
    except (UnicodeDecodeError, ValueError, OverflowError):
        values = [_one(batch.slice(number, 1)) for number in range(batch.num_rows)]
    for value in values:
        yield Row(None, value, b"", 0)


def _one(batch: pa.RecordBatch) -> dict[str, Any] | BadRow:
    try:
        row: dict[str, Any] = batch.to_pylist()[0]
    except UnicodeDecodeError as fault:
        return BadRow("invalid-utf8", f"byte {fault.start} of a text: {fault.reason}")
    except (ValueError, OverflowError) as fault:
        return BadRow("not-text", str(fault)[:200])
    return row


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
