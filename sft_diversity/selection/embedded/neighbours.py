"""The graph of near neighbours among embeddings, exact."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from sft_diversity.core.errors import UsageError
from sft_diversity.core.kernels import Floats, Ints, Points, Rows, compiled, cosine
from sft_diversity.selection.embedded.similarity import check_points

Neighbours: TypeAlias = npt.NDArray[np.int32]
NEIGHBOURS = 32
QUERIES = 4096  # rows searched at a time: memory stays flat


@dataclass(frozen=True)
class Graph:
    """Similarities of near rows, symmetric, each row its own neighbour.

    Attributes
    ----------
    indptr : int64 array, shape (n + 1,)
    indices : int32 array, shape (nnz,)
        Neighbours of row i, ascending, at `indptr[i]` to `indptr[i + 1]`.
    similarity : float64 array, shape (nnz,)
        Their cosines, all above 0.
    """

    indptr: Ints
    indices: Neighbours
    similarity: Floats

    @property
    def n_samples(self) -> int:
        """Rows."""
        return len(self.indptr) - 1


def neighbour_graph(points: Points, neighbours: int = NEIGHBOURS) -> Graph:
    """Join every row with its nearest rows.

    Parameters
    ----------
    points : float32 array, shape (n, d)
        Unit vectors.
    neighbours : int
        Nearest rows of each, itself included, 1 to n; two rows are joined if either is among
        the other's nearest. Cosines of 0 and below count as no similarity.

    Returns
    -------
    Graph

    Raises
    ------
    UsageError
        If `neighbours` is out of range or `points` are no finite float32 vectors.

    Notes
    -----
    Brute force through faiss in float32, so among neighbours that differ by less than its
    rounding (1e-7) either may be left out; the similarities themselves are float64. Time
    O(n² · d), about half a minute for 117,000 rows of 384 on two cores; memory O(n · neighbours).
    """
    check_points(points, 1)
    if not 1 <= neighbours <= len(points):
        raise UsageError(
            f"select: neighbours is {neighbours:,} but there are {len(points):,} embeddings"
        )
    import faiss

    index = faiss.IndexFlatIP(points.shape[1])
    index.add(points)
    found = [
        index.search(points[start : start + QUERIES], neighbours)[1]
        for start in range(0, len(points), QUERIES)
    ]
    return join(points, np.concatenate(found))


def join(points: Points, nearest: Rows) -> Graph:
    """Return the graph that joins row i with itself and with `nearest[i]`, shape (n, k)."""
    n = len(points)
    ones, others = np.repeat(np.arange(n), nearest.shape[1]), nearest.reshape(-1)
    self_pairs = np.arange(n) * (n + 1)
    keys = np.unique(np.concatenate([ones * n + others, others * n + ones, self_pairs]))
    rows, columns = keys // n, (keys % n).astype(np.int32)
    similarity = np.empty(len(keys))
    _cosines(points, rows, columns, similarity)
    near = similarity > 0.0
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows[near], minlength=n))])
    return Graph(indptr.astype(np.int64), columns[near], similarity[near])


@compiled
def _cosines(points: Points, rows: Rows, columns: Neighbours, similarity: Floats) -> None:
    for at in range(len(rows)):
        similarity[at] = cosine(points[rows[at]], points[columns[at]])
