"""Facility location: picks such that every sample has one of them among its near neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from sft_diversity.core.errors import UsageError
from sft_diversity.core.kernels import Floats, Ints, Rows, compiled
from sft_diversity.selection.embedded.neighbours import Graph, Neighbours

PREFIXES = 8  # prefixes of the picks at which the bound is tried
ROUNDS = 60
PATIENCE = 5  # rounds without a better bound before steps are halved


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


def facility_location(graph: Graph, size: int) -> FacilityLocation:
    """Pick rows one by one, each the one that adds most to Σ_i max_j s_ij.

    Parameters
    ----------
    graph : Graph
        Who is near whom; s_ij is 0 between rows that are no neighbours.
    size : int
        Rows to pick, 1 to n; rows that add nothing are picked too once no other is left.

    Returns
    -------
    FacilityLocation

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
    n = graph.n_samples
    if not 1 <= size <= n:
        raise UsageError(f"select: size is {size:,} but the graph has {n:,} rows; lower the size")
    served = np.zeros(n)
    worth = np.empty(n)
    _worths(graph.indptr, graph.indices, graph.similarity, served, worth)
    heap = np.argsort(-worth, kind="stable")  # sorted by gain, then row: a heap as it stands
    rows, gains = np.empty(size, np.int64), np.empty(size)
    _lazy_greedy(graph.indptr, graph.indices, graph.similarity, worth, heap, served, rows, gains)
    return FacilityLocation(rows, gains, float(served.sum()))


def facility_bound(graph: Graph, found: FacilityLocation) -> float:
    """Return a value of Σ_i max_j s_ij that no set of as many rows as `found` exceeds.

    Notes
    -----
    For any prices λ_i >= 0, Σ_i λ_i + the `size` largest Σ_i max(0, s_ij - λ_i) is a bound. With
    the λ that a prefix of the picks gives, λ_i = max_j s_ij, that is the common f(S) + the `size`
    largest remaining gains. From the best of `PREFIXES` prefixes the prices go `ROUNDS`
    subgradient steps (Cornuéjols, Fisher, Nemhauser 1977, doi:10.1287/mnsc.23.8.789; step sizes
    after Polyak). Time O((`PREFIXES` + `ROUNDS`) · nnz).
    """
    size = len(found.rows)
    prices, best, slope = np.zeros(graph.n_samples), np.inf, np.zeros(0)
    served = np.zeros(graph.n_samples)
    steps = np.linspace(0, size, PREFIXES + 1).astype(int)
    for start, until in pairwise(steps):
        _serve(graph.indptr, graph.indices, graph.similarity, found.rows[start:until], served)
        bound, here = _priced(graph, served, size)
        if bound < best:
            best, prices, slope = bound, served.copy(), here
    bound, scale, idle = best, 2.0, 0
    for _ in range(ROUNDS):
        if not slope.any() or best <= found.value:
            break
        step = scale * (bound - found.value) / float(slope @ slope)
        prices = np.maximum(prices - step * slope, 0.0)
        bound, slope = _priced(graph, prices, size)
        idle = 0 if bound < best - 1e-9 else idle + 1
        best = min(best, bound)
        if idle == PATIENCE:
            scale, idle = scale / 2, 0
    return max(best, found.value)


def _priced(graph: Graph, prices: Floats, size: int) -> tuple[float, Floats]:
    """Return the bound at `prices` and its subgradient, shape (n,)."""
    worth = np.empty(graph.n_samples)
    _worths(graph.indptr, graph.indices, graph.similarity, prices, worth)
    top = np.argpartition(-worth, size - 1)[:size]
    over = np.zeros(graph.n_samples)
    _count_over(graph.indptr, graph.indices, graph.similarity, top, prices, over)
    return float(prices.sum() + worth[top].sum()), 1.0 - over


@compiled
def _lazy_greedy(
    indptr: Ints,
    indices: Neighbours,
    similarity: Floats,
    worth: Floats,
    heap: Rows,
    served: Floats,
    rows: Rows,
    gains: Floats,
) -> None:
    """Fill `rows` and `gains`; `served[i]` becomes max_j s_ij."""
    length = len(heap)
    taken = 0
    while taken < len(rows):
        best = heap[0]
        gain = _gain(indptr, indices, similarity, best, served)
        if gain < worth[best]:
            worth[best] = gain
            _settle(heap, worth, length, best)
            continue
        for at in range(indptr[best], indptr[best + 1]):
            served[indices[at]] = max(served[indices[at]], similarity[at])
        rows[taken] = best
        gains[taken] = gain
        taken += 1
        length -= 1
        _settle(heap, worth, length, heap[length])


@compiled
def _settle(heap: Rows, worth: Floats, length: int, row: int) -> None:
    """Put `row` at the root of a heap of `length` by gain, then row; down to where it belongs."""
    at = 0
    while 2 * at + 1 < length:
        below = 2 * at + 1
        if below + 1 < length:
            one, two = heap[below], heap[below + 1]
            if worth[two] > worth[one] or (worth[two] == worth[one] and two < one):
                below += 1
        child = heap[below]
        if worth[row] > worth[child] or (worth[row] == worth[child] and row < child):
            break
        heap[at] = child
        at = below
    if length > 0:
        heap[at] = row


@compiled
def _worths(
    indptr: Ints, indices: Neighbours, similarity: Floats, served: Floats, worth: Floats
) -> None:
    for row in range(len(worth)):
        worth[row] = _gain(indptr, indices, similarity, row, served)


@compiled
def _gain(indptr: Ints, indices: Neighbours, similarity: Floats, row: int, served: Floats) -> float:
    """Return what `row` adds."""
    total = 0.0
    for at in range(indptr[row], indptr[row + 1]):
        total += max(0.0, similarity[at] - served[indices[at]])
    return total


@compiled
def _serve(
    indptr: Ints, indices: Neighbours, similarity: Floats, rows: Rows, served: Floats
) -> None:
    for row in rows:
        for at in range(indptr[row], indptr[row + 1]):
            served[indices[at]] = max(served[indices[at]], similarity[at])


@compiled
def _count_over(
    indptr: Ints, indices: Neighbours, similarity: Floats, rows: Rows, prices: Floats, over: Floats
) -> None:
    """Count in `over[i]` the rows whose similarity to i is above its price."""
    for row in rows:
        for at in range(indptr[row], indptr[row + 1]):
            if similarity[at] > prices[indices[at]]:
                over[indices[at]] += 1.0
