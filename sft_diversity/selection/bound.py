"""Upper bounds on what any N samples of a pool can reach: kinds held, and their balance."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sft_diversity.core.kernels import NO_ROWS, Floats, Ints, Kinds, Rows, compiled
from sft_diversity.selection.cover import cover
from sft_diversity.selection.limits import FREE, Limits
from sft_diversity.selection.transpose import count_kinds

ROUNDS = 60
PATIENCE = 5  # rounds without a better bound before steps are halved


def coverage_bound(
    indptr: Ints,
    indices: Kinds,
    n_kinds: int,
    rows: Rows,
    size: int,
    *,
    limits: Limits = FREE,
) -> int:
    """Return a number of kinds that no `size` of `rows` exceed.

    Parameters
    ----------
    indptr, indices, n_kinds
        The incidence.
    rows : int64 array, shape (m,)
        The pool.
    size : int
        Samples, those kept included.
    limits : Limits
        Rows kept, none of them in `rows`, are always among the samples; quotas hold. Cap and total
        play no part: the bound holds with them too.

    Returns
    -------
    int
        The number of all kinds of `rows` and the rows kept if a greedy cover reaches them.

    Notes
    -----
    For any prices 0 <= λ_j <= 1, Σ_j (1 - λ_j) + the `size` largest row sums Σ_j λ_j (those of
    `kept`, then the largest of each part) is a bound:
    each kind held is worth either what its price leaves or the prices of a row that holds it.
    With price 1 for the kinds that the greedy cover S leaves out and 0 for the others this is the
    common f(S) + the N best remaining gains. From there the prices go `ROUNDS` subgradient steps
    (Lagrangian relaxation, Fisher 1981, doi:10.1287/mnsc.27.1.1; step sizes after Polyak), which
    on the reference corpus closes most of the gap. Time O(`ROUNDS` · (nnz of `rows` + n_kinds)).
    """
    found = cover(indptr, indices, n_kinds, rows, size, limits=limits.uncapped)
    kinds = count_kinds(indptr, indices, np.concatenate([rows, limits.kept]), n_kinds) > 0
    total = int(np.count_nonzero(kinds))
    if found.covered == total:
        return total
    prices = (kinds & (found.held == 0)).astype(np.float64)
    best = np.inf
    scale, idle = 2.0, 0
    for _ in range(ROUNDS):
        bound, slope = _priced(indptr, indices, rows, size, limits, kinds, prices)
        idle = 0 if bound < best - 1e-9 else idle + 1
        best = min(best, bound)
        if idle == PATIENCE:
            scale, idle = scale / 2, 0
        if best < found.covered + 1 or not slope.any():
            break
        step = scale * (bound - found.covered) / float(slope @ slope)
        prices = np.where(kinds, np.clip(prices - step * slope, 0.0, 1.0), 0.0)
    return min(total, int(best + 1e-6))


def balance_bound(
    indptr: Ints,
    indices: Kinds,
    rows: Rows,
    size: int,
    held: Ints,
    *,
    limits: Limits = FREE,
) -> float:
    """Return what Σ_j log(1 + c_j) of no `size` samples exceeds.

    Parameters
    ----------
    indptr, indices
        The incidence.
    rows, size, limits
        As for `coverage_bound`.
    held : int64 array, shape (n_kinds,)
        c_j of a set of picks, the better the tighter the bound.

    Notes
    -----
    log(1 + c) is concave and lies below its tangent at `held`; the tangents' sum is greatest for
    the rows with the greatest sum of slopes 1 / (1 + c_j). O(nnz of `rows`).
    """
    slopes: Floats = np.reciprocal(1.0 + held, dtype=np.float64)
    _, most = most_worth(indptr, indices, rows, size, slopes, limits=limits)
    return float(np.log1p(held).sum() - (slopes * held).sum()) + most


def _priced(
    indptr: Ints,
    indices: Kinds,
    rows: Rows,
    size: int,
    limits: Limits,
    kinds: npt.NDArray[np.bool_],
    prices: Floats,
) -> tuple[float, Floats]:
    """Return the bound at `prices` and its subgradient, shape (n_kinds,)."""
    best, total = most_worth(indptr, indices, rows, size, prices, limits=limits)
    held = count_kinds(indptr, indices, best, len(kinds))
    return float((1.0 - prices[kinds]).sum()) + total, np.where(kinds, held - 1.0, 0.0)


def most_worth(
    indptr: Ints,
    indices: Kinds,
    rows: Rows,
    size: int,
    prices: Floats,
    *,
    limits: Limits = FREE,
) -> tuple[Rows, float]:
    """Return the rows kept and those that make `size` with the greatest sum of prices, and the sum.

    A row is worth the prices of the kinds it holds; quotas hold. O(nnz of `rows`), and m log m
    under quotas.
    """
    kept, quotas = limits.kept, limits.quotas
    worth = np.empty(len(rows))
    row_sums(indptr, indices, rows, prices, worth)
    if quotas is None:
        number = size - len(kept)
        top = np.argpartition(-worth, number - 1)[:number] if number else NO_ROWS
    else:
        group, room = quotas.group[rows], quotas.room(kept)
        order = np.lexsort((-worth, group))
        first = np.searchsorted(group[order], np.arange(len(room)))
        top = order[np.arange(len(rows)) - first[group[order]] < room[group[order]]]
    given = np.empty(len(kept))
    row_sums(indptr, indices, kept, prices, given)
    return np.concatenate([kept, rows[top]]), float(worth[top].sum() + given.sum())


@compiled
def row_sums(indptr: Ints, indices: Kinds, rows: Rows, prices: Floats, worth: Floats) -> None:
    """Set `worth[i]` to the sum of the prices of the kinds of `rows[i]`."""
    for i in range(len(rows)):
        total = 0.0
        for kind in indices[indptr[rows[i]] : indptr[rows[i] + 1]]:
            total += prices[kind]
        worth[i] = total
