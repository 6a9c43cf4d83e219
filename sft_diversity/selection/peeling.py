"""Peeling (reverse-greedy pruning): the pool of every k at once."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from sft_diversity.core.incidence import Incidence
from sft_diversity.core.kernels import NO_ROWS, Ints, Kinds, Rows, compiled, frozen
from sft_diversity.selection.heap import rise, sink
from sft_diversity.selection.pick_state import transpose
from sft_diversity.selection.problem import Quotas

Steps = npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Peeling:
    """Every pool of a peeling, without storing any of them.

    Step 0 is before the first drop; step s is after s drops. The pool of step s is the samples
    with `sample_left > s`; its kinds are those with `kind_left > s`.

    Attributes
    ----------
    incidence : Incidence
        Its arrays are read-only.
    sample_left : int32 array, shape (n,)
        Step at which the sample left the pool; 0 if it holds no kind and never was in it.
    kind_left : int32 array, shape (n_kinds,)
        Step at which the kind left; 0 if no sample holds it.
    kinds_after : int64 array, shape (steps + 1,)
        k of each step: strictly falling; ends with 0 without quotas. A k not in it does not occur.
    pool_sizes : int64 array, shape (steps + 1,)
        Samples in the pool of each step: strictly falling; ends with 0 without quotas.
    """

    incidence: Incidence
    sample_left: Steps
    kind_left: Steps
    kinds_after: Ints
    pool_sizes: Ints

    @property
    def n_kinds(self) -> int:
        """Kinds of the incidence, those included that no sample holds."""
        return self.incidence.n_kinds

    @property
    def kinds_total(self) -> int:
        """Kinds that at least one sample holds."""
        return int(self.kinds_after[0])

    @property
    def eligible(self) -> int:
        """Samples that hold at least one kind."""
        return int(self.pool_sizes[0])

    @property
    def no_kind(self) -> int:
        """Samples that hold none: they stand for nothing and are never picked."""
        return len(self.sample_left) - self.eligible

    def pool(self, step: int) -> Rows:
        """Return the rows of the pool of `step`, ascending, shape (pool_sizes[step],)."""
        return np.flatnonzero(self.sample_left > step).astype(np.int64)


def peel(incidence: Incidence, quotas: Quotas | None = None, kept: Rows = NO_ROWS) -> Peeling:
    """Drop the rarest kind again and again, together with the samples that hold it.

    The kind held by the fewest remaining samples goes first, ties by lowest kind. Kinds that a
    drop leaves without samples leave with it, so one step may lower k by more than one. A sample
    stays while all its kinds do (eligibility `all`).

    Parameters
    ----------
    incidence : Incidence
        Samples × kinds; counts play no part.
    quotas : Quotas, optional
        A kind whose drop would leave a part with fewer samples than its number stays for good, so
        that every pool can serve the quotas.
    kept : int64 array
        Rows that count for the quotas whether or not they are in the pool.

    Notes
    -----
    Time O(nnz + drops · log n_kinds) and, for each kind that a drop touches, what its degree rises
    in the heap, mostly nothing; memory O(nnz). The study (arXiv 2505.24768) says inverse greedy
    pruning to k kinds; that the rarest kind goes first, and the ties, are this project's reading.
    """
    indptr = frozen(incidence.indptr, np.int64)
    indices = frozen(incidence.indices, np.int32)
    incidence = replace(incidence, indptr=indptr, indices=indices)
    n, n_kinds, widths = incidence.n_samples, incidence.n_kinds, np.diff(indptr)
    starts, members = transpose(indptr, indices, np.arange(n), n_kinds)
    sample_left, kind_left = np.zeros(n, np.int32), np.zeros(n_kinds, np.int32)
    kinds_after, pool_sizes = np.zeros((2, n_kinds + 1), np.int64)
    degree = np.diff(starts)
    kinds_after[0], pool_sizes[0] = np.count_nonzero(degree), np.count_nonzero(widths)
    group, spare = np.zeros(0, np.int32), np.zeros(0, np.int64)
    if quotas is not None:
        others = np.setdiff1d(np.flatnonzero(widths), kept)
        group, spare = quotas.group.copy(), quotas.left(kept, others)
        group[kept] = len(spare)  # whether these leave matters to no part
        spare = np.append(spare, n)
    steps = _peel(
        indptr, indices, starts, members, degree, sample_left, kind_left, kinds_after, pool_sizes,
        group, spare,
    )  # fmt: skip
    sample_left[(sample_left == 0) & (widths > 0)] = steps + 1
    kind_left[(kind_left == 0) & (degree > 0)] = steps + 1
    ended = steps + 1
    return Peeling(incidence, sample_left, kind_left, kinds_after[:ended], pool_sizes[:ended])


@compiled
def _peel(
    indptr: Ints,
    indices: Kinds,
    starts: Ints,
    members: Kinds,
    degree: Ints,
    sample_left: Steps,
    kind_left: Steps,
    kinds_after: Ints,
    pool_sizes: Ints,
    group: Kinds,
    spare: Ints,
) -> int:
    """Fill the four arrays after `degree`, whose first entries are given; return the steps.

    `degree[j]` is at all times the number of samples still in that hold kind j, and `spare[g]` how
    many samples part g can still lose. The kinds wait in a heap by degree, then kind, so that its
    first is the rarest; a degree only falls, so a kind only rises in it. `place` is where it is,
    -1 once it was taken out: dropped, emptied, or one that some part cannot spare, which it then
    never can and stays for good.
    """
    n_kinds = len(kind_left)
    heap, place, keys = np.arange(n_kinds), np.arange(n_kinds), degree.copy()
    for at in range(n_kinds // 2 - 1, -1, -1):
        sink(heap, keys, place, n_kinds, at, heap[at], keys[at])
    touched, lost = np.empty(n_kinds, np.int64), np.zeros(n_kinds, np.int64)
    waiting, step = n_kinds, 0
    while waiting > 0:
        rarest = heap[0]
        place[rarest] = -1
        waiting -= 1
        sink(heap, keys, place, waiting, 0, heap[waiting], keys[waiting])
        holders = members[starts[rarest] : starts[rarest + 1]]
        if degree[rarest] == 0 or not _spared(holders, sample_left, group, spare):
            continue
        step += 1
        pool_sizes[step] = pool_sizes[step - 1] - degree[rarest]
        kinds_after[step] = kinds_after[step - 1]
        n_touched = _drop(holders, step, indptr, indices, sample_left, touched, lost)
        for kind in touched[:n_touched]:
            degree[kind] -= lost[kind]
            lost[kind] = 0
            if place[kind] >= 0:
                rise(heap, keys, place, place[kind], kind, degree[kind])
            if degree[kind] == 0:
                kind_left[kind] = step
                kinds_after[step] -= 1
    return step


@compiled
def _spared(rows: Kinds, sample_left: Steps, group: Kinds, spare: Ints) -> bool:
    """Whether every part can spare those of `rows` that are still in; if so they are taken off."""
    if len(group) == 0:
        return True
    enough = True
    for row in rows:
        if sample_left[row] == 0:
            spare[group[row]] -= 1
            enough = enough and spare[group[row]] >= 0
    if not enough:
        for row in rows:
            if sample_left[row] == 0:
                spare[group[row]] += 1
    return enough


@compiled
def _drop(
    rows: Kinds,
    step: int,
    indptr: Ints,
    indices: Kinds,
    sample_left: Steps,
    touched: Ints,
    lost: Ints,
) -> int:
    """Take those of `rows` out that are still in; note the kinds they held.

    Returns how many kinds: the first entries of `touched`. `lost`, all 0 before, then says how
    many samples each of them lost; the caller puts it back to 0.
    """
    n_touched = 0
    for row in rows:
        if sample_left[row] > 0:
            continue
        sample_left[row] = step
        for other in indices[indptr[row] : indptr[row + 1]]:
            if lost[other] == 0:
                touched[n_touched] = other
                n_touched += 1
            lost[other] += 1
    return n_touched
