"""Greedy maximisation of the entropy of a subset's token distribution, with exact gains."""

from __future__ import annotations

from math import log2

import numpy as np

from sft_diversity.core.incidence import Incidence
from sft_diversity.core.kernels import Floats, Ints, Kinds, Rows, compiled, frozen

TABLE = 1 << 16  # φ is looked up below this count: half a megabyte stays in cache


def maximise_entropy(incidence: Incidence, rows: Rows, size: int) -> Rows:
    """Pick rows one by one, each the one after which the picks have the greatest entropy.

    Entropy is Shannon's, in bits per token, of the token counts of all picks together. A pick is
    made even when every row would lower it.

    Parameters
    ----------
    incidence : Incidence
        Samples × token types with counts.
    rows : int64 array, shape (m,)
        Candidates, each with at least one token; of equal entropies the earlier of the same
        length in tokens wins, of different lengths the shorter.
    size : int
        Rows to pick, at most m.

    Returns
    -------
    int64 array, shape (size,)
        Distinct rows in pick order, so a smaller size gives a prefix.

    Notes
    -----
    With φ(x) = x log₂ x, n tokens in the picks of which n_t are of type t, and a row of L tokens,
    c_t of type t, the entropy after it is log₂(n + L) - (Σ φ(n_t) + D) / (n + L) where
    D = Σ φ(n_t + c_t) - φ(n_t). Entropy is neither monotone nor submodular, so a stale entropy
    bounds nothing and plain lazy greedy would be wrong. But φ is convex and n_t only grows, so D
    only grows: with a stale D the formula is an upper bound. Among rows of one length the order
    is that of D, so each length has a heap, and the best of the heaps is refreshed until it is
    up to date. The picks are those of plain greedy, up to rounding (about 1e-9 bits); there is no
    approximation guarantee, since the objective is not submodular.
    """
    indptr = frozen(incidence.indptr, np.int64)
    indices = frozen(incidence.indices, np.int32)
    counts = frozen(incidence.counts, np.int32)
    tokens = token_counts(incidence, rows)
    order = np.argsort(tokens, kind="stable")
    lengths, starts = np.unique(tokens[order], return_index=True)
    starts = np.append(starts, len(rows)).astype(np.int64)
    small = np.arange(1, TABLE, dtype=np.float64)
    table = np.concatenate([[0.0], small * np.log2(small)])
    amounts = np.zeros(incidence.n_kinds, np.int64)
    picks = np.empty(size, np.int64)
    _maximise(indptr, indices, counts, rows[order], lengths, starts, amounts, table, picks)
    return picks


def token_counts(incidence: Incidence, rows: Rows) -> Ints:
    """Return how many tokens each of `rows` has, shape (m,)."""
    total = np.concatenate([[0], np.cumsum(incidence.counts, dtype=np.int64)])
    tokens: Ints = total[incidence.indptr[rows + 1]] - total[incidence.indptr[rows]]
    return tokens


@compiled
def _maximise(
    indptr: Ints,
    indices: Kinds,
    counts: Kinds,
    rows: Rows,
    lengths: Ints,
    starts: Ints,
    amounts: Ints,
    table: Floats,
    picks: Rows,
) -> None:
    """Fill `picks`. `rows` are sorted by length; group g starts at `starts[g]`.

    `amounts` are the n_t. Each group is a heap of positions in `rows` by D, then position; the
    groups meet in a tournament over the entropy that the best row of each can lead to.
    """
    heap = np.arange(len(rows))
    growth = np.empty(len(rows))
    live = np.empty(len(lengths), np.int64)
    for group in range(len(lengths)):
        first = starts[group]
        live[group] = starts[group + 1] - first
        for at in range(first, starts[group + 1]):
            growth[at] = _growth(indptr, indices, counts, rows[at], amounts, table)
        for at in range(live[group] // 2 - 1, -1, -1):
            _settle(heap, growth, first, live[group], at, heap[first + at])
    width = 1
    while width < len(lengths):
        width *= 2
    reach = np.empty(width)
    reach[:] = -np.inf
    winner = np.empty(2 * width, np.int64)
    n = phi = 0.0
    for taken in range(len(picks)):
        for group in range(len(lengths)):
            reach[group] = _reach(group, n, phi, heap, growth, lengths, starts, live)
        for node in range(2 * width - 1, 0, -1):
            winner[node] = node - width if node >= width else _match(node, winner, reach)
        while True:
            group = winner[1]
            first = starts[group]
            best = heap[first]
            fresh = _growth(indptr, indices, counts, rows[best], amounts, table)
            if fresh <= growth[best]:
                break
            growth[best] = fresh
            _settle(heap, growth, first, live[group], 0, best)
            reach[group] = _reach(group, n, phi, heap, growth, lengths, starts, live)
            node = (group + width) // 2
            while node > 0:
                winner[node] = _match(node, winner, reach)
                node //= 2
        row = rows[best]
        picks[taken] = row
        n += lengths[group]
        phi += fresh
        for at in range(indptr[row], indptr[row + 1]):
            amounts[indices[at]] += counts[at]
        live[group] -= 1
        if live[group] > 0:
            _settle(heap, growth, first, live[group], 0, heap[first + live[group]])


@compiled
def _match(node: int, winner: Ints, reach: Floats) -> int:
    """Return the better of the two groups below `node`, the shorter rows of equal ones."""
    left, right = winner[2 * node], winner[2 * node + 1]
    return int(right if reach[right] > reach[left] else left)


@compiled
def _reach(
    group: int,
    n: float,
    phi: float,
    heap: Ints,
    growth: Floats,
    lengths: Ints,
    starts: Ints,
    live: Ints,
) -> float:
    """Return a bound on the entropy after the best row of `group`; -inf if none is left."""
    if live[group] == 0:
        return -np.inf
    after = n + lengths[group]
    return float(log2(after) - (phi + growth[heap[starts[group]]]) / after)


@compiled
def _growth(
    indptr: Ints, indices: Kinds, counts: Kinds, row: int, amounts: Ints, table: Floats
) -> float:
    """Return D, how much Σ φ(n_t) grows with `row`."""
    total = 0.0
    for at in range(indptr[row], indptr[row + 1]):
        now = amounts[indices[at]]
        total += _phi(now + counts[at], table) - _phi(now, table)
    return total


@compiled
def _phi(amount: int, table: Floats) -> float:
    """Return amount · log₂ amount, looked up where `table` reaches."""
    if amount < len(table):
        return float(table[amount])
    return amount * log2(amount)


@compiled
def _settle(heap: Ints, growth: Floats, first: int, length: int, at: int, item: int) -> None:
    """Put `item` at position `at` of the heap that starts at `first`, or below it."""
    while 2 * at + 1 < length:
        below = 2 * at + 1
        if below + 1 < length:
            one, two = heap[first + below], heap[first + below + 1]
            if growth[two] < growth[one] or (growth[two] == growth[one] and two < one):
                below += 1
        child = heap[first + below]
        if growth[item] < growth[child] or (growth[item] == growth[child] and item < child):
            break
        heap[first + at] = child
        at = below
    heap[first + at] = item
