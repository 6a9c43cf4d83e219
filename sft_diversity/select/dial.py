"""The range of the dial: the smallest and the largest k for a subset of N, and k at p %."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property, partial

import numpy as np

from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.core.incidence import Incidence
from sft_diversity.select import capping
from sft_diversity.select.bound import coverage_bound
from sft_diversity.select.compiled import NO_CAP, Ints, Kinds, Rows
from sft_diversity.select.cover import cover
from sft_diversity.select.limits import FREE, Limits
from sft_diversity.select.peeling import Peeling, peel
from sft_diversity.select.transpose import count_kinds

PROBES = 16  # steps tried evenly over the whole range
WINDOW = 64  # steps in a row that must fail above k_max
# under limits most pools cannot be covered, and each try is a whole cover
LIMITED_WINDOW = 32
BOUNDS = 2  # pools whose coverage is bounded to bound k_max


@dataclass(frozen=True, eq=False)
class Dial:
    """The range of k for one incidence, size and limits; diversities, fills and seeds share it.

    Attributes
    ----------
    peeling : Peeling
    size : int
        N.
    limits : Limits
        What the range and every subset keep to.
    kinds : int64 array, shape (steps + 1,)
        k of each step: kinds of the pool and of the rows kept; falling.
    low_step, high_step : int
        Steps of the peeling at 0 % and 100 %.
    free_k_min, free_k_max : int
        Kinds at 0 % and 100 % without the limits.
    """

    peeling: Peeling
    size: int
    limits: Limits
    kinds: Ints
    low_step: int
    high_step: int
    free_k_min: int
    free_k_max: int

    @property
    def k_min(self) -> int:
        """Kinds at 0 %."""
        return int(self.kinds[self.low_step])

    @property
    def k_max(self) -> int:
        """Kinds at 100 %."""
        return int(self.kinds[self.high_step])

    @cached_property
    def k_min_bound(self) -> int:
        """No pool of fewer kinds, whatever the peeling, holds the samples of a subset.

        The kinds of N samples are at least as many as the longest of them holds, and the samples
        that hold each add up to what the N hold together.
        """
        peeling, kept = self.peeling, self.limits.kept
        known = np.count_nonzero(count_kinds(*self.shape[:2], kept, peeling.n_kinds))
        rows = self.limits.candidates(peeling.pool(0))
        held = np.sort(np.diff(peeling.indptr)[rows])[: self.size - len(kept)]
        if len(held) == 0:
            return int(known)
        degrees = np.bincount(peeling.indices, minlength=peeling.n_kinds)
        reach = np.cumsum(np.sort(degrees)[::-1])
        return max(int(known), int(held[-1]), int(np.searchsorted(reach, held.sum())) + 1)

    @cached_property
    def k_max_bound(self) -> int:
        """No pool of the peeling with more kinds than this can be covered by a subset.

        Pools are nested, so a bound on the kinds that N samples of one pool hold rules out every
        smaller pool with more kinds; from the whole pool down, `BOUNDS` times at most, since each
        costs as much as all the rest of a small subset.
        """
        step = 0
        for _ in range(BOUNDS):
            if step == self.high_step:
                break
            rows = self.limits.candidates(self.peeling.pool(step))
            bound = coverage_bound(*self.shape, rows, self.size, limits=self.limits)
            if bound >= self.kinds[step]:
                break
            step = min(self.high_step, int(np.searchsorted(-self.kinds, -bound)))
        return int(self.kinds[step])

    @property
    def shape(self) -> tuple[Ints, Kinds, int]:
        """The incidence as kernels take it."""
        return self.peeling.shape

    def step(self, diversity: float) -> int:
        """Return the step whose k is nearest to k_min + diversity/100 · (k_max - k_min).

        Of two equally near the larger k. Its pool is the whole eligible pool where k_max is the
        number of all kinds and `diversity` is 100.

        Raises
        ------
        UsageError
            If `diversity` is not within 0 to 100.
        """
        if not 0 <= diversity <= 100:
            raise UsageError(
                f"select: diversity is {diversity:g} but it is a percentage; give 0 to 100"
            )
        k = self.k_min + diversity / 100 * (self.k_max - self.k_min)
        return int(np.abs(self.kinds - k).argmin())


def make_dial(
    source: Incidence | Peeling, size: int, *, limits: Limits = FREE, free: Dial | None = None
) -> Dial:
    """Find the range of k for subsets of `size` samples.

    Parameters
    ----------
    source : Incidence or Peeling
        A peeling may be shared by several sizes and limits.
    size : int
        N, at least 1.
    limits : Limits
        What every subset keeps to.
    free : Dial, optional
        The dial without limits, for its range; made of `source` by default.

    Returns
    -------
    Dial

    Raises
    ------
    UsageError
        If `size` or the cap is below 1.
    DataError
        If fewer than `size` samples hold a kind, or the limits cannot be met; the message names
        what lacks, or the smallest feasible cap.

    Notes
    -----
    k_min is exact: the smallest k that occurs whose pool holds N samples within the limits; under
    a cap, the smallest k, by bisection, whose pool holds N that fit (see `capping.fits`); with a
    total, the smallest k found whose cover leaves enough free to reach it.
    k_max: see `largest_reached`; the cover keeps quotas and what was kept, and what it leaves to
    pick can reach the total. A cap leaves k_max alone, because covering every kind under a cap is
    mostly impossible; it only rises to k_min where that is larger.
    """
    peeling = source if isinstance(source, Peeling) else peel(source)
    _check(peeling, size, limits)
    low = _largest_step(partial(_feasible, peeling, size, limits), len(peeling.kinds_after) - 1)
    kinds = _kinds(peeling, limits)
    reached = cache(partial(_reached, peeling, size, limits, kinds))
    if limits.total is not None:
        low = _first_reached(reached, low)
    high = largest_reached(reached, low, WINDOW if limits is FREE else LIMITED_WINDOW)
    if limits is FREE:
        return Dial(peeling, size, limits, kinds, low, high, int(kinds[low]), int(kinds[high]))
    if free is None and size <= peeling.eligible:
        free = make_dial(peeling, size)
    ends = (int(kinds[0]), int(kinds[0])) if free is None else (free.k_min, free.k_max)
    return Dial(peeling, size, limits, kinds, low, high, *ends)


def largest_reached(reached: Callable[[int], bool], low: int, window: int = WINDOW) -> int:
    """Return the smallest step (largest k) from 0 to `low` for which `reached` holds.

    `reached` is nearly but not quite monotone in k: more kinds need more samples, but a larger
    pool also has samples that hold more. So every `PROBES`-th part of the range is tried from the
    top, bisection goes between the first success and the failure before it, and then every step
    above is tried until `window` in a row have failed, starting over at each success.

    Returns
    -------
    int
        A step that is reached, and none of the `window` steps above it is: exact where the range
        has no more than `window` steps. `low` if no success is found.

    Notes
    -----
    On the reference corpus the largest k lay up to 32 steps above what bisection found. Cost at
    most about `PROBES + log2(low) + window` greedy covers, one where step 0 is reached; those far
    above k_max give up early.
    """
    probes = np.unique(np.linspace(0, low, PROBES + 1).astype(int)).tolist()
    best = low
    fails = -1
    for probe in probes:
        if reached(probe):
            best = probe
            break
        fails = probe
    while best - fails > 1:
        middle = (best + fails) // 2
        if reached(middle):
            best = middle
        else:
            fails = middle
    step = best - 1
    while step >= max(0, best - window):
        if reached(step):
            best = step
        step -= 1
    return best


def _largest_step(holds: Callable[[int], bool], low: int) -> int:
    """Return a step from 0 to `low` that holds while the next does not; step 0 must hold."""
    if holds(low):
        return low
    works, fails = 0, low
    while fails - works > 1:
        middle = (works + fails) // 2
        if holds(middle):
            works = middle
        else:
            fails = middle
    return works


def _first_reached(reached: Callable[[int], bool], low: int) -> int:
    """Return a step at or a little below `low` (more kinds) that is reached; `low` if none is."""
    fails, stride = low + 1, 1
    step = low
    while not reached(step):
        if step == 0:
            return low
        fails = step
        step = max(0, low - stride)
        stride *= 2
    while fails - step > 1:
        middle = (step + fails) // 2
        if reached(middle):
            step = middle
        else:
            fails = middle
    return step


def _kinds(peeling: Peeling, limits: Limits) -> Ints:
    """Return the kinds of every step: those of its pool and of the rows kept."""
    held = count_kinds(peeling.indptr, peeling.indices, limits.kept, peeling.n_kinds) > 0
    left = np.sort(peeling.kind_left[held])
    gone = np.searchsorted(left, np.arange(len(peeling.kinds_after)), side="right")
    kinds: Ints = peeling.kinds_after + gone
    return kinds


def _feasible(peeling: Peeling, size: int, limits: Limits, step: int) -> bool:
    """Whether the pool of `step` holds `size` samples within the limits."""
    if peeling.pool_sizes[step] + len(limits.kept) < size:
        return False
    rows = limits.candidates(peeling.pool(step))
    return not limits.lacking(rows, size) and _fits(peeling, size, limits, rows)


def _fits(peeling: Peeling, size: int, limits: Limits, rows: Rows) -> bool:
    """Whether the rows kept and some of `rows` make `size` under the cap."""
    return limits.cap == NO_CAP or capping.fits(*peeling.shape, rows, size, limits)


def _reached(peeling: Peeling, size: int, limits: Limits, kinds: Ints, step: int) -> bool:
    """Whether a greedy cover of the pool of `step` with `size` samples holds all its kinds."""
    rows = limits.candidates(peeling.pool(step))
    goal = int(kinds[step])
    found = cover(*peeling.shape, rows, size, goal=goal, limits=limits.uncapped)
    if found.covered < goal or limits.total is None:
        return found.covered == goal
    low, high = limits.reach(found.rows, rows[~np.isin(rows, found.rows)], size)
    return low <= limits.total.most and high >= limits.total.least


def _check(peeling: Peeling, size: int, limits: Limits) -> None:
    """Refuse sizes and limits that cannot be met."""
    if size < 1:
        raise UsageError(f"select: size is {size:,} but a subset has at least 1 sample")
    if limits.cap < 1:
        raise UsageError(f"select: max per kind is {limits.cap:,} but must be at least 1")
    if len(limits.kept) > size:
        raise UsageError(
            f"select: size is {size:,} but {len(limits.kept):,} samples must be included; "
            "raise the size"
        )
    if count_kinds(*peeling.shape[:2], limits.kept, peeling.n_kinds).max(initial=0) > limits.cap:
        raise UsageError(
            f"select: the samples to include hold a kind more than {limits.cap:,} times; raise "
            "max per kind or include fewer"
        )
    if len(limits.kept) == 0 and size > peeling.eligible:
        raise DataError(
            f"select: size is {size:,} but only {peeling.eligible:,} of "
            f"{peeling.eligible + peeling.no_kind:,} samples hold a kind; "
            "lower the size, add data, or use a strategy whose kinds reach more samples"
        )
    rows = limits.candidates(peeling.pool(0))
    lacking = limits.lacking(rows, size)
    if lacking:
        raise DataError(f"select: size is {size:,} but {lacking}; change the size or the limit")
    if not _fits(peeling, size, limits, rows):
        least = capping.smallest_cap(*peeling.shape, rows, size, limits)
        raise DataError(
            f"select: fewer than {size:,} samples remain when no kind may occur more than "
            f"{limits.cap:,} times; the smallest feasible max per kind is {least:,}, "
            "or lower the size"
        )
