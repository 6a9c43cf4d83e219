"""What fits within cap and quotas, which subsets can be made at all, and completing a set."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.core.kernels import Rows, compiled
from sft_diversity.selection.pick_state import PickState, add_pick, allows
from sft_diversity.selection.problem import NO_CAP, Problem


def fit_within(problem: Problem, first: Rows | None = None) -> Rows:
    """Take `first`, then the candidates in their order, each that cap and quotas still allow.

    Parameters
    ----------
    problem : Problem
        A total plays no part.
    first : int64 array, shape (at most size,), optional
        Picks made already, within the limits; by default the rows kept. Where candidates name
        them again they are passed over.

    Returns
    -------
    int64 array, shape (at most size,)
        `first`, then the others. Time O(nnz of the rows).
    """
    first = problem.limits.kept if first is None else first
    picks = np.concatenate([first, np.empty(problem.size - len(first), np.int64)])
    return picks[: _fit(problem.state(first), problem.rows, picks, len(first))]


@compiled
def _fit(state: PickState, rows: Rows, picks: Rows, taken: int) -> int:
    """Fill `picks` from position `taken`; return how many there are at the end."""
    for row in rows:
        if taken == len(picks):
            break
        if allows(state, row):
            add_pick(state, row)
            picks[taken] = row
            taken += 1
    return taken


def narrowest_first(problem: Problem) -> Problem:
    """Return the problem with rows of few kinds first, ties by row: the order that fits most."""
    return problem.over(problem.rows[np.lexsort((problem.rows, problem.widths(problem.rows)))])


def fits(problem: Problem) -> bool:
    """Whether `size` fit within cap and quotas: rows kept, then those of fewest kinds first.

    Finding the largest set under a cap is a packing problem and NP-hard; this greedy answer is
    the project's definition of feasible. A yes is certain, a no may miss a set that exists; for
    one kind per sample (macro) it is exact.
    """
    return len(fit_within(narrowest_first(problem))) == problem.size


def smallest_cap(problem: Problem) -> int:
    """Return the smallest feasible cap above that of the limits; without a cap `size` must fit.

    Every cap on the way is tried, but those that cannot do by arithmetic alone: the picks hold at
    least as many kinds as the `size` narrowest rows, and a cap of C leaves room for Σ min(C, n_j).
    """
    kept, cap = problem.limits.kept, problem.limits.cap + 1
    narrowest = np.sort(problem.widths(problem.rows))[: problem.size - len(kept)]
    least = int(narrowest.sum() + problem.widths(kept).sum())
    present = problem.held(np.concatenate([problem.rows, kept]))
    while int(np.minimum(present, cap).sum()) < least or not fits(
        replace(problem, limits=replace(problem.limits, cap=cap))
    ):
        cap += 1
    return cap


def complete_capped(problem: Problem, picks: Rows) -> Rows:
    """Bring a fill that got stuck under the cap to exactly `size` rows, keeping what it can.

    The last picks give way until the rows with fewest kinds can fill the rest. By bisection, so
    the prefix kept is one that works and one pick more does not; the rows that the limits keep
    never give way, and they alone work whenever the cap is feasible.

    Returns
    -------
    int64 array, shape (size,)
    """
    ordered = narrowest_first(problem)
    works, fails = len(problem.limits.kept), len(picks)
    best = fit_within(ordered, picks[:works])
    while fails - works > 1:
        middle = (works + fails) // 2
        filled = fit_within(ordered, picks[:middle])
        if len(filled) == problem.size:
            works, best = middle, filled
        else:
            fails = middle
    return best


def feasible(problem: Problem) -> bool:
    """Whether the candidates give `size` rows within the limits."""
    enough = len(problem.rows) + len(problem.limits.kept) >= problem.size
    return enough and not problem.lacking() and (problem.limits.cap == NO_CAP or fits(problem))


def refuse_infeasible(problem: Problem, eligible: int) -> None:
    """Refuse sizes and limits that cannot be met by all eligible rows, the candidates.

    Parameters
    ----------
    problem : Problem
    eligible : int
        Samples that hold a kind, those kept among them.

    Raises
    ------
    UsageError, DataError
        The message names what lacks, or the smallest feasible cap.
    """
    size, limits = problem.size, problem.limits
    n = problem.incidence.n_samples
    if size < 1:
        raise UsageError(f"select: size is {size:,} but a subset has at least 1 sample")
    if limits.cap < 1:
        raise UsageError(f"select: max per kind is {limits.cap:,} but must be at least 1")
    if len(limits.kept) > size:
        raise UsageError(
            f"select: size is {size:,} but {len(limits.kept):,} samples must be included; "
            "raise the size"
        )
    if problem.held(limits.kept).max(initial=0) > limits.cap:
        raise UsageError(
            f"select: the samples to include hold a kind more than {limits.cap:,} times; raise "
            "max per kind or include fewer"
        )
    if len(limits.kept) == 0 and size > eligible:
        raise DataError(
            f"select: size is {size:,} but only {eligible:,} of {n:,} samples hold a kind; "
            "lower the size, add data, or use a strategy whose kinds reach more samples"
        )
    lacking = problem.lacking()
    if lacking:
        raise DataError(f"select: size is {size:,} but {lacking}; change the size or the limit")
    if limits.cap != NO_CAP and not fits(problem):
        raise DataError(
            f"select: fewer than {size:,} samples remain when no kind may occur more than "
            f"{limits.cap:,} times; the smallest feasible max per kind is "
            f"{smallest_cap(problem):,}, or lower the size"
        )
