"""Runs: rows of one part, sorted by id, in Arrow files that are read without copying.

A run is what fits in memory at once; the shards are made of all runs afterwards, as in an external
merge sort.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sft_diversity.core import arrow
from sft_diversity.core.drafts import Draft
from sft_diversity.core.errors import DataError
from sft_diversity.core.messages import FIELDS
from sft_diversity.core.schema import STRUCTURED

_MAX_ROWS = 50_000
_MAX_BYTES = 64 << 20

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
        ("messages", STRUCTURED),
        ("tools", pa.string()),
        ("source", pa.string()),  # these three of rows that an earlier corpus held, else ""
        ("source_file", pa.string()),
        ("source_row", pa.int64()),
    ]
)


class RunRow(NamedTuple):
    """One row of a run, in the order of its columns; texts in UTF-8.

    `messages` are turns, or None where instruction and response tell them.
    """

    id: bytes
    key: bytes
    file: int
    row: int
    empty: bool
    instruction: bytes
    response: bytes
    meta: bytes
    messages: list[dict[str, str | None]] | None
    tools: bytes | None = None
    source: bytes = b""
    source_file: bytes = b""
    source_row: int = -1


class RunWriter:
    """Collects rows and writes them as runs `<prefix>-<number>.arrow` of a draft."""

    def __init__(self, draft: Draft, prefix: str) -> None:
        self._draft, self._prefix = draft, prefix
        self._columns: list[list[Any]] = [[] for _ in RunRow._fields]
        self._bytes = 0
        self.names: list[str] = []

    def add(self, row: RunRow) -> None:
        """Add one row."""
        for column, value in zip(self._columns, row, strict=True):
            column.append(value)
        self._grow(len(row.instruction) + len(row.response) + len(row.meta))

    def extend(self, rows: Sequence[Sequence[Any]]) -> None:
        """Add rows, given as columns in the order of `RunRow`."""
        for column, values in zip(self._columns, rows, strict=True):
            column += values
        self._grow(sum(sum(map(len, rows[place])) for place in _TEXTS))

    def _grow(self, size: int) -> None:
        self._bytes += size
        if self._bytes > _MAX_BYTES or len(self._columns[0]) >= _MAX_ROWS:
            self.flush()

    def flush(self) -> None:
        """Write what was collected as a run, ordered by the first half of the ids."""
        if not self._columns[0]:
            return
        ids = arrow.fixed(self._columns[0])
        order = np.argsort(arrow.halves(pa.chunked_array([ids]))[0], kind="stable")
        places = order.tolist()
        id, key, file, row, empty, instruction, response, meta, messages, tools, *origin = (
            column if column.count(column[0]) == len(column) else [*map(column.__getitem__, places)]
            for column in self._columns
        )
        arrays = [
            arrow.fixed(id),
            arrow.fixed(key),
            arrow.numbers(np.array(file, np.int32)),
            arrow.numbers(np.array(row, np.int64)),
            arrow.truths(np.array(empty)),
            arrow.texts(instruction),
            arrow.texts(response),
            arrow.texts(meta),
            _messages(messages),
            _optional(tools),
            arrow.texts(origin[0]),
            arrow.texts(origin[1]),
            arrow.numbers(np.array(origin[2], np.int64)),
        ]
        name = f"{self._prefix}-{len(self.names):04d}.arrow"
        with (
            self._draft.writing(name) as path,
            pa.OSFile(str(path), "wb") as sink,
            pa.ipc.new_file(sink, RUN) as writer,
        ):
            writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=RUN))
        self.names.append(name)
        self._columns, self._bytes = [[] for _ in RunRow._fields], 0


_TEXTS = [RunRow._fields.index(name) for name in ("instruction", "response", "meta")]


def _messages(rows: Sequence[list[dict[str, str | None]] | None]) -> pa.Array:
    turns = [turn for row in rows if row for turn in row]
    fields = []
    for name in _FIELDS:
        said = [turn[name] for turn in turns]
        plain = name in ("role", "content")
        fields.append(arrow.texts([str(x).encode() for x in said]) if plain else _texts(said))
    said = pa.StructArray.from_arrays(fields, fields=list(STRUCTURED.value_type))
    offsets = np.cumsum([0, *(len(row) if row else 0 for row in rows)])
    missing = np.array([row is None for row in rows])
    return arrow.lists(offsets.astype(np.int32), said, STRUCTURED, missing)


_FIELDS = [field.name for field in STRUCTURED.value_type]


def _texts(values: Sequence[str | None]) -> pa.Array:
    return _optional([None if value is None else value.encode() for value in values])


def _optional(values: Sequence[bytes | None]) -> pa.Array:
    if not any(values):
        return pa.nulls(len(values), pa.string())
    missing = np.array([value is None for value in values])
    return arrow.texts([value or b"" for value in values], missing)


def is_structured(run: pa.Table) -> bool:
    """Whether a row of a run has more than texts."""
    said = pc.list_flatten(run["messages"].combine_chunks())
    fields = [said.field(name) for name in FIELDS]
    return any(one.null_count < len(one) for one in (run["tools"], *fields))


def whole_messages(rows: pa.Table, type: pa.DataType) -> pa.Array:
    """Return the messages of a table of runs, those left out made of instruction and response.

    Of their turns the fields of `type` are there, MESSAGES or STRUCTURED.
    """
    messages = arrow.narrowed(rows["messages"].combine_chunks(), type)
    short = arrow.joined([pa.chunked_array([messages.is_null()])], np.bool_)
    number = int(short.sum())
    if not number:
        return messages
    mask = arrow.truths(short)
    asked, answered = (
        rows[name].filter(mask).combine_chunks() for name in ("instruction", "response")
    )
    # user and assistant in turn: 0, n, 1, n + 1, ...
    woven = arrow.numbers(np.arange(2 * number).reshape(2, number).T.ravel())
    roles = arrow.named(np.tile(np.array([0, 1], np.int32), number), ["user", "assistant"])
    contents = pa.concat_arrays([asked, answered]).take(woven)
    turn = type.value_type
    blank = [pa.nulls(2 * number, pa.string())] * (turn.num_fields - 2)
    said = pa.StructArray.from_arrays([roles, contents, *blank], fields=list(turn))
    made = arrow.lists(np.arange(0, 2 * number + 1, 2, dtype=np.int32), said, type)
    if number == len(rows):
        return made
    place = np.empty(len(rows), np.int64)
    place[short] = np.arange(number)
    place[~short] = number + np.flatnonzero(~short)
    return pa.concat_arrays([made, messages]).take(arrow.numbers(place))


def read_run(path: Path) -> pa.Table:
    """Return a run as a table whose buffers are the mapped file.

    Raises
    ------
    DataError
        If it is damaged: it may be of a run that was stopped long ago.
    """
    try:
        run = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        run.validate(full=True)
        return run.cast(RUN)
    except (pa.ArrowException, OSError) as fault:
        draft = path.parents[1]
        raise DataError(f"ingest: {path} is damaged ({fault}); remove {draft}") from None
