"""A corpus on disk: shards that are buckets by `id` prefix, rows ordered by id."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from sft_diversity.core import folder, schema
from sft_diversity.core.errors import DataError
from sft_diversity.core.hashing import content_key

Component = Literal["instruction", "response"]
COMPONENTS: tuple[Component, ...] = ("instruction", "response")


def shards(corpus: Path) -> list[Path]:
    """Return the corpus's shard files in id order.

    Raises
    ------
    UsageError
        If the folder is no finished output of `ingest`.
    """
    folder.read_manifest(corpus, "ingest")
    return sorted((corpus / "samples").glob("*.parquet"))


def key(corpus: Path) -> str:
    """Return the content key of the corpus: a hash of its shards, not of how they were made."""
    manifest = folder.read_manifest(corpus, "ingest")
    return content_key([f for f in manifest["files"] if f["path"].startswith("samples/")])


def read(corpus: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Return the whole corpus (or some columns), ordered by id."""
    tables = [pq.read_table(path, columns=columns) for path in shards(corpus)]
    if not tables:
        raise DataError(f"{corpus}: the corpus has no rows")
    return pa.concat_tables(tables)


def batches(corpus: Path, columns: Sequence[str]) -> Iterator[pa.Table]:
    """Yield one table a shard, in id order; memory holds one shard at a time."""
    for path in shards(corpus):
        yield pq.read_table(path, columns=list(columns))


def bucket_digits(rows: int) -> int:
    """Return how many hex digits of the id name a bucket: shards of some thousand rows."""
    digits = 0
    while rows / 16**digits > 20_000:
        digits += 1
    return digits


def check_shard(table: pa.Table, stage: str) -> pa.Table:
    """Return `table` as canonical samples."""
    return schema.check(table, schema.SAMPLES, stage)
