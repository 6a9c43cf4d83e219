"""The range of the dial: the smallest and the largest k for a subset of N, and k at p %."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import numpy as np

from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.core.incidence import Incidence
from sft_diversity.select import capping
from sft_diversity.select.cover import cover
from sft_diversity.select.peeling import Peeling, peel

PROBES = 16  # steps tried evenly over the whole range
WINDOW = 64  # steps in a row that must fail above k_max


@dataclass(frozen=True)
class Dial:
    """The range of k for one incidence and size; diversities, fills and seeds share it.

    Attributes
    ----------
    peeling : Peeling
    size : int
        N.
    max_per_kind : int or None
        The cap that the range respects.
    low_step, high_step : int
        Steps of the peeling at 0 % and 100 %.
    free_low_step, free_high_step : int
        The same without the cap.
    """

    peeling: Peeling
    size: int
    max_per_kind: int | None
    low_step: int
    high_step: int
    free_low_step: int
    free_high_step: int

    @property
    def k_min(self) -> int:
        """Kinds at 0 %."""
        return int(self.peeling.kinds_after[self.low_step])

    @property
    def k_max(self) -> int:
        """Kinds at 100 %."""
        return int(self.peeling.kinds_after[self.high_step])

    @property
    def free_k_min(self) -> int:
        """Kinds at 0 % without the cap."""
        return int(self.peeling.kinds_after[self.free_low_step])

    @property
    def free_k_max(self) -> int:
        """Kinds at 100 % without the cap."""
        return int(self.peeling.kinds_after[self.free_high_step])

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
        return self.peeling.nearest_step(self.k_min + diversity / 100 * (self.k_max - self.k_min))


def make_dial(source: Incidence | Peeling, size: int, *, max_per_kind: int | None = None) -> Dial:
    """Find the range of k for subsets of `size` samples.

    Parameters
    ----------
    source : Incidence or Peeling
        A peeling may be shared by several sizes and caps.
    size : int
        N, at least 1.
    max_per_kind : int, optional
        No kind may be held by more than this many picks.

    Returns
    -------
    Dial

    Raises
    ------
    UsageError
        If `size` or `max_per_kind` is below 1.
    DataError
        If fewer than `size` samples hold a kind, or fit under the cap; the message names the
        smallest feasible cap.

    Notes
    -----
    k_min is exact: the smallest k that occurs whose pool holds N samples; under a cap, the
    smallest k, by bisection, whose pool holds N that fit (see `capping.fits`).
    k_max: see `largest_reached`. A cap leaves it alone, because covering every kind under a cap is
    mostly impossible; it only rises to k_min where that is larger.
    """
    peeling = source if isinstance(source, Peeling) else peel(source)
    _check(peeling, size, max_per_kind)
    free_low = int(np.flatnonzero(peeling.pool_sizes >= size)[-1])
    free_high = largest_reached(partial(_reached, peeling, size), free_low)
    if max_per_kind is None:
        return Dial(peeling, size, None, free_low, free_high, free_low, free_high)
    low = _largest_step(partial(_fits, peeling, size, max_per_kind), free_low)
    return Dial(peeling, size, max_per_kind, low, min(free_high, low), free_low, free_high)


def largest_reached(reached: Callable[[int], bool], low: int) -> int:
    """Return the smallest step (largest k) from 0 to `low` for which `reached` holds.

    `reached` is nearly but not quite monotone in k: more kinds need more samples, but a larger
    pool also has samples that hold more. So every `PROBES`-th part of the range is tried from the
    top, bisection goes between the first success and the failure before it, and then every step
    above is tried until `WINDOW` in a row have failed, starting over at each success.

    Returns
    -------
    int
        A step that is reached, and none of the `WINDOW` steps above it is: exact where the range
        has no more than `WINDOW` steps. `low` if no success is found.

    Notes
    -----
    On the reference corpus the largest k lay up to 32 steps above what bisection found. Cost at
    most about `PROBES + log2(low) + WINDOW` greedy covers, one where step 0 is reached; those far
    above k_max give up early.
    """
    reached = cache(reached)
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
    while step >= max(0, best - WINDOW):
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


def _reached(peeling: Peeling, size: int, step: int) -> bool:
    """Whether a greedy cover of the pool of `step` with `size` samples holds all its kinds."""
    k = int(peeling.kinds_after[step])
    pool = peeling.pool(step)
    found = cover(peeling.indptr, peeling.indices, peeling.n_kinds, pool, size, goal=k)
    return found.covered == k


def _fits(peeling: Peeling, size: int, cap: int, step: int) -> bool:
    """Whether `size` samples of the pool of `step` fit under the cap."""
    pool = peeling.pool(step)
    return capping.fits(peeling.indptr, peeling.indices, peeling.n_kinds, pool, size, cap)


def _check(peeling: Peeling, size: int, cap: int | None) -> None:
    """Refuse sizes and caps that cannot be met."""
    if size < 1:
        raise UsageError(f"select: size is {size:,} but a subset has at least 1 sample")
    if cap is not None and cap < 1:
        raise UsageError(f"select: max per kind is {cap:,} but must be at least 1")
    if size > peeling.eligible:
        raise DataError(
            f"select: size is {size:,} but only {peeling.eligible:,} of "
            f"{peeling.eligible + peeling.no_kind:,} samples hold a kind; "
            "lower the size, add data, or use a strategy whose kinds reach more samples"
        )
    if cap is not None and not _fits(peeling, size, cap, 0):
        least = capping.smallest_cap(
            peeling.indptr, peeling.indices, peeling.n_kinds, peeling.pool(0), size, cap
        )
        raise DataError(
            f"select: fewer than {size:,} samples remain when no kind may occur more than "
            f"{cap:,} times; the smallest feasible max per kind is {least:,}, or lower the size"
        )
