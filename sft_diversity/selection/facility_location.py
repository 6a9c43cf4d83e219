"""Facility location: picks such that every sample has one of them among its near neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from sft_diversity.core.errors import UsageError
from sft_diversity.core.kernels import Floats, Ints, Kinds, Points, Rows, compiled, cosine
from sft_diversity.core.neighbours import ON_CPU, Engine, nearest
from sft_diversity.core.vectors import check_points
from sft_diversity.selection.bounds import ROUNDS, priced_down
from sft_diversity.selection.heap import sink

NEIGHBOURS = 32
PREFIXES = 8  # prefixes of the picks at which the bound is tried


class Graph(NamedTuple):
    """Similarities of near rows, symmetric, each row its own neighbour; kernels take it as it is.

    Attributes
    ----------
    indptr : int64 array, shape (n + 1,)
    indices : int32 array, shape (nnz,)
        Neighbours of row i, ascending, at `indptr[i]` to `indptr[i + 1]`.
    similarity : float64 array, shape (nnz,)
        Their cosines, all above 0.
    """

    indptr: Ints
    indices: Kinds
    similarity: Floats


@dataclass(frozen=True)
class FacilityLocation:
    """Picks and what they are worth.

    Attributes
    ----------
    rows : int64 array, shape (size,)
        Distinct rows in pick order, so a smaller size gives a prefix.
    gains : float64 array, shape (size,)
        What each pick added; never rising.
    value : float
        Σ_i max_j s_ij over the picks j, at most the number of samples.
    """

    rows: Rows
    gains: Floats
    value: float


def neighbour_graph(points: Points, neighbours: int = NEIGHBOURS, on: Engine = ON_CPU) -> Graph:
    """Join every row with its nearest rows.

    Parameters
    ----------
    points : float32 array, shape (n, d)
        Unit vectors.
    neighbours : int
        Nearest rows of each, itself included, 1 to n; two rows are joined if either is among
        the other's nearest. Cosines of 0 and below count as no similarity.
    on : Engine
        What looks for them.

    Raises
    ------
    UsageError
        If `neighbours` is out of range or `points` are no finite float32 vectors.

    Notes
    -----
    Brute force in float32 (`core.neighbours`), so among neighbours that differ by less than its
    rounding (1e-7) either may be left out; the similarities themselves are float64. Time
    O(n² · d), about half a minute for 117,000 rows of 384 on two cores; memory O(n · neighbours).
    """
    check_points(points, 1)
    if not 1 <= neighbours <= len(points):
        raise UsageError(
            f"select: neighbours is {neighbours:,} but there are {len(points):,} embeddings"
        )
    return join_neighbours(points, nearest(points, points, neighbours, on))


def join_neighbours(points: Points, found: Rows) -> Graph:
    """Return the graph that joins row i with itself and with `found[i]`, shape (n, k)."""
    n = len(points)
    ones, others = np.repeat(np.arange(n), found.shape[1]), found.reshape(-1)
    self_pairs = np.arange(n) * (n + 1)
    keys = np.unique(np.concatenate([ones * n + others, others * n + ones, self_pairs]))
    rows, columns = keys // n, (keys % n).astype(np.int32)
    similarity = _cosines(points, rows, columns)
    near = similarity > 0.0
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows[near], minlength=n))])
    return Graph(indptr.astype(np.int64), columns[near], similarity[near])


@compiled
def _cosines(points: Points, rows: Rows, columns: Kinds) -> Floats:
    similarity = np.empty(len(rows))
    for at in range(len(rows)):
        similarity[at] = cosine(points[rows[at]], points[columns[at]])
    return similarity


def facility_location(graph: Graph, size: int) -> FacilityLocation:
    """Pick rows one by one, each the one that adds most to Σ_i max_j s_ij.

    Parameters
    ----------
    graph : Graph
        Who is near whom; s_ij is 0 between rows that are no neighbours.
    size : int
        Rows to pick, 1 to n; rows that add nothing are picked too once no other is left.

    Raises
    ------
    UsageError
        If `size` is below 1 or above n.

    Notes
    -----
    The picks of plain greedy, of equal gains the lowest row: every row adds its terms in one
    order, so also in floating point a gain only falls and a stale one is a bound (Minoux 1978,
    doi:10.1007/BFb0006528). Within 1 - 1/e of the best (Nemhauser, Wolsey, Fisher 1978,
    doi:10.1007/BF01588971). Time O(nnz + evaluations · degree), memory O(n).
    """
    n = len(graph.indptr) - 1
    if not 1 <= size <= n:
        raise UsageError(f"select: size is {size:,} but the graph has {n:,} rows; lower the size")
    served = np.zeros(n)
    losses = -_gains(graph, served)
    heap = np.argsort(losses, kind="stable")  # sorted by loss, then row: a heap as it stands
    rows, gains = np.empty(size, np.int64), np.empty(size)
    _pick_facilities(graph, heap, losses[heap], served, rows, gains)
    return FacilityLocation(rows, gains, float(served.sum()))


def facility_bound(graph: Graph, found: FacilityLocation) -> float:
    """Return a value of Σ_i max_j s_ij that no set of as many rows as `found` exceeds.

    Notes
    -----
    For any prices λ_i >= 0, Σ_i λ_i + the `size` largest Σ_i max(0, s_ij - λ_i) is a bound
    (Cornuéjols, Fisher, Nemhauser 1977, doi:10.1287/mnsc.23.8.789). With the λ that a prefix of the
    picks gives, λ_i = max_j s_ij, that is the common f(S) + the `size` largest remaining gains.
    From the best of `PREFIXES` prefixes the prices go down (`priced_down`). Time O((`PREFIXES` +
    `ROUNDS`) · nnz).
    """
    size = len(found.rows)

    def priced(prices: Floats) -> tuple[float, Floats]:
        gains = _gains(graph, prices)
        top = np.argpartition(-gains, size - 1)[:size]
        return float(prices.sum() + gains[top].sum()), 1.0 - _count_over(graph, top, prices)

    n = len(graph.indptr) - 1
    served, best, prices = np.zeros(n), np.inf, np.zeros(n)
    for start, until in pairwise(np.linspace(0, size, PREFIXES + 1).astype(int)):
        _serve(graph, found.rows[start:until], served)
        bound, _ = priced(served)
        if bound < best:
            best, prices = bound, served.copy()

    def allowed(prices: Floats) -> Floats:
        return np.maximum(prices, 0.0)

    bound = priced_down(priced, allowed, prices, found.value, found.value, ROUNDS + 1)
    return max(bound, found.value)


@compiled
def _pick_facilities(
    graph: Graph, heap: Rows, losses: Floats, served: Floats, rows: Rows, gains: Floats
) -> None:
    """Fill `rows` and `gains`; `served[i]` is max_j s_ij over the picks so far.

    All rows not picked are in the heap, and none gains more than its loss there with the sign
    turned; where that is exact for the first, it is greedy's pick.
    """
    length = len(heap)
    taken = 0
    while taken < len(rows):
        best = heap[0]
        gain = _gain_of(graph, best, served)
        if gain < -losses[0]:
            sink(heap, losses, None, length, 0, best, -gain)
            continue
        for at in range(graph.indptr[best], graph.indptr[best + 1]):
            near = graph.indices[at]
            served[near] = max(served[near], graph.similarity[at])
        rows[taken] = best
        gains[taken] = gain
        taken += 1
        length -= 1
        sink(heap, losses, None, length, 0, heap[length], losses[length])


@compiled
def _gain_of(graph: Graph, row: int, served: Floats) -> float:
    """Return what `row` adds."""
    total = 0.0
    for at in range(graph.indptr[row], graph.indptr[row + 1]):
        total += max(0.0, graph.similarity[at] - served[graph.indices[at]])
    return total


@compiled
def _gains(graph: Graph, served: Floats) -> Floats:
    """Return what each row adds, shape (n,)."""
    gains = np.empty(len(served))
    for row in range(len(served)):
        gains[row] = _gain_of(graph, row, served)
    return gains


@compiled
def _serve(graph: Graph, rows: Rows, served: Floats) -> None:
    """Raise `served[i]` to the greatest similarity of i to any of `rows`."""
    for row in rows:
        for at in range(graph.indptr[row], graph.indptr[row + 1]):
            near = graph.indices[at]
            served[near] = max(served[near], graph.similarity[at])


@compiled
def _count_over(graph: Graph, rows: Rows, prices: Floats) -> Floats:
    """Return for each i how many of `rows` have a similarity to it above its price."""
    over = np.zeros(len(prices))
    for row in rows:
        for at in range(graph.indptr[row], graph.indptr[row + 1]):
            if graph.similarity[at] > prices[graph.indices[at]]:
                over[graph.indices[at]] += 1.0
    return over
