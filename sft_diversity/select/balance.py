"""Balanced counts: lazy greedy on Σ_j log(1 + c_j)."""

from __future__ import annotations

import numpy as np

from sft_diversity.select.compiled import Ints, Kinds, Rows
from sft_diversity.select.cover import cover
from sft_diversity.select.greedy import greedy
from sft_diversity.select.limits import FREE, Limits
from sft_diversity.select.transpose import count_kinds


def balance(
    indptr: Ints,
    indices: Kinds,
    n_kinds: int,
    rows: Rows,
    size: int,
    *,
    target: int = 0,
    limits: Limits = FREE,
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
        Rows to pick, those kept included.
    target : int
        Kinds to cover. Where the picks leave some out and a greedy cover with `size` rows does
        not, the cover comes first and balance fills up.
    limits : Limits
        As for `cover`.

    Returns
    -------
    int64 array, shape (size,), fewer only under a cap or quotas
        Distinct rows, `kept` first, then in pick order; without `target` a smaller
        size gives a prefix.

    Notes
    -----
    Without cover, cap and quotas within 1 - 1/e of the best Σ log(1 + c_j); see `greedy` for cost
    and source.
    """
    steps = np.log1p(1.0 / np.arange(1.0, size + 2.0))  # log(c + 2) - log(c + 1)
    cap, kept = limits.cap, limits.kept
    held = count_kinds(indptr, indices, kept, n_kinds)
    group, room = limits.room(kept)
    rest = size - len(kept)
    more = greedy(indptr, indices, rows, rest, steps, held, cap=cap, group=group, room=room)
    picks = np.concatenate([kept, more])
    if np.count_nonzero(held) >= target:
        return picks
    first = cover(indptr, indices, n_kinds, rows, size, goal=target, limits=limits)
    if first.covered < target:
        return picks
    held = first.held.copy()
    group, room = limits.room(first.rows)
    others = rows[~np.isin(rows, first.rows)]
    rest = size - len(first.rows)
    more = greedy(indptr, indices, others, rest, steps, held, cap=cap, group=group, room=room)
    return np.concatenate([first.rows, more])
