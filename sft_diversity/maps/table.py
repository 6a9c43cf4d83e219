"""A map as a table that embedding-atlas and others read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sft_diversity.core import corpus as corpora
from sft_diversity.core import incidence, parquet
from sft_diversity.core.numbers import Ints
from sft_diversity.core.vectors import Vectors
from sft_diversity.maps.stage import TABLE, MapConfig, points_of


def subset_table(
    subset: Path, corpus: Path, made: Path, index: Path, config: MapConfig, neighbours: int
) -> pa.Table:  # fmt: skip
    """Return one row a sample of the corpus.

    Returns
    -------
    table
        `id, x, y, region, source, instruction, response, picked, pick` (its number, or null),
        `kinds` (names), and `neighbours`: `ids` (rows of the table, from 0, as embedding-atlas
        0.26 reads them) and `distances` (1 − cosine), the nearest first; null where a sample has
        no place.

    Notes
    -----
    Neighbours are exact: time O(n² · d), 50 dimensions by kinds, those of the encoder else.
    """
    table = parquet.read(made / TABLE)
    rows = corpora.read(corpus, ["id", "source", "instruction", "response"])
    picks = parquet.join(parquet.listed(subset, "samples", "select"), ["id", "pick"])
    at = pc.index_in(rows["id"], picks["id"])
    for name in ("source", "instruction", "response"):
        table = table.append_column(name, rows[name])
    table = table.append_column("picked", pc.is_valid(at))
    table = table.append_column("pick", picks["pick"].take(at))
    held = incidence.load(index)
    names = parquet.read(index / "kinds.parquet", ["kind"])["kind"].combine_chunks()
    kinds = pa.LargeListArray.from_arrays(held.indptr, names.take(pa.array(held.indices)))
    table = table.append_column("kinds", kinds)
    if not neighbours:
        return table
    return table.append_column("neighbours", _beside(points_of(config), neighbours))


def _beside(points: Vectors, many: int) -> pa.Array:
    """Return rows and distances of the nearest samples to each that has a direction."""
    there = np.flatnonzero(np.einsum("nd,nd->n", points, points) > 0)
    near, far = nearest_rows(points[there], many)
    sizes = np.zeros(len(points), np.int64)
    sizes[there] = near.shape[1]
    begins = np.concatenate([[0], np.cumsum(sizes)])
    columns = [
        pa.LargeListArray.from_arrays(begins, pa.array(there[near.reshape(-1)])),
        pa.LargeListArray.from_arrays(begins, pa.array(far.reshape(-1))),
    ]
    return pa.StructArray.from_arrays(columns, ["ids", "distances"], mask=pa.array(sizes == 0))


def nearest_rows(points: Vectors, many: int) -> tuple[Ints, Vectors]:
    """Return the rows with the greatest cosines to each of n unit vectors, itself left out.

    Returns
    -------
    rows : int64 array, shape (n, min(many, n − 1))
        The nearest first.
    distances : float32 array of that shape
        1 − cosine.
    """
    from sklearn.neighbors import NearestNeighbors

    many = min(many, len(points) - 1)
    if many < 1:
        return np.empty((len(points), 0), np.int64), np.empty((len(points), 0), np.float32)
    found = NearestNeighbors(n_neighbors=many, algorithm="brute").fit(points)
    far, rows = found.kneighbors()  # of unit vectors: the square of a distance is 2 − 2 · cosine
    return rows, np.asarray(far**2 / 2, np.float32)
