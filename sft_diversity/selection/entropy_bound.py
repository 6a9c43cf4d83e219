"""An upper bound on the token entropy that any N samples can have."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sft_diversity.core.incidence import Incidence
from sft_diversity.core.kernels import NO_ROWS, Floats, Ints, Rows, compiled

ROUNDS = 40
_FLOOR = 1e-3  # weight of the uniform distribution in the first prices


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

    Returns
    -------
    float

    Notes
    -----
    The entropy of a distribution q is at most its cross entropy -Σ q_t log2 p_t with any p > 0.
    For a subset that is a ratio of two sums over its samples, surprisal and tokens, and the
    greatest ratio of `size` samples is found exactly by Dinkelbach's method (1967,
    doi:10.1287/mnsc.13.7.492). p starts at the distribution of `start` and goes `ROUNDS` times a
    step towards that of the subset which attained the bound (Frank and Wolfe). Time O(`ROUNDS` ·
    nnz of `rows`).
    """
    n_types = incidence.n_kinds
    price = _distribution(incidence, start, n_types)
    seen = _distribution(incidence, rows, n_types) > 0
    price = (1 - _FLOOR) * price + _FLOOR * seen / seen.sum()
    best = np.inf
    indptr, indices, counts = (np.asarray(part) for part in _parts(incidence))
    sizes = np.empty(len(rows))
    _weighted(indptr, indices, counts, rows, np.ones(n_types), sizes)
    for turn in range(ROUNDS):
        surprisal = np.zeros(n_types)
        surprisal[seen] = -np.log2(price[seen])
        worth = np.empty(len(rows))
        _weighted(indptr, indices, counts, rows, surprisal, worth)
        bound, picks = _greatest_ratio(worth, sizes, size)
        best = min(best, bound)
        toward = _distribution(incidence, rows[picks], n_types)
        step = 2.0 / (turn + 6)
        price = (1 - step) * price + step * toward
        price[seen] = np.maximum(price[seen], 1e-12)
        price /= price.sum()
    return best


def _parts(incidence: Incidence) -> tuple[npt.NDArray[np.integer], ...]:
    return incidence.indptr, incidence.indices, incidence.counts


def _distribution(incidence: Incidence, rows: Rows, n_types: int) -> Floats:
    part = incidence.take(rows)
    amounts = np.bincount(part.indices, part.counts, n_types)
    return np.asarray(amounts / max(1.0, amounts.sum()), np.float64)


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
def _weighted(
    indptr: Ints,
    indices: npt.NDArray[np.int32],
    counts: npt.NDArray[np.int32],
    rows: Rows,
    weights: Floats,
    worth: Floats,
) -> None:
    """Set `worth[i]` to the weights of the tokens of `rows[i]`, each as often as it occurs."""
    for i in range(len(rows)):
        total = 0.0
        for at in range(indptr[rows[i]], indptr[rows[i] + 1]):
            total += weights[indices[at]] * counts[at]
        worth[i] = total
