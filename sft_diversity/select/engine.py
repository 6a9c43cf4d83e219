"""The selection engine: exactly N samples of an incidence at a chosen diversity."""

from __future__ import annotations

from dataclasses import dataclass
from math import floor
from typing import Literal, get_args

import numpy as np

from sft_diversity.core.errors import UsageError
from sft_diversity.core.incidence import Incidence
from sft_diversity.core.seeding import generator
from sft_diversity.select import capping
from sft_diversity.select.balance import balance
from sft_diversity.select.bound import balance_bound, coverage_bound
from sft_diversity.select.compiled import Ints, Rows
from sft_diversity.select.cover import cover
from sft_diversity.select.dial import Dial, make_dial
from sft_diversity.select.draws import draw
from sft_diversity.select.exchange import exchange
from sft_diversity.select.limits import FREE, Limits
from sft_diversity.select.peeling import Peeling
from sft_diversity.select.transpose import count_kinds

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
        Kinds of the pool: the k nearest to the dial that occurs.
    kinds_covered : int
        Kinds that the picks hold, at most `kinds_target`.
    coverage_bound : int
        No `size` samples of the pool hold more kinds than this.
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
    pool: int
    eligible: int
    no_kind: int
    evenness: float
    k_min_bound: int
    k_max_bound: int
    objective: float | None
    objective_bound: float | None

    @property
    def share_of_optimum(self) -> float:
        """Kinds covered, at least this part of what any `size` samples of the pool cover."""
        return floor(1e6 * self.kinds_covered / max(1, self.coverage_bound)) / 1e6


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
        Σ log(1 + c_j) (see `balance`), or uniformly at random. Draws and balance hold every kind
        of the pool where greedy cover can; uniform holds what it happens to hold.
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
    step = dial.step(diversity)
    candidates = dial.limits.candidates(dial.peeling.pool(step))
    rows = _fill(dial, candidates, int(dial.kinds[step]), fill, seed)
    return described(dial, diversity, rows, fill=fill, seed=seed)


def described(
    dial: Dial, diversity: float, rows: Rows, *, fill: Fill = "draws", seed: int = 0
) -> Selection:
    """Return what the picks `rows` reach at `diversity` percent of the dial, however made."""
    step = dial.step(diversity)
    peeling, limits = dial.peeling, dial.limits
    pool = peeling.pool(step)
    candidates = limits.candidates(pool)
    target = int(dial.kinds[step])
    held = count_kinds(peeling.indptr, peeling.indices, rows, peeling.n_kinds)
    covered = int(np.count_nonzero(held))
    bound = target
    if covered < target:
        bound = coverage_bound(*dial.shape, candidates, dial.size, limits=limits)
    objective = objective_bound = None
    if fill == "balance":
        objective = round(float(np.log1p(held).sum()), 6)
        objective_bound = balance_bound(
            peeling.indptr, peeling.indices, candidates, dial.size, held, limits=limits
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
        kinds_target=target,
        kinds_covered=covered,
        coverage_bound=bound,
        pool=len(pool),
        eligible=peeling.eligible,
        no_kind=peeling.no_kind,
        evenness=evenness(held),
        k_min_bound=dial.k_min_bound,
        k_max_bound=dial.k_max_bound,
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


def _fill(dial: Dial, rows: Rows, target: int, fill: Fill, seed: int) -> Rows:
    """Return exactly `dial.size` rows: those kept, and others of the candidates `rows`."""
    limits = dial.limits

    def in_order(stream: str) -> Rows:
        return generator(seed, "select", stream).permutation(rows)

    if fill == "draws":
        picks = draw(*dial.shape, rows, dial.size, seed, limits=limits)
    elif fill == "balance":
        order = in_order("balance")
        picks = balance(*dial.shape, order, dial.size, target=target, limits=limits)
    else:
        order = in_order("uniform")
        picks = capping.fit(*dial.shape, order, dial.size, limits)
    if len(picks) < dial.size:
        picks = capping.complete(*dial.shape, rows, picks, dial.size, limits)
    return picks if limits.total is None else _steered(dial, rows, picks, seed)


def _steered(dial: Dial, rows: Rows, picks: Rows, seed: int) -> Rows:
    """Return picks whose total length is within its range, by exchanges that lose no kind.

    Where too few picks are free to go, a cover takes the place of the fill, completed with the
    longest or shortest rows: so much is known to reach the range at k_max. Where the cover's own
    rows are in the way, as they can be near k_min, the rows kept alone are completed so, and kinds
    may be lost.
    """
    limits = dial.limits
    total = limits.total
    assert total is not None
    picks = exchange(*dial.shape, rows, picks, limits, seed)
    if total.least <= total.of(picks) <= total.most:
        return picks
    lacks = total.of(picks) < total.least
    order = generator(seed, "select", "steered").permutation(rows)
    order = order[
        np.argsort(np.asarray(total.lengths)[order] * (-1 if lacks else 1), kind="stable")
    ]
    covering = cover(*dial.shape, rows, dial.size, limits=limits).rows
    for first, lossless in ((covering, True), (limits.kept, False)):
        picks = capping.fit(*dial.shape, order, dial.size, limits, first)
        if len(picks) < dial.size:  # under a cap
            picks = capping.complete(*dial.shape, rows, picks, dial.size, limits)
        picks = exchange(*dial.shape, rows, picks, limits, seed, lossless=lossless)
        if total.least <= total.of(picks) <= total.most:
            break
    return picks


def _check(fill: str, seed: int) -> None:
    """Refuse a fill that does not exist and a seed that is none."""
    if fill not in get_args(Fill):
        raise UsageError(f"select: fill is {fill!r} but must be one of {', '.join(get_args(Fill))}")
    if seed < 0:
        raise UsageError(f"select: seed is {seed} but must be 0 or more")
