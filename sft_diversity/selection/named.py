"""What options name: ids in folders and files, columns of the corpus."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sft_diversity.core import corpus as corpora
from sft_diversity.core import folder
from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.core.hashing import file_sha256
from sft_diversity.core.kernels import Rows

_IDS = "a subset folder, a Parquet file with a column `id`, or a text file with an id a line"


def rows_of(named: str, ids: pa.Array, option: str, *, strict: bool) -> Rows:
    """Return the rows whose ids a subset folder, a Parquet file or a text file names."""
    places = pc.index_in(ids_of(named, option), value_set=ids)
    if strict and places.null_count:
        raise DataError(
            f"select: {option}: {named} has {places.null_count:,} samples that are not in this "
            "corpus; use ids of the same corpus"
        )
    rows = places.drop_null().to_numpy().astype(np.int64)
    _, first = np.unique(rows, return_index=True)
    distinct: Rows = rows[np.sort(first)]
    return distinct


def ids_of(named: str, option: str) -> pa.Array | pa.ChunkedArray:
    """Return the ids that a subset folder, a Parquet file or a text file names, in its order."""
    place = Path(named)
    if place.is_dir():
        manifest = folder.read_manifest(place, None)
        files = sorted((place / "samples").glob("*.parquet"))
        if not files:
            raise UsageError(f"select: {option}: {place} ({manifest['stage']}) holds no samples")
        return pa.concat_tables([pq.read_table(f, columns=["id"]) for f in files])["id"]
    try:
        if place.suffix == ".parquet" and place.is_file():
            return pq.read_table(place, columns=["id"])["id"].cast(pa.string())
        if place.is_file():
            lines = place.read_text("utf-8").split("\n")
            return pa.array([line.strip() for line in lines if line.strip()], pa.string())
    except (KeyError, UnicodeDecodeError, pa.ArrowException):
        raise UsageError(f"select: {option}: {place} holds no ids; give {_IDS}") from None
    raise UsageError(f"select: {option}: {place} is not there; give {_IDS}")


def content_of(named: str) -> str:
    """Return a key of the ids that a folder or file names."""
    place = Path(named)
    if place.is_dir():
        return folder.contents_key(folder.read_manifest(place))
    return file_sha256(place) if place.is_file() else ""


def column_of(corpus: Path, column: str) -> pa.ChunkedArray:
    """Return a column of the samples, or `meta.KEY`: what the source had under that key.

    Raises
    ------
    UsageError
        If there is no such column, or no sample has the key.
    """
    if not column.startswith("meta."):
        names = pq.read_schema(corpora.shards(corpus)[0]).names
        if column not in names or column in ("messages", "meta"):
            known = ", ".join(name for name in names if name not in ("messages", "meta"))
            raise UsageError(f"select: no column {column!r}; known: {known}, meta.KEY")
        return corpora.read(corpus, [column])[column]
    key = column.removeprefix("meta.")
    values = [
        json.loads(meta).get(key) for meta in corpora.read(corpus, ["meta"])["meta"].to_pylist()
    ]
    if all(value is None for value in values):
        raise UsageError(f"select: no sample has {key!r} in its meta")
    texts = [v if v is None or isinstance(v, str) else json.dumps(v) for v in values]
    return pa.chunked_array([pa.array(texts, pa.string())])
