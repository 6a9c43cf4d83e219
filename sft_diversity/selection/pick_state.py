"""What a set of picks holds and may still take: the state that every picking kernel keeps."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sft_diversity.core.kernels import Floats, Ints, Kinds, Mask, Rows, compiled


class PickState(NamedTuple):
    """A set of picks over an incidence and under limits; kernels change its arrays in place.

    At all times `held` counts the rows of `picked`, no entry of it is above `cap`, and `room` is
    what each part's number leaves: `allows` says whether a row can join, `add_pick` lets it.

    Attributes
    ----------
    indptr, indices : int64 and int32 arrays
        The incidence by sample: row i holds `indices[indptr[i] : indptr[i + 1]]`.
    held : int64 array, shape (n_kinds,)
        c_j, how many picks hold kind j.
    picked : bool array, shape (n,)
    cap : int
        No kind is held by more picks than this.
    group : int32 array, shape (n,), or empty without quotas
        Part of every row.
    room : int64 array, shape (parts,)
        Picks that each part still gives.
    """

    indptr: Ints
    indices: Kinds
    held: Ints
    picked: Mask
    cap: int
    group: Kinds
    room: Ints


@compiled
def allows(state: PickState, row: int) -> bool:
    """Whether `row` is no pick yet, its part has room, and no kind of it has reached the cap.

    What is not allowed once never is again while picks only join.
    """
    if state.picked[row] or (len(state.group) > 0 and state.room[state.group[row]] <= 0):
        return False
    for at in range(state.indptr[row], state.indptr[row + 1]):
        if state.held[state.indices[at]] >= state.cap:
            return False
    return True


@compiled
def add_pick(state: PickState, row: int) -> None:
    """Let `row` join the picks."""
    state.picked[row] = True
    for at in range(state.indptr[row], state.indptr[row + 1]):
        state.held[state.indices[at]] += 1
    if len(state.group) > 0:
        state.room[state.group[row]] -= 1


@compiled
def replace_pick(state: PickState, leaving: int, coming: int) -> None:
    """Let `coming` take the place of `leaving`, a pick of the same part."""
    for at in range(state.indptr[leaving], state.indptr[leaving + 1]):
        state.held[state.indices[at]] -= 1
    for at in range(state.indptr[coming], state.indptr[coming + 1]):
        state.held[state.indices[at]] += 1
    state.picked[leaving], state.picked[coming] = False, True


@compiled
def count_kinds(indptr: Ints, indices: Kinds, rows: Rows, n_kinds: int) -> Ints:
    """Return c_j, how many of `rows` hold kind j, shape (n_kinds,)."""
    held = np.zeros(n_kinds, np.int64)
    for row in rows:
        for at in range(indptr[row], indptr[row + 1]):
            held[indices[at]] += 1
    return held


@compiled
def row_sums(indptr: Ints, indices: Kinds, rows: Rows, weights: Floats) -> Floats:
    """Return for each of `rows` the sum of `weights`, shape (n_kinds,), over the kinds it holds."""
    sums = np.empty(len(rows))
    for i in range(len(rows)):
        total = 0.0
        for at in range(indptr[rows[i]], indptr[rows[i] + 1]):
            total += weights[indices[at]]
        sums[i] = total
    return sums


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
    free = starts[:-1].copy()  # where the next member of each kind goes
    members = np.empty(starts[n_kinds], np.int32)
    for row in rows:
        for at in range(indptr[row], indptr[row + 1]):
            members[free[indices[at]]] = row
            free[indices[at]] += 1
    return starts, members
