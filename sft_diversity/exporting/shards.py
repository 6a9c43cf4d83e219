"""The data files of an export: samples streamed in and counted, shards written and read back."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sft_diversity.core import drafts, messages, parquet, schema
from sft_diversity.core.errors import DataError
from sft_diversity.exporting import formats

BATCH_ROWS = 2_000  # rows turned at once; also the Parquet row group, so that viewers page fast


@dataclass
class Statistics:
    """What a card says of the rows; `add` counts a shard's."""

    rows: int = 0
    dialogues: int = 0
    with_system: int = 0
    prompt_characters: int = 0
    completion_characters: int = 0
    sources: Counter[str] = field(default_factory=Counter)

    def add(self, rows: pa.Table) -> None:
        """Count the rows of an exported table."""
        self.rows += rows.num_rows
        for source, number in parquet.counts(rows, "source").items():
            self.sources[source or "(not named)"] += number
        for turns in formats.dialogues(rows["messages"]):
            self.dialogues += formats.is_dialogue(turns)
            self.with_system += turns[0]["role"] == "system"
        self.prompt_characters += _characters(rows["prompt"])
        self.completion_characters += _characters(rows["completion"])

    def as_json(self) -> dict[str, Any]:
        """Return the counts and means as JSON values."""
        return {
            "rows": self.rows,
            "dialogues": self.dialogues,
            "with_system": self.with_system,
            "mean_prompt_characters": round(self.prompt_characters / max(self.rows, 1), 1),
            "mean_completion_characters": round(self.completion_characters / max(self.rows, 1), 1),
            "sources": dict(sorted(self.sources.items(), key=lambda item: (-item[1], item[0]))),
        }


def _characters(column: pa.ChunkedArray) -> int:
    if column.type == messages.OBJECTS:
        return sum(len(turn["content"]) for turns in formats.dialogues(column) for turn in turns)
    turns = pc.list_flatten(column)
    return int(pc.sum(pc.utf8_length(pc.struct_field(turns, "content"))).as_py() or 0)


class RowStream:
    """The rows of several Parquet files, taken in pieces of any size; a file's batch in memory.

    Rows whose id is in `without` are passed over.
    """

    def __init__(self, files: list[Path], wanted: pa.Schema, without: set[str]) -> None:
        self._batches = self._read(files, wanted, pa.array(sorted(without), pa.string()))
        self._held = wanted.empty_table()

    @staticmethod
    def _read(files: list[Path], wanted: pa.Schema, without: pa.Array) -> Iterator[pa.Table]:
        for path in files:
            for batch in parquet.batches(path, BATCH_ROWS):
                table = schema.check(pa.Table.from_batches([batch]), wanted, "export")
                yield table.filter(pc.invert(pc.is_in(table["id"], without))) if without else table

    def take(self, count: int) -> Iterator[pa.Table]:
        """Yield tables that hold the next `count` rows together."""
        while count:
            while self._held.num_rows == 0:
                self._held = next(self._batches)
            piece = self._held.slice(0, count)
            self._held = self._held.slice(piece.num_rows)
            count -= piece.num_rows
            yield piece


def write_shard(
    draft: drafts.Draft,
    name: str,
    pieces: Iterator[pa.Table],
    format: formats.Name,
    statistics: Statistics,
    advance: Callable[[int], None],
) -> None:
    """Write one shard and read it back; one that a stopped run finished is only read back."""
    tables = []
    for piece in pieces:
        chat = formats.exported(piece)
        statistics.add(chat)
        tables.append(formats.formatted(chat, format))
        advance(piece.num_rows)
    shard = pa.concat_tables(tables)
    if not draft.has(name):
        with draft.writing(name) as path:
            if name.endswith(".jsonl"):
                _write_jsonl(path, shard)
            else:
                pq.write_table(shard, path, compression="zstd", row_group_size=BATCH_ROWS)
    path = draft.path / name
    if not (_jsonl_holds if name.endswith(".jsonl") else _parquet_holds)(path, shard):
        raise DataError(f"export: {name} does not read back as written; is the disk sound?")


def _write_jsonl(path: Path, table: pa.Table) -> None:
    """Write one JSON object a line, keys in the order of columns, UTF-8, lines ended by LF."""
    with path.open("wb") as out:
        for batch in table.to_batches(BATCH_ROWS):
            out.writelines(
                orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in _rows(batch)
            )


def _rows(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """Return rows as objects, turns among them."""
    table = pa.Table.from_batches([batch])
    rows: list[dict[str, Any]] = table.to_pylist()
    for name in table.column_names:
        if table[name].type == messages.OBJECTS:
            for row, turns in zip(rows, formats.dialogues(table[name]), strict=True):
                row[name] = turns
    return rows


def _jsonl_holds(path: Path, table: pa.Table) -> bool:
    with path.open("rb") as lines:
        wanted = (row for batch in table.to_batches(BATCH_ROWS) for row in _rows(batch))
        pairs = itertools.zip_longest(lines, wanted)
        return all(line is not None and orjson.loads(line) == row for line, row in pairs)


def _parquet_holds(path: Path, table: pa.Table) -> bool:
    return bool(parquet.read(path).equals(table))
