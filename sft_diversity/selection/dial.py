"""The range of the dial: the fewest and the most kinds that N samples hold, and p % between."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from sft_diversity.core import incidence as incidences
from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.core.incidence import Incidence
from sft_diversity.core.kernels import NO_ROWS, Ints, Rows
from sft_diversity.core.seeding import generator
from sft_diversity.selection.bounds import Chance, chance_kinds, coverage_bound, fewest_kinds
from sft_diversity.selection.draws import draw_by_kind
from sft_diversity.selection.finish import REFERENCE_SEED, finish, most_kinds
from sft_diversity.selection.fit import feasible, fit_within, refuse_infeasible
from sft_diversity.selection.greedy import cover
from sft_diversity.selection.peeling import Peeling, peel
from sft_diversity.selection.problem import FREE, NO_CAP, PickLimits, Problem

PROBES = 16  # pools tried evenly over the peeling


@dataclass(frozen=True)
class Place:
    """A position of the dial.

    Attributes
    ----------
    step : int
        Of the peeling: its pool is what is picked from.
    target : int
        Kinds that a subset holds there, exactly.
    whole : bool
        Whether these are all kinds of the pool.
    """

    step: int
    target: int
    whole: bool


@dataclass(frozen=True, eq=False)
class Setting:
    """What a dial gives at some percent.

    Attributes
    ----------
    kinds : int
        Kinds that a subset holds there, exactly.
    pool : int64 array
        Rows that it is picked from, ascending.
    """

    kinds: int
    pool: Rows


class Dial:
    """The range of kinds for one incidence, size and limits; diversities, fills, seeds share it.

    c(step) is what a greedy cover of the pool of `step` with N samples holds, finished to exactly N
    within the limits. Where it is all kinds of the pool, that pool is drawn from freely; in larger
    pools c goes on growing, with small dips, up to what 100 % means.

    Parameters
    ----------
    source : Incidence, Peeling, or scipy sparse matrix or array, shape (n, kinds)
        Which kinds each sample holds: entries that are not 0. A peeling may be shared by several
        sizes and limits.
    size : int, optional
        N, at least 1. The range depends on it: without one there is `pool` alone.
    limits : PickLimits
        What the range and every subset keep to.
    free : Dial, optional
        The dial without the limits, for its range; made of `source` by default. None where there
        are no limits, or where without them fewer than N samples hold a kind.

    Raises
    ------
    UsageError
        If `size` or the cap is below 1, or the matrix is none of kinds; and where the range is
        asked for of a dial without a size.
    DataError
        If fewer than `size` samples hold a kind, or the limits cannot be met; the message names
        what lacks, or the smallest feasible cap.

    Notes
    -----
    Peeling is linear in the entries (`peel`). About `PROBES` greedy covers, one where N samples
    hold all kinds; a position between the ends where they do not costs about ten more.
    """

    def __init__(
        self,
        source: Incidence | Peeling | Any,
        size: int | None = None,
        *,
        limits: PickLimits = FREE,
        free: Dial | None = None,
    ) -> None:
        peeling = source if isinstance(source, Peeling) else peel(incidences.of_matrix(source))
        if limits is not FREE and free is None and 0 < (size or 0) <= peeling.eligible:
            free = Dial(peeling, size)
        self.peeling, self._size, self.limits, self.free = peeling, size, limits, free
        self._covered: dict[int, int] = {}
        self._exact: dict[int, Place | None] = {}
        if size is not None:
            refuse_infeasible(self.problem(0), peeling.eligible)
            _ = self.low_step  # found now, so that what cannot be made is refused here

    @property
    def size(self) -> int:
        """N."""
        if self._size is None:
            raise UsageError(
                "select: the range of a dial is that of a size; give Dial(kinds, size)"
            )
        return self._size

    def pool(self, k: int) -> Rows:
        """Return the samples whose kinds all survive when `k` kinds are left, ascending.

        Not every k occurs: of those that do the nearest counts, of two the larger.
        """
        steps = np.flatnonzero(self.peeling.pool_sizes)
        return self.peeling.pool(int(steps[np.abs(self.peeling.kinds_after[steps] - k).argmin()]))

    def at(self, percent: float) -> Setting:
        """Return the kinds held at `percent`, 0 to 100, and the pool picked from; see `place`."""
        place = self.place(percent)
        return Setting(place.target, self.peeling.pool(place.step))

    @cached_property
    def kinds_of_steps(self) -> Ints:
        """Kinds of each step's pool and of the rows kept; falling."""
        held = Problem(self.peeling.incidence, NO_ROWS, 0).held(self.limits.kept)
        left = np.sort(self.peeling.kind_left[held > 0])
        after = self.peeling.kinds_after
        kinds: Ints = after + np.searchsorted(left, np.arange(len(after)), side="right")
        return kinds

    @cached_property
    def low_step(self) -> int:
        """Step of the smallest pool from which a subset can be finished.

        Where the smallest that seems feasible does not do, larger ones are tried in growing
        strides, then bisected.

        Raises
        ------
        DataError
            If no pool does.
        """
        sizes, n_kept = self.peeling.pool_sizes, len(self.limits.kept)

        def seems_feasible(step: int) -> bool:
            return bool(sizes[step] + n_kept >= self.size) and feasible(self.problem(step))

        low = _bisect(seems_feasible, 0, len(sizes))
        if self.limits is FREE:
            return low
        stride, lacks, step = 1, low + 1, low
        while self.covered(step) < 0:
            if step == 0:
                raise DataError(
                    f"select: no {self.size:,} samples were found that keep the limits together; "
                    "loosen one of them or change the size"
                )
            lacks, step = step, max(0, low - stride)
            stride *= 2
        return _bisect(lambda at: self.covered(at) >= 0, step, lacks)

    @cached_property
    def k_min(self) -> int:
        """Kinds at 0 %: those of the smallest pool, as far as N samples hold them."""
        return self.covered(self.low_step)

    @cached_property
    def k_max(self) -> int:
        """Kinds at 100 %: the most that any probed pool gives, the whole eligible one among them.

        From the whole pool down, until no smaller pool has as many kinds.
        """
        most = self.k_min
        for step in self.probes:
            if self.kinds_of_steps[step] <= most:
                break
            most = max(most, self.covered(step))
        return most

    @property
    def free_range(self) -> tuple[int, int]:
        """Kinds at 0 % and at 100 % without the limits."""
        if self.limits is FREE:
            return self.k_min, self.k_max
        if self.free is None:
            return int(self.kinds_of_steps[0]), int(self.kinds_of_steps[0])
        return self.free.k_min, self.free.k_max

    @cached_property
    def probes(self) -> list[int]:
        """Steps that are tried first, ascending: the whole eligible pool to the smallest."""
        steps: list[int] = np.unique(np.linspace(0, self.low_step, PROBES + 1).astype(int)).tolist()
        return steps

    @cached_property
    def bound(self) -> int:
        """No `size` eligible samples within the limits hold more kinds than this."""
        return coverage_bound(self.problem(0))

    @cached_property
    def k_min_bound(self) -> int:
        """No `size` eligible samples within the limits hold fewer kinds than this."""
        degrees = np.bincount(self.peeling.incidence.indices, minlength=self.peeling.n_kinds)
        return fewest_kinds(self.problem(0), degrees)

    @cached_property
    def chance(self) -> Chance:
        """What random eligible samples within the limits hold; see `chance_kinds`."""
        return chance_kinds(self.problem(0))

    def percent(self, kinds: float) -> float | None:
        """Return where so many kinds are on the dial, not clipped; None where it has no range."""
        return percent_of_range(kinds, self.k_min, self.k_max)

    def problem(self, step: int) -> Problem:
        """Return what is picked from in the pool of `step`."""
        rows = self.limits.candidates(self.peeling.pool(step))
        return Problem(self.peeling.incidence, rows, self.size, self.limits)

    def covered(self, step: int) -> int:
        """Return c(step), or -1 where no subset can be finished from that pool."""
        if step not in self._covered:
            if self._plainly_whole(step):
                self._covered[step] = int(self.kinds_of_steps[step])
            else:
                problem = self.problem(step)
                rows = most_kinds(problem)
                self._covered[step] = -1 if rows is None else problem.kinds(rows)
        return self._covered[step]

    def whole(self, step: int) -> bool:
        """Whether N samples hold all kinds of the pool of `step`."""
        return self.covered(step) == int(self.kinds_of_steps[step])

    def place(self, diversity: float) -> Place:
        """Return where `diversity` percent is: k = k_min + diversity/100 · (k_max - k_min) kinds.

        The pool whose k is nearest (of two the larger), where N samples hold such pools whole. Else
        the smallest pool found from which N samples hold k kinds and no more; where none do, the
        same for the nearest k for which some do, of two equally near the larger. Under a total k is
        taken to one percent.

        Raises
        ------
        UsageError
            If `diversity` is not within 0 to 100.
        """
        check_percent(diversity)
        k = self.k_min + diversity / 100 * (self.k_max - self.k_min)
        whole = self._whole_place(k)
        if whole is not None:
            return whole
        middle = int(np.floor((k - self.k_min) / self._stride + 0.5))
        for off in range(self._targets + 1):
            for number in (middle + off, middle - off):
                found = self._numbered(number)
                if found is not None:
                    return found
        raise AssertionError("both ends of the dial are held by the sets that define them")

    def reference(self, place: Place) -> Rows:
        """Return the subset that shows that `place` exists; ties by lowest row."""
        problem = self.problem(place.step)
        if place.whole and self._plainly_whole(place.step):
            picks = draw_by_kind(problem, _reference_rng())
            if problem.kinds(picks) == place.target:
                return picks
        finished = _finished(problem, place.target)
        if finished is None:  # an end of the range, where a cap or a total costs kinds
            finished = most_kinds(problem)
        assert finished is not None
        return finished

    @cached_property
    def _stride(self) -> int:
        """Kinds from one target that is tried to the next.

        Under a total few targets are held exactly and each try is dear: one percent.
        """
        return 1 if self.limits.total is None else max(1, (self.k_max - self.k_min) // 100)

    @property
    def _targets(self) -> int:
        """Number of the last target; it is 100 %, as the first, 0, is 0 %."""
        return (self.k_max - self.k_min) // self._stride

    def _numbered(self, number: int) -> Place | None:
        """Return the place of a target; None where no set found holds just so many kinds."""
        if number < 0:
            return None
        target = self.k_max if number >= self._targets else self.k_min + number * self._stride
        if target not in self._exact:
            self._exact[target] = self._find(target)
        return self._exact[target]

    def _find(self, target: int) -> Place | None:
        whole = self._whole_place(target)
        if whole is not None:  # where every k is tried, the pool's own k is, too
            return whole if whole.target == target or self._stride > 1 else None
        probe, lacks = self._bracket(target)
        # the ends of the dial are what a probe gives, so they are always held
        if self.covered(probe) == target:
            return Place(probe, target, False)
        step = probe
        if self.limits.total is None:  # under one each c is dear
            step = _bisect(lambda step: self.covered(step) >= target, probe, lacks)
        found = _finished(self.problem(step), target)
        return None if found is None else Place(step, target, False)

    def _bracket(self, target: int) -> tuple[int, int]:
        """Return the smallest probed pool that gives `target` kinds, and the next smaller one."""
        lacks = self.low_step + 1
        for step in reversed(self.probes):  # from the smallest: larger ones need not be tried
            if self.covered(step) >= target:
                return step, lacks
            lacks = step
        raise AssertionError("no target is above what a probe gives")

    def _plainly_whole(self, step: int) -> bool:
        """Whether all kinds of the pool are held for certain, without a greedy cover.

        A sample for each kind is enough where N allows it; else kind-aware rounds are tried, which
        cost a tenth of a cover.
        """
        limits = self.limits
        if limits.cap != NO_CAP or limits.total is not None:
            return False
        if (
            len(limits.kept) == 0
            and limits.quotas is None
            and self.kinds_of_steps[step] <= self.size
        ):
            return True
        problem = self.problem(step)
        picks = draw_by_kind(problem, _reference_rng())
        return len(picks) == self.size and problem.kinds(picks) == self.kinds_of_steps[step]

    def _whole_place(self, k: float) -> Place | None:
        """Return the pool whose kinds are nearest to `k`, of two the larger, if it is held whole.

        None also where a larger pool lies on the other side of `k` that is not: then there are sets
        that hold k kinds.
        """
        near = int(np.abs(self.kinds_of_steps[: self.low_step + 1] - k).argmin())
        target = int(self.kinds_of_steps[near])
        if target > self.k_max or not self.whole(near):
            return None
        if target < k and near > 0 and not self.whole(near - 1):
            return None
        return Place(near, target, True)


def _bisect(holds: Callable[[int], bool], works: int, fails: int) -> int:
    """Return a step from `works`, which holds, to below `fails` that holds while the next fails."""
    while fails - works > 1:
        middle = (works + fails) // 2
        works, fails = (middle, fails) if holds(middle) else (works, middle)
    return works


def _finished(problem: Problem, target: int) -> Rows | None:
    """Return a subset that holds `target` kinds, ties by lowest row, if found."""
    return finish(problem, cover(problem, target=target), fit_within, target, REFERENCE_SEED)


def _reference_rng() -> np.random.Generator:
    return generator(REFERENCE_SEED, "select", "draws")


def check_percent(diversity: float) -> None:
    """Refuse a diversity that is no percentage."""
    if not 0 <= diversity <= 100:
        raise UsageError(
            f"select: diversity is {diversity:g} but it is a percentage; give 0 to 100"
        )


def percent_of_range(value: float, low: float, high: float) -> float | None:
    """Return where `value` lies from `low` to `high`, in percent, not clipped; None without any."""
    return None if high == low else 100 * (value - low) / (high - low)
