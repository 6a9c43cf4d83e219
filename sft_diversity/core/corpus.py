"""A corpus on disk: shards that are buckets by `id` prefix, rows ordered by id."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sft_diversity.core import arrow, folder, messages, parquet, schema
from sft_diversity.core.errors import DataError
from sft_diversity.core.messages import Component as Component
from sft_diversity.core.numbers import Ints

_SHARD_BYTES = 256 << 20

#: Components that every sample has as a column.
COMPONENTS: tuple[Component, ...] = ("instruction", "response")

#: Stages whose output is a corpus.
MAKERS = ("ingest", "rewrite", "clean")


def is_corpus(path: Path) -> bool:
    """Whether `path` is a finished corpus."""
    return folder.stage_of(path) in MAKERS


def manifest(corpus: Path) -> dict[str, Any]:
    """Return the corpus's manifest.

    Raises
    ------
    UsageError
        If the folder is no finished corpus.
    """
    return folder.read_manifest(corpus, None if is_corpus(corpus) else "ingest")


def shards(corpus: Path) -> list[Path]:
    """Return the corpus's shard files in id order.

    Raises
    ------
    UsageError
        If the folder is no finished corpus.
    """
    return parquet.listed(corpus, "samples", None if is_corpus(corpus) else "ingest")


def rows(corpus: Path) -> int:
    """Return the samples of a corpus, from its shards' footers."""
    return sum(parquet.rows(path) for path in shards(corpus))


def key(corpus: Path) -> str:
    """Return the content key of the corpus: a hash of its shards, not of how they were made."""
    return folder.contents_key(manifest(corpus), "samples/")


def licences(corpus: Path) -> dict[str, str]:
    """Return the licence of each source that the corpus states one for."""
    return licences_of(manifest(corpus))


def licences_of(made: Mapping[str, Any]) -> dict[str, str]:
    """Return the licence of each source that the manifest of a corpus, subset or export states."""
    result = made.get("result", {})
    listed = result.get("sources", [])
    of_corpus = {
        str(one["name"]): str(one["licence"])
        for one in (listed if isinstance(listed, list) else [])
        if isinstance(one, dict) and one.get("name") and one.get("licence")
    }
    exported = made.get("config", {}).get("licences", {}) if made.get("stage") == "export" else {}
    return {**exported, **result.get("licences", {}), **of_corpus}


def emptied(made: Mapping[str, Any]) -> Iterator[str]:
    """Say of each source in a corpus's manifest that gave no sample why it did not."""
    for source in made["result"]["sources"]:
        rows = source["rows"]
        lost = {**rows["dropped"], "bad": rows["quarantined"]}
        reasons = sorted((what for what in lost if lost[what]), key=lambda what: -lost[what])
        why = ", ".join(f"{lost[what]:,} {what}" for what in reasons) or "it is empty"
        if not rows["kept"]:
            yield f"source {source['name']}: none of its {rows['in']:,} rows is kept: {why}"


def read_file(path: Path, columns: Sequence[str]) -> pa.Table:
    """Return columns of a file of samples.

    Components that no column holds are made of the messages; `tools` is null where there are none.
    """
    asked = [name for name in columns if name == "tools" or name in messages.DERIVED]
    held = parquet.schema(path).names if asked else []
    missing = [name for name in asked if name not in held]
    if not missing:
        return parquet.read(path, columns)
    source = "messages" if "tools" in held else "response"
    wanted = [name for name in columns if name not in missing]
    table = parquet.read(path, list(dict.fromkeys([*wanted, source])))
    found = {name: table[name] for name in wanted}
    for name in missing:
        found[name] = _made(table[source], name)
    return pa.table({name: found[name] for name in columns})


def _made(column: pa.ChunkedArray, name: str) -> pa.Array | pa.ChunkedArray:
    """Return `tools` or a component, of structured messages or of the responses of plain ones."""
    if name == "tools":
        return pa.nulls(len(column), pa.string())
    if column.type != pa.string():
        return messages.derived(column, name)
    return column if name == "answer" else pa.repeat(pa.scalar("", pa.string()), len(column))


def check_component(corpus: Path, component: Component, stage: str) -> None:
    """Refuse a component that no sample of a corpus can have.

    Raises
    ------
    DataError
        If its samples are plain, and have neither thoughts nor calls.
    """
    if component in ("thinking", "tool-call"):
        files = shards(corpus)
        if files and "tools" not in parquet.schema(files[0]).names:
            held = "a thought" if component == "thinking" else "a call of a tool"
            raise DataError(
                f"{stage}: no sample of the corpus has {held} apart from its answer; take another "
                "component, or ingest the raw data again if an older version made the corpus"
            )


def read(corpus: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Return the whole corpus (or some columns), ordered by id."""
    tables = [
        parquet.read(path) if columns is None else read_file(path, columns)
        for path in shards(corpus)
    ]
    if not tables:
        raise DataError(f"{corpus}: the corpus has no rows")
    return pa.concat_tables(tables)


def ids(corpus: Path) -> pa.Array:
    """Return the ids of a corpus, ascending, shape (n,)."""
    return read(corpus, ["id"])["id"].combine_chunks()


def batches(corpus: Path, columns: Sequence[str]) -> Iterator[pa.Table]:
    """Yield one table a shard, in id order; memory holds one shard at a time."""
    for path in shards(corpus):
        yield read_file(path, columns)


def take(corpus: Path, rows: Ints, columns: Sequence[str] | None = None) -> pa.Table:
    """Return the corpus rows numbered `rows` (in id order from 0), in the order asked for.

    Memory holds the rows taken and one shard; time is one read of the shards that have any.
    """
    order = np.argsort(rows, kind="stable")
    ascending = rows[order]
    parts, start = [], 0
    for path in shards(corpus):
        stop = start + parquet.rows(path)
        here = ascending[np.searchsorted(ascending, start) : np.searchsorted(ascending, stop)]
        if len(here):
            table = parquet.read(path) if columns is None else read_file(path, columns)
            parts.append(table.take(arrow.numbers(here - start)))
        start = stop
    if not parts:
        return schema.SAMPLES.empty_table()
    places = np.empty(len(rows), dtype=np.int64)
    places[order] = np.arange(len(rows))
    return pa.concat_tables(parts).take(arrow.numbers(places))


def rows_among(ids: pa.Array, known: pa.Array, whose: str, what: str) -> Ints:
    """Return where samples are in a larger set, shape (n,).

    Raises
    ------
    DataError
        If one is not; `whose` they are begins the message, `what` the set is stands in it.
    """
    rows = pc.index_in(ids, value_set=known)
    if rows.null_count:
        raise DataError(
            f"{whose}: {rows.null_count:,} of {len(ids):,} samples are not in {what}; "
            "name the work folder that they were selected with (--work)"
        )
    return np.asarray(rows.to_numpy(zero_copy_only=False)).astype(np.int64)


def bucket_digits(rows: int, size: int = 0) -> int:
    """Return how many hex digits of the id name a bucket: shards of some thousand rows.

    Of fewer where the `size` bytes of all rows are many: a shard is made in memory, and the texts
    of a table's column have at most 2 GB.
    """
    digits = 0
    while rows / 16**digits > 20_000 or size / 16**digits > _SHARD_BYTES:
        digits += 1
    return digits
