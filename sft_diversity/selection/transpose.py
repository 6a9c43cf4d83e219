"""The incidence by kind instead of by sample: counts and lists."""

from __future__ import annotations

import numpy as np

from sft_diversity.core.kernels import Ints, Kinds, Rows, compiled


@compiled
def count_kinds(indptr: Ints, indices: Kinds, rows: Rows, n_kinds: int) -> Ints:
    """Return c_j, how many of `rows` hold kind j, shape (n_kinds,)."""
    held = np.zeros(n_kinds, np.int64)
    for row in rows:
        for kind in indices[indptr[row] : indptr[row + 1]]:
            held[kind] += 1
    return held


@compiled
def transpose(indptr: Ints, indices: Kinds, rows: Rows, n_kinds: int) -> tuple[Ints, Kinds]:
    """List the rows that hold each kind, in the order of `rows`.

    Returns
    -------
    starts : int64 array, shape (n_kinds + 1,)
    members : int32 array
        `members[starts[j] : starts[j + 1]]` are the rows among `rows` that hold kind j.

    Notes
    -----
    A counting sort: time and memory O(nnz of `rows` + n_kinds).
    """
    starts = np.zeros(n_kinds + 1, np.int64)
    for row in rows:
        for at in range(indptr[row], indptr[row + 1]):
            starts[indices[at] + 1] += 1
    for kind in range(n_kinds):
        starts[kind + 1] += starts[kind]
    free = starts[:-1].copy()
    members = np.empty(starts[n_kinds], np.int32)
    for row in rows:
        for at in range(indptr[row], indptr[row + 1]):
            kind = indices[at]
            members[free[kind]] = row
            free[kind] += 1
    return starts, members
