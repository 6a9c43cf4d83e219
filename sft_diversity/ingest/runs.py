"""Runs: rows of one part, sorted by id, in Arrow files that are read without copying.

A run is what fits in memory at once; the shards are made of all runs afterwards, as in an external
merge sort.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sft_diversity.core.folder import Draft
from sft_diversity.core.schema import MESSAGES

_MAX_ROWS = 50_000
_MAX_CHARS = 64 << 20

RUN = pa.schema(
    [
        ("id", pa.binary(16)),
        ("key", pa.binary(16)),
        ("file", pa.int32()),
        ("row", pa.int64()),
        ("empty", pa.bool_()),
        ("messages", MESSAGES),
        ("instruction", pa.large_string()),
        ("response", pa.large_string()),
        ("meta", pa.large_string()),
    ]
)


class RunWriter:
    """Collects rows and writes them as runs `<prefix>-<number>.arrow` of a draft."""

    def __init__(self, draft: Draft, prefix: str) -> None:
        self._draft, self._prefix = draft, prefix
        self.names: list[str] = []
        self._clear()

    def _clear(self) -> None:
        self._rows: list[tuple[Any, ...]] = []
        self._roles: list[str] = []
        self._contents: list[str] = []
        self._offsets = [0]
        self._chars = 0

    def add(
        self,
        id: bytes,
        key: bytes,
        file: int,
        row: int,
        turns: list[tuple[str, str]],
        instruction: str,
        response: str,
        meta: str,
        empty: bool = False,
    ) -> None:
        """Add one row."""
        self._rows.append((id, key, file, row, empty, instruction, response, meta))
        for role, content in turns:
            self._roles.append(role)
            self._contents.append(content)
        self._offsets.append(len(self._roles))
        self._chars += 2 * (len(instruction) + len(response)) + len(meta)
        if self._chars > _MAX_CHARS or len(self._rows) >= _MAX_ROWS:
            self.flush()

    def flush(self) -> None:
        """Write what was collected as a run."""
        if not self._rows:
            return
        id, key, file, row, empty, instruction, response, meta = zip(*self._rows, strict=True)
        said = pa.StructArray.from_arrays(
            [pa.array(self._roles, pa.string()), pa.array(self._contents, pa.string())],
            fields=list(MESSAGES.value_type),
        )
        messages = pa.ListArray.from_arrays(pa.array(self._offsets, pa.int32()), said, MESSAGES)
        values = (id, key, file, row, empty, messages, instruction, response, meta)
        arrays = [
            value if isinstance(value, pa.Array) else pa.array(value, field.type)
            for value, field in zip(values, RUN, strict=True)
        ]
        table = pa.Table.from_arrays(arrays, schema=RUN)
        order = np.lexsort(halves(table["id"])[::-1])
        name = f"{self._prefix}-{len(self.names):04d}.arrow"
        with (
            self._draft.writing(name) as path,
            pa.OSFile(str(path), "wb") as sink,
            pa.ipc.new_file(sink, RUN) as writer,
        ):
            writer.write_table(table.take(pa.array(order)))
        self.names.append(name)
        self._clear()


def read_run(path: Path) -> pa.Table:
    """Return a run as a table whose buffers are the mapped file."""
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()


def halves(column: pa.ChunkedArray) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """Return 16-byte values as two arrays of uint64 that sort as the bytes do."""
    parts = []
    for chunk in column.chunks:
        raw = np.frombuffer(chunk.buffers()[1], dtype=">u8")
        parts.append(raw[2 * chunk.offset : 2 * (chunk.offset + len(chunk))].astype(np.uint64))
    flat = np.concatenate(parts) if parts else np.empty(0, np.uint64)
    return flat[0::2], flat[1::2]


def hex_ids(column: pa.ChunkedArray) -> pa.Array:
    """Return 16-byte values as strings of 32 hex digits."""
    high, low = halves(column)
    raw = np.stack([high, low], axis=1).astype(">u8").tobytes()
    digits = np.frombuffer(raw.hex().encode(), dtype=np.uint8)
    offsets = pa.py_buffer(np.arange(0, 32 * len(high) + 1, 32, dtype=np.int32))
    return pa.StringArray.from_buffers(len(high), offsets, pa.py_buffer(digits))
