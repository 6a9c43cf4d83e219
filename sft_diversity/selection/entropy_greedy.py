"""The upper end of the entropy dial: greedy maximisation with exact gains, and an upper bound."""

from __future__ import annotations

from math import log2

import numpy as np

from sft_diversity.core.incidence import Incidence
from sft_diversity.core.kernels import NO_ROWS, Floats, Ints, Kinds, Rows, compiled, frozen
from sft_diversity.selection.heap import sink

TABLE = 1 << 16  # φ is looked up below this count: half a megabyte stays in cache
ROUNDS = 40
_FLOOR = 1e-3  # weight of the uniform distribution in the first prices


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
    tokens = token_counts(incidence, rows)
    order = np.argsort(tokens, kind="stable")
    lengths, starts = np.unique(tokens[order], return_index=True)
    starts = np.append(starts, len(rows)).astype(np.int64)
    small = np.arange(1, TABLE, dtype=np.float64)
    table = np.concatenate([[0.0], small * np.log2(small)])
    amounts = np.zeros(incidence.n_kinds, np.int64)
    picks = np.empty(size, np.int64)
    _maximise(*_arrays(incidence), rows[order], lengths, starts, amounts, table, picks)
    return picks


def token_counts(incidence: Incidence, rows: Rows) -> Ints:
    """Return how many tokens each of `rows` has, shape (m,)."""
    total = np.concatenate([[0], np.cumsum(incidence.counts, dtype=np.int64)])
    tokens: Ints = total[incidence.indptr[rows + 1]] - total[incidence.indptr[rows]]
    return tokens


def _arrays(incidence: Incidence) -> tuple[Ints, Kinds, Kinds]:
    counts = frozen(incidence.counts, np.int32)
    return frozen(incidence.indptr, np.int64), frozen(incidence.indices, np.int32), counts


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
    """Fill `picks`. `rows` are sorted by length; group g, those of one, starts at `starts[g]`.

    `amounts` are the n_t, `n` their sum and `phi` Σ φ(n_t), of the picks so far. The first
    `live[g]` entries of group g's part of `heap` are its rows not picked, as positions in `rows`;
    their keys, `growth`, are D or, where that is stale, less. So the first of a group bounds what
    the group can lead to, and a heap of the groups by that bound, with the sign turned, begins with
    the greatest of all, of equal ones the shorter rows: where its D is up to date, its first is
    greedy's pick. A pick changes all bounds, since n is in them; a D that was refreshed changes
    that of its group alone.
    """
    n_groups = len(lengths)
    heap, growth = np.arange(len(rows)), np.empty(len(rows))  # parts of both begin at `starts`
    live = starts[1:] - starts[:-1]
    for group in range(n_groups):
        first = starts[group]
        for at in range(first, starts[group + 1]):
            growth[at] = _growth(indptr, indices, counts, rows[at], amounts, table)
        for at in range(live[group] // 2 - 1, -1, -1):
            item, key = heap[first + at], growth[first + at]
            sink(heap[first:], growth[first:], None, live[group], at, item, key)
    groups, losses = np.arange(n_groups), np.empty(n_groups)
    n = phi = 0.0
    for taken in range(len(picks)):
        for at in range(n_groups):
            group = groups[at]
            losses[at] = np.inf
            if live[group] > 0:
                losses[at] = -_entropy_after(n + lengths[group], phi + growth[starts[group]])
        for at in range(n_groups // 2 - 1, -1, -1):
            sink(groups, losses, None, n_groups, at, groups[at], losses[at])
        while True:
            group = groups[0]
            first = starts[group]
            best = heap[first]
            fresh = _growth(indptr, indices, counts, rows[best], amounts, table)
            if fresh <= growth[first]:
                break
            sink(heap[first:], growth[first:], None, live[group], 0, best, fresh)
            loss = -_entropy_after(n + lengths[group], phi + growth[first])
            sink(groups, losses, None, n_groups, 0, group, loss)
        row = rows[best]
        picks[taken] = row
        n += lengths[group]
        phi += fresh
        for at in range(indptr[row], indptr[row + 1]):
            amounts[indices[at]] += counts[at]
        live[group] -= 1
        last = first + live[group]
        sink(heap[first:], growth[first:], None, live[group], 0, heap[last], growth[last])


@compiled
def _entropy_after(n: float, phi: float) -> float:
    """Return the entropy of `n` tokens whose Σ φ(n_t) is `phi`, in bits."""
    return float(log2(n) - phi / n)


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


def entropy_bound(incidence: Incidence, rows: Rows, size: int, start: Rows) -> float:
    """Return bits per token that no `size` of `rows` exceed.

    Parameters
    ----------
    incidence : Incidence
        Samples × token types with counts.
    rows : int64 array, shape (m,)
        Rows that may be picked; each has a token.
    size : int
        Samples, at most m.
    start : int64 array
        A good subset: the better, the tighter the bound.

    Notes
    -----
    The entropy of a distribution q is at most its cross entropy -Σ q_t log2 p_t with any p > 0.
    For a subset that is a ratio of two sums over its samples, surprisal and tokens, and the
    greatest ratio of `size` samples is found exactly by Dinkelbach's method (1967,
    doi:10.1287/mnsc.13.7.492). p starts at the distribution of `start` and goes `ROUNDS` times a
    step towards that of the subset which attained the bound (Frank and Wolfe). Time O(`ROUNDS` ·
    nnz of `rows`).
    """
    arrays, sizes = _arrays(incidence), token_counts(incidence, rows).astype(np.float64)
    seen = incidence.take(rows).occurrences > 0
    price = (1 - _FLOOR) * _shares(incidence, start) + _FLOOR * seen / seen.sum()
    best = np.inf
    for turn in range(ROUNDS):
        surprisal = np.zeros(incidence.n_kinds)
        surprisal[seen] = -np.log2(price[seen])
        bound, picks = _greatest_ratio(_summed(*arrays, rows, surprisal), sizes, size)
        best = min(best, bound)
        step = 2.0 / (turn + 6)
        price = (1 - step) * price + step * _shares(incidence, rows[picks])
        price[seen] = np.maximum(price[seen], 1e-12)
        price /= price.sum()
    return best


def _shares(incidence: Incidence, rows: Rows) -> Floats:
    amounts = incidence.take(rows).occurrences
    return np.asarray(amounts / max(1, amounts.sum()), np.float64)


def _greatest_ratio(worth: Floats, sizes: Floats, size: int) -> tuple[float, Rows]:
    """Return the greatest Σ worth / Σ sizes over `size` positions, and those positions."""
    ratio, picks = -np.inf, NO_ROWS
    found = float(worth.sum() / sizes.sum())
    while found > ratio:
        ratio = found
        picks = np.argpartition(-(worth - ratio * sizes), size - 1)[:size].astype(np.int64)
        found = float(worth[picks].sum() / sizes[picks].sum())
    return max(ratio, found) * (1 + 1e-12), picks


@compiled
def _summed(indptr: Ints, indices: Kinds, counts: Kinds, rows: Rows, weights: Floats) -> Floats:
    """Return for each of `rows` the weights of its tokens, each as often as it occurs."""
    sums = np.empty(len(rows))
    for i in range(len(rows)):
        total = 0.0
        for at in range(indptr[rows[i]], indptr[rows[i] + 1]):
            total += weights[indices[at]] * counts[at]
        sums[i] = total
    return sums
