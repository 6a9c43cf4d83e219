"""The Parquet files of outputs: which they are, what is in them, and one line where one is damaged.

Sizes are compared when a folder is first read (`folder.check_files`), so what is met here is a file
that was changed in its place. `verify` reads every byte.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sft_diversity.core import folder
from sft_diversity.core.errors import DataError


def listed(place: Path, under: str, stage: str | None = None) -> list[Path]:
    """Return the Parquet files in a finished folder's `under` that its manifest names, by name.

    What else lies there is none of its content.

    Raises
    ------
    UsageError, DataError
        If the folder is no finished output of the stage, or a file of it is missing or cut.
    """
    return folder.listed(place, folder.read_input(place, stage), f"{under}/", ".parquet")


def read(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Return a file's rows; raise DataError where it is damaged, or lacks a column."""
    names = None if columns is None else list(columns)
    with _reading(path), pq.ParquetFile(path) as file:  # pq.read_table loads pandas, if it is there
        table: pa.Table = file.read(columns=names)
        for name in names or ():
            if name not in table.column_names:
                raise pa.ArrowInvalid(f"there is no column {name!r}")
        return table if names is None else table.select(names)


def join(paths: Sequence[Path], columns: Sequence[str] | None = None) -> pa.Table:
    """Return the rows of one or more files, one after the other."""
    return pa.concat_tables([read(path, columns) for path in paths])


def counts(table: pa.Table, *columns: str) -> Counter[Any]:
    """Return how many rows have each value of a column, or each tuple of several, in order."""
    if len(columns) == 1:  # a grouping loads pyarrow's data sets, and pandas with them
        each = pc.value_counts(table[columns[0]])
        return Counter(dict(zip(each.field(0).to_pylist(), each.field(1).to_pylist(), strict=True)))
    found = table.group_by(list(columns), use_threads=False).aggregate([([], "count_all")])
    numbers = found["count_all"].to_pylist()
    keys = zip(*(found[name].to_pylist() for name in columns), strict=True)
    return Counter(dict(zip(keys, numbers, strict=True)))


def rows(path: Path) -> int:
    """Return how many rows a file has, from its footer."""
    with _reading(path):
        return int(pq.read_metadata(path).num_rows)


def unpacked(path: Path) -> int:
    """Return the bytes of a file's columns before compression, from its footer."""
    with _reading(path):
        found = pq.read_metadata(path)
    return sum(found.row_group(group).total_byte_size for group in range(found.num_row_groups))


def schema(path: Path) -> pa.Schema:
    """Return the schema of a file, from its footer."""
    with _reading(path):
        return pq.read_schema(path)


def batches(
    path: Path, size: int, columns: Sequence[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """Yield a file's rows, `size` at a time; memory holds a row group."""
    with _reading(path):
        file = pq.ParquetFile(path)
    batches = file.iter_batches(size, columns=None if columns is None else list(columns))
    while True:
        with _reading(path):
            batch = next(batches, None)
        if batch is None:
            return
        yield batch


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as fault:
        if isinstance(fault, MemoryError):
            raise
        why = " ".join(str(fault).split())
        raise DataError(
            f"{path}: cannot be read as Parquet ({why:.200}); if it is part of an output, "
            "`sftdiv verify` says what else is wrong with it: remove it and make it again"
        ) from None
