"""Rows in memory, written to the work folder where `ingest` reads them, named by their content."""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sft_diversity.core import folder, numbers
from sft_diversity.core.errors import UsageError

#: In the work folder.
FOLDER = "memory"


@dataclass(frozen=True)
class Shape:
    """How data of some library gives its column names and its Arrow table."""

    names: Callable[[Any], Sequence[str]]
    arrow: Callable[[Any], pa.Table]


#: By the top module of the data's class: no library is imported that the caller does not use.
SHAPES = {
    "datasets": Shape(lambda d: d.column_names, lambda d: d.with_format("arrow")[:]),
    "polars": Shape(lambda d: d.columns, lambda d: d.to_arrow()),
    "pandas": Shape(
        lambda d: [str(name) for name in d.columns],
        lambda d: pa.Table.from_pandas(d, preserve_index=False),
    ),
    "pyarrow": Shape(lambda d: d.column_names, lambda d: d),
}


def shape(data: Any) -> Shape:
    """Return how to read the data; refuse what is none."""
    name = type(data).__module__.partition(".")[0]
    if name not in SHAPES or not hasattr(data, "__len__"):
        raise UsageError(
            f"data is a {type(data).__module__}.{type(data).__name__}; give a "
            "datasets.Dataset, a polars or pandas frame, an Arrow table, a list of dicts or a path"
        )
    return SHAPES[name]


def length(data: Any) -> int:
    """Return how many rows the data has."""
    if not isinstance(data, Sequence):
        shape(data)
    return len(data)


def names(data: Any) -> set[str]:
    """Return the names of the columns."""
    if isinstance(data, Sequence):
        return {name for row in data for name in row}
    return set(shape(data).names(data))


def written(data: Any, extra: Mapping[str, Any], root: Path) -> Path:
    """Write the data to the work folder, named by its content; return the file."""
    columns = {n: _values(n, given, len(data)) for n, given in extra.items() if given is not None}
    if isinstance(data, Sequence):
        rows = [dict(row) | {n: v[i] for n, v in columns.items()} for i, row in enumerate(data)]
        return _jsonl(rows, root)
    table: pa.Table = shape(data).arrow(data).replace_schema_metadata(None)
    for name, values in columns.items():
        table = table.append_column(name, pa.array(values))
    hashed = _Hashed()
    with pa.ipc.new_stream(hashed, table.schema) as writer:
        writer.write_table(table)
    path = root / FOLDER / hashed.key / "rows.parquet"
    if not path.exists():
        with _writing(path) as scratch:
            pq.write_table(table, scratch, compression="lz4")
    return path


def _jsonl(rows: Sequence[Mapping[str, Any]], root: Path) -> Path:
    try:
        text = b"".join(orjson.dumps(row, option=_JSON) for row in rows)
    except TypeError as fault:
        raise UsageError(f"a row of data is no JSON: {fault}") from None
    return kept_as(text, "rows.jsonl", root)


_JSON = orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY


def kept_as(content: bytes, name: str, root: Path) -> Path:
    """Write a file under a hash of its content, if it is not there."""
    path = root / FOLDER / hashlib.blake2b(content, digest_size=16).hexdigest() / name
    if not path.exists():
        with _writing(path) as scratch:
            scratch.write_bytes(content)
    return path


def _writing(path: Path) -> AbstractContextManager[Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    return folder.writing(path, "select")


class _Hashed:
    """A file that keeps nothing of what is written to it but the hash."""

    closed = False

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=16)

    def write(self, content: Any) -> int:
        self._hash.update(content)
        return len(content)

    @property
    def key(self) -> str:
        """32 hex digits."""
        return self._hash.hexdigest()


def _values(name: str, given: Any, rows: int) -> list[Any]:
    """Return a value a row: numbers, or lists of tags; of a CSR matrix its columns' numbers."""
    if hasattr(given, "indptr"):
        width = len(str(given.shape[1]))
        tags = [f"{column:0{width}}" for column in given.indices.tolist()]
        values = [tags[a:b] for a, b in itertools.pairwise(given.indptr.tolist())]
    else:
        values = given.tolist() if isinstance(given, np.ndarray) else list(given)
    if len(values) != rows:
        what = name.removeprefix("sftdiv_")
        raise UsageError(
            f"select: {what} has {len(values):,} rows and data {rows:,}; give one each"
        )
    return values


def ids_at(given: str | Sequence[str] | None, root: Path) -> str | None:
    """Return a file of ids; ids in memory are written to one, none to none."""
    if given is None or isinstance(given, str | Path):
        return None if given is None else str(given)
    if not len(given):
        return None
    return str(kept_as("".join(f"{id}\n" for id in given).encode(), "ids.txt", root))


def csv_at(data: Any, root: Path, name: str) -> Path:
    """Write a small table as CSV under a hash of its content; numbers lose no digit."""
    rows = data if isinstance(data, Sequence) else shape(data).arrow(data).to_pylist()
    text = io.StringIO()
    columns = dict.fromkeys(column for row in rows for column in row)
    writer = csv.DictWriter(text, list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return kept_as(text.getvalue().encode(), f"{name}.csv", root)


def vectors_at(given: Any, rows: int | None, ids: Sequence[str] | None, root: Path) -> str | None:
    """Return a file of vectors; an array is written, with the ids of its rows where they are known.

    Raises
    ------
    UsageError
        If it is no matrix of numbers, or has not as many `rows` as the data.
    """
    if given is None or isinstance(given, str | Path):
        return None if given is None else str(given)
    try:
        array = np.ascontiguousarray(given)
    except ValueError:  # rows of several lengths
        array = np.empty(0, object)
    if array.ndim != 2 or array.dtype.kind not in "fiu":
        raise UsageError(
            f"select: embeddings are of shape {array.shape} and type {array.dtype}; give an array "
            "of numbers of shape (rows, dimensions), or a file"
        )
    if rows is not None and len(array) != rows:
        raise UsageError(
            f"select: embeddings has {len(array):,} rows and data {rows:,}; give one each"
        )
    return str(_file_of(array, ids, root))


def vectors_by_id(at: str, samples: pa.Table, data: Any, root: Path) -> str:
    """Return a file of the vectors of samples by their ids, out of one in the data's order."""
    array = np.load(at, mmap_mode="r", allow_pickle=False)[rows_of(samples, data)]
    return str(_file_of(array, samples["id"].to_pylist(), root))


def _file_of(array: npt.NDArray[Any], ids: Sequence[str] | None, root: Path) -> Path:
    """Write vectors, with the ids of their rows if given, under a hash of both."""
    hashed = _Hashed()
    hashed.write("\n".join([str(array.dtype), str(array.shape), *(ids or ())]).encode())
    hashed.write(array.data)
    path = root / FOLDER / hashed.key / f"embeddings.{'npy' if ids is None else 'parquet'}"
    if not path.exists():
        with _writing(path) as scratch:
            if ids is None:
                numbers.save_array(scratch, array)
            else:
                flat = pa.array(array.reshape(-1))
                lists = pa.FixedSizeListArray.from_arrays(flat, array.shape[1])
                pq.write_table(pa.table({"id": list(ids), "embedding": lists}), scratch)
    return path


def tokenizer_at(given: Any, root: Path) -> str | None:
    """Return where a tokenizer is; one in memory is written as `tokenizer.json`."""
    if given is None or isinstance(given, str | Path):
        return None if given is None else str(given)
    fast = getattr(given, "backend_tokenizer", given)
    if not hasattr(fast, "to_str"):
        raise UsageError(
            f"select: tokenizer is a {type(given).__name__}; give a fast tokenizer of "
            "transformers, a tokenizers.Tokenizer, a folder or a Hub id"
        )
    return str(kept_as(fast.to_str().encode(), "tokenizer.json", root))


def rows_of(samples: pa.Table, data: Any) -> npt.NDArray[np.int64]:
    """Return the rows of the data that samples were read from.

    Rows that this package wrote keep the place that they had in their first source: they are known
    by their id. Of rows with one id the first counts, as it does in `ingest`.
    """
    rows = samples["source_row"]
    if "id" in names(data):
        given = [row.get("id") for row in data] if isinstance(data, Sequence) else None
        held = pa.array(map(str, given)) if given is not None else shape(data).arrow(data)["id"]
        known = pc.index_in(samples["id"], value_set=held.cast(pa.string()))
        rows = pc.coalesce(known.cast(pa.int64()), rows)
    found: npt.NDArray[np.int64] = rows.to_numpy().astype(np.int64)
    return found
