"""The selection engine: exactly N samples of an incidence at a chosen diversity."""

from __future__ import annotations

from dataclasses import dataclass
from math import floor
from typing import Literal, get_args

import numpy as np

from sft_diversity.core.errors import UsageError
from sft_diversity.core.incidence import Incidence
from sft_diversity.core.kernels import Ints, Kinds, Rows, compiled
from sft_diversity.core.seeding import generator
from sft_diversity.selection import capping
from sft_diversity.selection.balance import balance
from sft_diversity.selection.bound import balance_bound
from sft_diversity.selection.cover import cover
from sft_diversity.selection.dial import Dial, Place, make_dial
from sft_diversity.selection.draws import draw
from sft_diversity.selection.exchange import exchange
from sft_diversity.selection.finish import finish, shuffled
from sft_diversity.selection.limits import FREE, Limits
from sft_diversity.selection.peeling import Peeling
from sft_diversity.selection.transpose import count_kinds

Fill = Literal["draws", "balance", "uniform"]


@dataclass(frozen=True)
class Selection:
    """A subset and what it reached.

    Attributes
    ----------
    rows : int64 array, shape (size,)
        Distinct rows of the incidence in pick order.
    diversity : float
        Percent asked for.
    fill : "draws", "balance" or "uniform"
    seed : int
    kinds_total : int
        Kinds that at least one sample holds.
    k_min, k_max : int
        Kinds at 0 % and 100 %, under the limits if there are any.
    free_k_min, free_k_max : int
        The same without the limits.
    kinds_target : int
        Kinds aimed at: those nearest to the dial that some subset is found to hold exactly.
    kinds_covered : int
        Kinds that the picks hold: the target, but for fill `uniform`.
    coverage_bound : int
        No `size` eligible samples within the limits hold more kinds than this, whatever the dial.
    random_kinds : float
        What `size` random eligible samples within the limits hold; see `chance.chance_kinds`.
    random_sd : float or None
        Its standard deviation, where it is a mean of draws; None where it is exact.
    random_percent : float or None
        Where that is on the dial; below 0 and above 100 it is not clipped. None: no range.
    free_picks : int
        Picks after the one that brought the last kind: where they are few, seeds vary little.
    pool : int
        Samples that could be picked: where it is near `size`, seeds have little to vary.
    eligible : int
        Samples that hold at least one kind.
    no_kind : int
        Samples that hold none and are never picked.
    evenness : float
        See `evenness`.
    """

    rows: Rows
    diversity: float
    fill: Fill
    seed: int
    kinds_total: int
    k_min: int
    k_max: int
    free_k_min: int
    free_k_max: int
    kinds_target: int
    kinds_covered: int
    coverage_bound: int
    random_kinds: float
    random_sd: float | None
    random_percent: float | None
    free_picks: int
    pool: int
    eligible: int
    no_kind: int
    evenness: float
    k_min_bound: int
    objective: float | None
    objective_bound: float | None

    @property
    def share_of_optimum(self) -> float:
        """The dial's upper end, at least this part of what any `size` eligible samples hold."""
        return floor(1e6 * self.k_max / max(1, self.coverage_bound)) / 1e6


def choose(
    source: Incidence | Peeling,
    size: int,
    diversity: float,
    *,
    fill: Fill = "draws",
    limits: Limits = FREE,
    seed: int = 0,
) -> Selection:
    """Pick `size` samples at `diversity` percent: `make_dial` and `choose_at` in one call.

    See those for arguments, errors and cost. To make several subsets of one incidence, peel it
    once; of one size too, make its dial once.
    """
    _check(fill, seed)
    dial = make_dial(source, size, limits=limits)
    return choose_at(dial, diversity, fill=fill, seed=seed)


def choose_at(dial: Dial, diversity: float, *, fill: Fill = "draws", seed: int = 0) -> Selection:
    """Pick the dial's size of samples at `diversity` percent.

    Parameters
    ----------
    dial : Dial
        Pools, range, size and cap.
    diversity : float
        Percent, 0 to 100.
    fill : "draws", "balance" or "uniform"
        How the picks are taken from the pool: kind-aware rounds (see `draw`), lazy greedy on
        Σ log(1 + c_j) (see `balance`), or uniformly at random. Draws and balance hold exactly the
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
    _check(fill, seed)
    place = dial.place(diversity)
    rows = _fill(dial, place, fill, seed)
    peeling, limits = dial.peeling, dial.limits
    held = count_kinds(*peeling.shape[:2], rows, peeling.n_kinds)
    objective = objective_bound = None
    if fill == "balance":
        objective = round(float(np.log1p(held).sum()), 6)
        objective_bound = balance_bound(
            *peeling.shape[:2], dial.candidates(place.step), dial.size, held, limits=limits
        )
    return Selection(
        rows=rows,
        diversity=diversity,
        fill=fill,
        seed=seed,
        kinds_total=peeling.kinds_total,
        k_min=dial.k_min,
        k_max=dial.k_max,
        free_k_min=dial.free_k_min,
        free_k_max=dial.free_k_max,
        kinds_target=place.target,
        kinds_covered=int(np.count_nonzero(held)),
        coverage_bound=dial.bound,
        random_kinds=dial.chance.mean,
        random_sd=dial.chance.sd,
        random_percent=dial.percent(dial.chance.mean),
        free_picks=_after_the_last_kind(*peeling.shape, rows),
        pool=int(peeling.pool_sizes[place.step]),
        eligible=peeling.eligible,
        no_kind=peeling.no_kind,
        evenness=evenness(held),
        k_min_bound=dial.k_min_bound,
        objective=objective,
        objective_bound=objective_bound,
    )


def evenness(held: Ints) -> float:
    """Return Pielou's evenness of the counts c_j: their entropy over its greatest possible value.

    H / log S with q_j = c_j / Σ c over the S kinds that occur; 1 when all are equal (and, by
    convention, when fewer than two occur), towards 0 when one has nearly all.
    """
    shares = held[held > 0] / held.sum()
    if len(shares) < 2:
        return 1.0
    return float(-(shares * np.log(shares)).sum() / np.log(len(shares)))


def _fill(dial: Dial, place: Place, fill: Fill, seed: int) -> Rows:
    """Return exactly `dial.size` rows of the place's pool: those kept, and others.

    The first of these ways that leads to just the kinds aimed at, within the limits: the fill alone
    (where all kinds of the pool are wanted), after a cover whose ties fall by the seed, after the
    cover by lowest row, as when the range was found, and the set that showed that the place exists.
    """
    shape, size, limits = dial.shape, dial.size, dial.limits
    rows = dial.candidates(place.step)
    if fill == "uniform":
        return _uniform(dial, place, rows, seed)
    order = shuffled(rows, seed, "balance" if fill == "balance" else "cover")

    def finished(first: Rows, stream: str) -> Rows | None:
        def filling(free: Rows, first: Rows) -> Rows:
            if fill == "balance":
                return balance(*shape, free, size, limits=limits, first=first)
            rng = generator(seed, "select", stream)
            return draw(*shape, free, size, rng, limits=limits, first=first)

        pool = order if fill == "balance" else rows
        return finish(
            *shape, pool, size, limits, first=first, fill=filling, target=place.target, seed=seed
        )

    picks = finished(limits.kept, "draws") if place.whole else None
    for ties in (order, rows):
        if picks is None:
            first = cover(*shape, ties, size, target=place.target, limits=limits).rows
            picks = finished(first, "draws after cover")
    return dial.reference(place) if picks is None else picks


def _uniform(dial: Dial, place: Place, rows: Rows, seed: int) -> Rows:
    """Return random rows within the limits; the reference where these cannot be kept so."""
    shape, size, limits = dial.shape, dial.size, dial.limits
    picks = capping.fit(*shape, shuffled(rows, seed, "uniform"), size, limits)
    if len(picks) < size:
        picks = capping.complete(*shape, rows, picks, size, limits)
    if limits.total is None:
        return picks
    picks = exchange(*shape, rows, picks, limits, seed)
    return picks if limits.total.met(picks) else dial.reference(place)


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


def _check(fill: str, seed: int) -> None:
    """Refuse a fill that does not exist and a seed that is none."""
    if fill not in get_args(Fill):
        raise UsageError(f"select: fill is {fill!r} but must be one of {', '.join(get_args(Fill))}")
    if seed < 0:
        raise UsageError(f"select: seed is {seed} but must be 0 or more")
