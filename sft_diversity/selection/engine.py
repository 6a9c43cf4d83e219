"""The selection engine: exactly N samples of an incidence at a chosen diversity."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from math import floor
from typing import Any, get_args

import numpy as np

from sft_diversity.core.errors import UsageError
from sft_diversity.core.kernels import Ints, Kinds, Rows, compiled
from sft_diversity.core.numbers import evenness
from sft_diversity.core.seeding import generator
from sft_diversity.selection.bounds import balance_bound
from sft_diversity.selection.config import Fill
from sft_diversity.selection.dial import Dial, Place
from sft_diversity.selection.draws import draw_by_kind
from sft_diversity.selection.finish import exchange, filled, finish
from sft_diversity.selection.greedy import balance, cover
from sft_diversity.selection.problem import Problem, shuffled


@dataclass(frozen=True, eq=False)
class Selection:
    """A subset and what it reached.

    Attributes
    ----------
    rows : int64 array, shape (size,)
        Distinct rows of the incidence in pick order.
    dial : Dial
        Whose range, bounds and marks these are.
    place : Place
        Where on it: the pool, and the kinds aimed at, those nearest to the diversity asked for
        that some subset is found to hold exactly.
    fill : "draws", "balance" or "uniform"
    """

    rows: Rows
    dial: Dial
    place: Place
    fill: Fill

    @cached_property
    def problem(self) -> Problem:
        """What was picked from."""
        return self.dial.problem(self.place.step)

    @cached_property
    def held(self) -> Ints:
        """c_j, how many picks hold kind j."""
        return self.problem.held(self.rows)

    @property
    def kinds_covered(self) -> int:
        """Kinds that the picks hold: the target, but for fill `uniform`."""
        return int(np.count_nonzero(self.held))

    @property
    def pool(self) -> int:
        """Samples that could be picked: where it is near `size`, seeds have little to vary."""
        return int(self.dial.peeling.pool_sizes[self.place.step])

    @property
    def free_picks(self) -> int:
        """Picks after the one that brought the last kind: where they are few, seeds vary little."""
        return _after_the_last_kind(*self.problem.by_row, len(self.held), self.rows)

    @property
    def share_of_optimum(self) -> float:
        """The dial's upper end, at least this part of what any `size` eligible samples hold."""
        return floor(1e6 * self.dial.k_max / max(1, self.dial.bound)) / 1e6

    @property
    def objective(self) -> tuple[float, float]:
        """Σ log(1 + c_j), which fill `balance` maximises, and what nothing of the pool exceeds."""
        reached = round(float(np.log1p(self.held).sum()), 6)
        return reached, balance_bound(self.problem, self.held)

    def figures(self) -> dict[str, Any]:
        """Return what a result states of them."""
        dial, peeling = self.dial, self.dial.peeling
        stated: dict[str, Any] = {
            "kinds_total": peeling.kinds_total,
            "k_min": dial.k_min,
            "k_max": dial.k_max,
            "free_k_min": dial.free_range[0],
            "free_k_max": dial.free_range[1],
            "k_min_bound": dial.k_min_bound,
            "kinds_target": self.place.target,
            "kinds_covered": self.kinds_covered,
            "coverage_bound": dial.bound,
            "share_of_optimum": self.share_of_optimum,
            "free_picks": self.free_picks,
            "pool": self.pool,
            "eligible": peeling.eligible,
            "no_kind": peeling.no_kind,
            "evenness": round(evenness(self.held), 6),
            **dial.chance.figures("kinds", dial.percent(dial.chance.mean), 1),
        }
        if self.fill == "balance":
            stated["objective_value"], stated["objective_bound"] = self.objective
        return stated


def choose_at(dial: Dial, diversity: float, *, fill: Fill = "draws", seed: int = 0) -> Selection:
    """Pick the dial's size of samples at `diversity` percent.

    Parameters
    ----------
    dial : Dial
        Pools, range, size and limits.
    diversity : float
        Percent, 0 to 100.
    fill : "draws", "balance" or "uniform"
        How the picks are taken from the pool: kind-aware rounds (`draw_by_kind`), lazy greedy on
        Σ log(1 + c_j) (`balance`), or uniformly at random. Draws and balance hold exactly the
        kinds aimed at; uniform holds what it happens to hold.
    seed : int
        Varies the draws, and the ties of balance. Same dial, diversity, fill and seed: same rows.

    Returns
    -------
    Selection

    Raises
    ------
    UsageError
        If `diversity` is not within 0 to 100, `fill` is unknown, or `seed` is negative.

    Notes
    -----
    Linear in the entries of the pool for draws and uniform; see `greedy` for balance.
    """
    if fill not in get_args(Fill):
        raise UsageError(f"select: fill is {fill!r} but must be one of {', '.join(get_args(Fill))}")
    if seed < 0:
        raise UsageError(f"select: seed is {seed} but must be 0 or more")
    place = dial.place(diversity)
    pick = _uniform if fill == "uniform" else partial(_by_kinds, fill=fill)
    return Selection(pick(dial, place, seed), dial, place, fill)


def _by_kinds(dial: Dial, place: Place, seed: int, fill: Fill) -> Rows:
    """Return exactly `dial.size` rows of the place's pool: those kept, and others.

    The first of these ways that leads to just the kinds aimed at, within the limits: the fill alone
    (where all kinds of the pool are wanted), after a cover whose ties fall by the seed, after the
    cover by lowest row, as when the range was found, and the set that showed that the place exists.
    """
    problem = dial.problem(place.step)
    order = problem.over(shuffled(problem.rows, seed, "balance" if fill == "balance" else "cover"))

    def finished(first: Rows, stream: str) -> Rows | None:
        if fill == "balance":
            return finish(order, first, balance, place.target, seed)
        drawing = partial(draw_by_kind, rng=generator(seed, "select", stream))
        return finish(
            problem, first, lambda free, first: drawing(free, first=first), place.target, seed
        )

    picks = finished(problem.limits.kept, "draws") if place.whole else None
    for ties in (order, problem):
        if picks is None:
            picks = finished(cover(ties, target=place.target), "draws after cover")
    return dial.reference(place) if picks is None else picks


def _uniform(dial: Dial, place: Place, seed: int) -> Rows:
    """Return random rows within the limits; the reference where these cannot be kept so."""
    problem = dial.problem(place.step)
    picks = filled(problem.over(shuffled(problem.rows, seed, "uniform")))
    if problem.limits.total is None:
        return picks
    picks = exchange(problem, picks, seed)
    return picks if problem.limits.total.met(picks) else dial.reference(place)


@compiled
def _after_the_last_kind(indptr: Ints, indices: Kinds, n_kinds: int, rows: Rows) -> int:
    """Return how many of `rows`, in order, come after the last that holds a kind not met before."""
    met = np.zeros(n_kinds, np.bool_)
    last = -1
    for at in range(len(rows)):
        for kind in indices[indptr[rows[at]] : indptr[rows[at] + 1]]:
            if not met[kind]:
                met[kind] = True
                last = at
    return len(rows) - 1 - last
