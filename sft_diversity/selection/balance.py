"""Balanced counts: lazy greedy on Σ_j log(1 + c_j)."""

from __future__ import annotations

import numpy as np

from sft_diversity.core.kernels import Ints, Kinds, Rows
from sft_diversity.selection.greedy import greedy
from sft_diversity.selection.limits import FREE, Limits
from sft_diversity.selection.transpose import count_kinds


def balance(
    indptr: Ints,
    indices: Kinds,
    n_kinds: int,
    rows: Rows,
    size: int,
    *,
    limits: Limits = FREE,
    first: Rows | None = None,
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
        Rows to pick, those of `first` included.
    limits : Limits
        As for `cover`.
    first : int64 array, optional
        Picks made already, within the limits; by default the rows that the limits keep.

    Returns
    -------
    int64 array, shape (size,), fewer only under a cap or quotas
        Distinct rows, `first`, then in pick order; a smaller size gives a prefix.

    Notes
    -----
    Without `first`, cap and quotas within 1 - 1/e of the best Σ log(1 + c_j); see `greedy` for cost
    and source.
    """
    first = limits.kept if first is None else first
    steps = np.log1p(1.0 / np.arange(1.0, size + 2.0))  # log(c + 2) - log(c + 1)
    held = count_kinds(indptr, indices, first, n_kinds)
    group, room = limits.room(first)
    others = rows[~np.isin(rows, first)] if len(first) else rows
    more = greedy(
        indptr, indices, others, size - len(first), steps, held,
        cap=limits.cap, group=group, room=room,
    )  # fmt: skip
    return np.concatenate([first, more])
