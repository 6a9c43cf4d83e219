"""Runs: rows of one part, sorted by id, in Arrow files that are read without copying.

A run is what fits in memory at once; the shards are made of all runs afterwards, as in an external
merge sort.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sft_diversity.core.folder import Draft
from sft_diversity.core.schema import MESSAGES

_MAX_ROWS = 50_000
_MAX_CHARS = 64 << 20

#: `messages` is null where it is one user turn, the instruction, and one assistant turn, the
#: response: most rows, whose text would else be held twice.
RUN = pa.schema(
    [
        ("id", pa.binary(16)),
        ("key", pa.binary(16)),
        ("file", pa.int32()),
        ("row", pa.int64()),
        ("empty", pa.bool_()),
        ("instruction", pa.string()),
        ("response", pa.string()),
        ("meta", pa.string()),
        ("messages", MESSAGES),
    ]
)


class RunRow(NamedTuple):
    """One row of a run, in the order of its columns; `messages` as pairs of role and content."""

    id: bytes
    key: bytes
    file: int
    row: int
    empty: bool
    instruction: str
    response: str
    meta: str
    messages: list[tuple[str, str]] | None


class RunWriter:
    """Collects rows and writes them as runs `<prefix>-<number>.arrow` of a draft."""

    def __init__(self, draft: Draft, prefix: str) -> None:
        self._draft, self._prefix = draft, prefix
        self._rows: list[RunRow] = []
        self._chars = 0
        self.names: list[str] = []

    def add(self, row: RunRow) -> None:
        """Add one row."""
        self._rows.append(row)
        self._chars += len(row.instruction) + len(row.response) + len(row.meta)
        if self._chars > _MAX_CHARS or len(self._rows) >= _MAX_ROWS:
            self.flush()

    def flush(self) -> None:
        """Write what was collected as a run, ordered by id and, where ids are equal, by place."""
        if not self._rows:
            return
        self._rows.sort()  # by id; file and row, which differ, decide before any text is compared
        *flat, messages = zip(*self._rows, strict=True)
        arrays = [pa.array(v, field.type) for v, field in zip(flat, RUN, strict=False)]
        batch = pa.RecordBatch.from_arrays([*arrays, _messages(messages)], schema=RUN)
        name = f"{self._prefix}-{len(self.names):04d}.arrow"
        with (
            self._draft.writing(name) as path,
            pa.OSFile(str(path), "wb") as sink,
            pa.ipc.new_file(sink, RUN) as writer,
        ):
            writer.write_batch(batch)
        self.names.append(name)
        self._rows, self._chars = [], 0


def _messages(rows: Sequence[list[tuple[str, str]] | None]) -> pa.ListArray:
    turns = [turn for row in rows if row for turn in row]
    said = pa.StructArray.from_arrays(
        [pa.array([turn[i] for turn in turns], pa.string()) for i in (0, 1)],
        fields=list(MESSAGES.value_type),
    )
    lengths = np.array([len(row) if row else 0 for row in rows])
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    missing = np.array([row is None for row in rows] + [False])  # a null offset: a null list
    return pa.ListArray.from_arrays(pa.array(offsets, mask=missing), said, MESSAGES)


def whole_messages(rows: pa.Table) -> pa.Array:
    """Return the messages of a table of runs, those left out made of instruction and response."""
    messages = rows["messages"].combine_chunks()
    short = np.asarray(messages.is_null())
    number = int(short.sum())
    if not number:
        return messages
    mask = pa.array(short)
    asked, answered = (
        rows[name].filter(mask).combine_chunks() for name in ("instruction", "response")
    )
    # user and assistant in turn: 0, n, 1, n + 1, ...
    woven = np.arange(2 * number).reshape(2, number).T.ravel()
    roles = pa.DictionaryArray.from_arrays(
        np.tile(np.array([0, 1], np.int32), number), pa.array(["user", "assistant"])
    )
    said = pa.StructArray.from_arrays(
        [roles.cast(pa.string()), pa.concat_arrays([asked, answered]).take(pa.array(woven))],
        fields=list(MESSAGES.value_type),
    )
    offsets = pa.array(np.arange(0, 2 * number + 1, 2, dtype=np.int32))
    made = pa.ListArray.from_arrays(offsets, said, MESSAGES)
    if number == len(rows):
        return made
    place = np.empty(len(rows), np.int64)
    place[short] = np.arange(number)
    place[~short] = number + np.flatnonzero(~short)
    return pa.concat_arrays([made, messages]).take(pa.array(place))


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
