"""Embeddings on disk: one table a corpus shard and component, ordered by id as the corpus is."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sft_diversity.core import folder, parquet
from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.core.hashing import content_key

Vectors: TypeAlias = npt.NDArray[np.float32]


def key(embeddings: Path, component: str) -> str:
    """Return the content key of one component's embeddings: a hash of its files."""
    manifest = folder.read_manifest(embeddings, "embed")
    files = [f for f in manifest["files"] if f["path"].startswith(f"{component}/")]
    return content_key(files)


def read_component(embeddings: Path, component: str) -> tuple[pa.Array, Vectors]:
    """Return the ids and the unit vectors of one component.

    Parameters
    ----------
    embeddings : Path
        A finished output of `embed`.
    component : str
        `instruction` or `response`.

    Returns
    -------
    ids : string array, shape (n,)
        Ascending, as in the corpus.
    vectors : float32 array, shape (n, d)
        Renormalised to unit length in float32: float16 storage leaves norms off by about 1e-4.

    Raises
    ------
    UsageError
        If the folder is no output of `embed` or lacks the component.
    """
    paths = parquet.listed(embeddings, component, "embed")
    if not paths:
        raise UsageError(
            f"{embeddings}: holds no embeddings of component `{component}`; "
            "embed the corpus with that component"
        )
    table = parquet.join(paths)
    return table["id"].combine_chunks(), unit(matrix(table["embedding"]))


def take(embeddings: Path, component: str, rows: npt.NDArray[np.int64]) -> Vectors:
    """Return the unit vectors of some rows (numbered in id order), in the order asked for.

    Memory holds the vectors taken and one shard; see `read_component` for the rest.
    """
    taken: npt.NDArray[np.float16] | None = None
    start = 0
    for path in parquet.listed(embeddings, component, "embed"):
        here = matrix(parquet.read(path, ["embedding"])["embedding"])
        inside = (rows >= start) & (rows < start + len(here))
        if taken is None:
            taken = np.empty((len(rows), here.shape[1]), np.float16)
        taken[inside] = here[rows[inside] - start]
        start += len(here)
    if taken is None or (len(rows) and not 0 <= rows.min() <= rows.max() < start):
        raise UsageError(f"{embeddings}: lacks embeddings of component `{component}` or rows of it")
    return unit(taken)


def ids(embeddings: Path, component: str) -> pa.Array:
    """Return the sample ids of one component's embeddings, ascending."""
    paths = parquet.listed(embeddings, component, "embed")
    return parquet.join(paths, ["id"])["id"].combine_chunks()


def matrix(column: pa.ChunkedArray | pa.Array) -> npt.NDArray[np.float16]:
    """Return a column of `n` fixed-size float16 lists as an array of shape (n, d)."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    width = array.type.list_size
    return np.asarray(array.flatten().to_numpy(zero_copy_only=False)).reshape(-1, width)


def column(vectors: npt.NDArray[np.float16]) -> pa.Array:
    """Return an array of shape (n, d) as a column of fixed-size float16 lists."""
    flat = pa.array(np.ascontiguousarray(vectors).reshape(-1), pa.float16())
    return pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])


def unit(vectors: npt.NDArray[np.floating]) -> Vectors:
    """Return `vectors` as float32 rows of length one.

    Raises
    ------
    DataError
        If a row is zero or not finite: it has no direction.
    """
    rows = vectors.astype(np.float32)
    norms = np.sqrt(np.einsum("nd,nd->n", rows, rows))
    bad = ~(np.isfinite(norms) & (norms > 0))
    if bad.any():
        raise DataError(f"embed: {int(bad.sum()):,} of {len(rows):,} vectors are zero or NaN")
    rows /= norms[:, None]
    return rows


def check_points(points: Vectors, size: int) -> None:
    """Refuse a size that the points do not have, and anything but a matrix of finite float32."""
    if not 1 <= size <= len(points):
        raise UsageError(
            f"select: size is {size:,} but there are {len(points):,} embeddings; "
            "lower the size or embed more samples"
        )
    if points.ndim != 2 or points.dtype != np.float32 or not np.isfinite(points.sum()):
        raise UsageError(
            f"select: embeddings of shape {points.shape} and type {points.dtype} are not finite "
            "float32 vectors; embed the corpus again"
        )
