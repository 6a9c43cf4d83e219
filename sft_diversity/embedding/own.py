"""Own vectors: a file that another encoder made, in the place of the corpus's embeddings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sft_diversity.core import corpus as corpora
from sft_diversity.core import parquet
from sft_diversity.core import vectors as core_vectors
from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.core.stage import Unit

_COLUMN = "embedding"
_PLACE = ["id", "source", "source_file", "source_row"]


@dataclass(frozen=True)
class OwnVectors:
    """Vectors in a file's order.

    Attributes
    ----------
    matrix : array of numbers, shape (rows, d)
        Of a `.npy` file a memory map: what is not asked for is not read.
    ids : string array, shape (rows,), or None
        Of the samples; None: row i is that of row i of the one file that the corpus was made of.
    """

    path: Path
    matrix: npt.NDArray[Any]
    ids: pa.Array | None

    def rows_of(self, corpus: Path) -> npt.NDArray[np.int64]:
        """Return the row of each sample of a corpus, in its order, shape (n,).

        Raises
        ------
        DataError
            If a sample has no vector, or rows without ids are not those of one source file.
        """
        places = corpora.read(corpus, _PLACE)
        if self.ids is None:
            self._check_order(places, corpora.manifest(corpus).get("result", {}))
            return np.asarray(places["source_row"].to_numpy())
        known = pc.index_in(places["id"], value_set=self.ids)
        if known.null_count:
            lost = places["id"].filter(pc.is_null(known))
            raise DataError(
                f"embed: {self.path}: has no vector of {len(lost):,} of {len(places):,} samples, "
                f"such as {lost[0].as_py()}; give one each"
            )
        return np.asarray(known.to_numpy()).astype(np.int64)

    def _check_order(self, places: pa.Table, made: dict[str, Any]) -> None:
        named = set(places["source_file"].unique().to_pylist())
        read = [file for source in made.get("sources", ()) for file in source["files"]]
        rows = {file["file"]: file["rows"] for file in read}
        if len(places.group_by(["source", "source_file"]).aggregate([])) > 1 or (
            read and (len(read) > 1 or named != set(rows))
        ):
            raise DataError(
                f"embed: {self.path}: rows without ids are those of one source file, and the "
                f"corpus is made of others; give a Parquet file with columns id and {_COLUMN}"
            )
        wanted = sum(rows.values()) or int(pc.max(places["source_row"]).as_py()) + 1
        if len(self.matrix) < wanted or (rows and len(self.matrix) != wanted):
            raise DataError(
                f"embed: {self.path}: has {len(self.matrix):,} vectors, the source file "
                f"{wanted:,} rows; give one each, or a Parquet file with columns id and {_COLUMN}"
            )

    def by_unit(
        self, corpus: Path, units: Iterable[Unit], wanted: Iterable[Unit]
    ) -> Iterator[tuple[Unit, npt.NDArray[np.float16]]]:
        """Yield the unit vectors of each wanted unit; `units` are all of the corpus, in order."""
        rows, starts, start = self.rows_of(corpus), {}, 0
        for unit in units:
            starts[unit.name], start = start, start + unit.rows
        for unit in wanted:
            place = rows[starts[unit.name] : starts[unit.name] + unit.rows]
            try:
                vectors = core_vectors.unit(self.matrix[place])
            except DataError as fault:
                raise DataError(f"{fault}, in {self.path}; give others") from None
            yield unit, vectors.astype(np.float16)


def own_vectors(path: Path, read: bool = True) -> OwnVectors:
    """Open a file of vectors.

    Parameters
    ----------
    path : Path
        `.npy`, an array of shape (rows, d); or Parquet with a column `embedding` of lists of one
        length, and a column `id` or none. No pickled object is loaded.
    read : bool
        Whether a Parquet file is read; else its columns are looked at.

    Raises
    ------
    UsageError, DataError
        If the file is not there, or is no such file.
    """
    if not path.is_file():
        raise UsageError(f"embed: embeddings {path}: no such file; name a .npy or .parquet file")
    if path.suffix == ".npy":
        return OwnVectors(path, _array(path), None)
    names = parquet.schema(path).names
    if _COLUMN not in names:
        raise UsageError(
            f"embed: embeddings {path}: has columns {', '.join(names)}; give `{_COLUMN}`, a list "
            "of numbers a row, and `id`"
        )
    if not read:
        return OwnVectors(path, np.empty((0, 0)), None)
    wanted = [name for name in ("id", _COLUMN) if name in names]
    table = parquet.read(path, wanted).combine_chunks()
    ids = table["id"].cast(pa.string()).combine_chunks() if "id" in names else None
    if ids is not None and len(ids.unique()) < len(ids):
        raise DataError(f"embed: embeddings {path}: ids repeat; give one vector a sample")
    return OwnVectors(path, _lists(path, table[_COLUMN].combine_chunks()), ids)


def _array(path: Path) -> npt.NDArray[Any]:
    try:
        matrix = np.lib.format.open_memmap(path, mode="r")
    except (ValueError, OSError, EOFError) as fault:
        raise DataError(f"embed: embeddings {path}: no plain .npy array ({fault!s:.200})") from None
    if matrix.ndim != 2 or 0 in matrix.shape or matrix.dtype.kind not in "fiu":
        raise DataError(
            f"embed: embeddings {path}: an array of shape {matrix.shape} and type {matrix.dtype}; "
            "give numbers of shape (rows, dimensions)"
        )
    return matrix


def _lists(path: Path, column: pa.Array) -> npt.NDArray[Any]:
    is_list = pa.types.is_list(column.type) or pa.types.is_large_list(column.type)
    lengths = pc.list_value_length(column).unique() if is_list else None
    if pa.types.is_fixed_size_list(column.type):
        lengths = pa.array([column.type.list_size])
    if lengths is None or column.null_count or len(lengths) != 1 or lengths[0].as_py() == 0:
        raise DataError(
            f"embed: embeddings {path}: column {_COLUMN} is {column.type}, or its lists differ in "
            "length; give lists of numbers of one length"
        )
    flat = column.flatten()
    if not (pa.types.is_floating(flat.type) or pa.types.is_integer(flat.type)):
        raise DataError(f"embed: embeddings {path}: column {_COLUMN} has lists of {flat.type}")
    values = flat.to_numpy(zero_copy_only=False)
    return np.asarray(values).reshape(-1, lengths[0].as_py())
