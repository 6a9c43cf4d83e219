"""Balanced counts: lazy greedy on Σ_j log(1 + c_j)."""

from __future__ import annotations

import numpy as np

from sft_diversity.select.compiled import NO_CAP, Ints, Kinds, Rows
from sft_diversity.select.cover import cover
from sft_diversity.select.greedy import greedy


def balance(
    indptr: Ints,
    indices: Kinds,
    n_kinds: int,
    rows: Rows,
    size: int,
    *,
    target: int = 0,
    cap: int = NO_CAP,
) -> Rows:
    """Pick rows one by one, each the one that adds most to Σ_j log(1 + c_j).

    c_j is the number of picks that hold kind j, not how often they hold it: the same unit that
    draws, caps and evenness count.

    Parameters
    ----------
    indptr, indices, n_kinds
        The incidence.
    rows : int64 array, shape (m,)
        Candidates; of equal gains the earlier wins.
    size : int
        Rows to pick, at most m.
    target : int
        Kinds to cover. Where the picks leave some out and a greedy cover with `size` rows does
        not, the cover comes first and balance fills up.
    cap : int
        No kind may be held by more picks than this.

    Returns
    -------
    int64 array, shape (size,), fewer only under a cap
        Distinct rows in pick order; without `target` a smaller size gives a prefix.

    Notes
    -----
    Without the cover within 1 - 1/e of the best Σ log(1 + c_j); see `greedy` for cost and source.
    """
    steps = np.log1p(1.0 / np.arange(1.0, size + 2.0))  # log(c + 2) - log(c + 1)
    held = np.zeros(n_kinds, np.int64)
    picks = greedy(indptr, indices, rows, size, steps, held, cap=cap)
    if np.count_nonzero(held) >= target:
        return picks
    first = cover(indptr, indices, n_kinds, rows, size, cap=cap, goal=target)
    if first.covered < target:
        return picks
    held = first.held.copy()
    rest = rows[~np.isin(rows, first.rows)]
    more = greedy(indptr, indices, rest, size - len(first.rows), steps, held, cap=cap)
    return np.concatenate([first.rows, more])
