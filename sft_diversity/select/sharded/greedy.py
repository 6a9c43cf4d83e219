"""Two-round distributed greedy: shards pick on their own, then one machine picks from the picks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import numpy as np

from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.core.seeding import generator
from sft_diversity.select.bound import row_sums
from sft_diversity.select.compiled import Floats, Ints, Rows
from sft_diversity.select.cover import FIRST_ONLY
from sft_diversity.select.greedy import greedy
from sft_diversity.select.sharded.shards import Shard, each, gather
from sft_diversity.select.transpose import count_kinds

Objective = Literal["coverage", "balance"]
OBJECTIVES: tuple[Objective, ...] = get_args(Objective)
SHARE = 2.0
CANDIDATES = 1_000_000  # that the second round takes in any case


@dataclass(frozen=True)
class Distributed:
    """A subset from all shards, and what it reached.

    Attributes
    ----------
    rows : int64 array, shape (size,)
        Distinct rows of the whole, in pick order.
    held : int64 array, shape (n_kinds,)
        c_j, how many of `rows` hold kind j.
    value : float
        Σ F(c_j): kinds held (coverage) or Σ log(1 + c_j) (balance).
    candidates : int
        Rows that the second round chose from: what travels between machines.
    """

    rows: Rows
    held: Ints
    value: float
    candidates: int


def distributed_greedy(
    shards: Sequence[Shard],
    pools: Sequence[Rows],
    n_kinds: int,
    size: int,
    objective: Objective = "balance",
    *,
    share: float | None = None,
    seed: int = 0,
    workers: int = 1,
) -> Distributed:
    """Pick `size` rows of all shards: greedily within each, then greedily among those picks.

    Parameters
    ----------
    shards : Shard sequence
        Parts of the pool, drawn at random (see `split`).
    pools : int64 arrays, one a shard
        Rows of the shard that may be picked; each holds a kind. `Shard.eligible()` for all.
    n_kinds : int
    size : int
        N.
    objective : "coverage" or "balance"
        Kinds held, or Σ log(1 + c_j).
    share : float, at least 1, optional
        A shard gives up to `share` · N / shards of its rows, but no more than N. The number of
        shards is the published algorithm, in which each gives N; so is the default, unless all
        shards together would then give more than `CANDIDATES` and more than `SHARE` · N.
    seed : int
        Breaks ties, within shards and among candidates.
    workers : int
        Shards worked on at a time; the result is the same for any number.

    Returns
    -------
    Distributed

    Raises
    ------
    UsageError
        If `size` is below 1, `share` below 1, or the objective unknown.
    DataError
        If the pools hold fewer than `size` rows.

    Notes
    -----
    GreeDi (Mirzasoleiman, Karbasi, Sarkar, Krause 2013, arXiv:1411.0541): if every shard gives N
    rows and the better of the second round and the best shard is taken, as here, the value is in
    expectation at least (1 - 1/e) / 2 of the best for random parts (Barbosa, Ene, Nguyen, Ward
    2015, arXiv:1502.02606). A smaller `share` has no such bound: see docs/scale.md for the loss
    measured, and `upper_bound` for what a result is worth at least. Where greedy has nothing left
    to gain, candidates in their order fill up to `size`, then the other rows of the pools.

    A worker needs its shard and some 50 bytes a row; the second round the kinds of all candidates.
    """
    _check(pools, size, objective, share)
    steps = steps_of(objective, size)
    most = most_of(size, len(shards), share)
    within = partial(_within, shards, pools, n_kinds, most, steps, seed)
    given = each(within, range(len(shards)), workers)
    return second_round(shards, pools, given, n_kinds, size, objective, seed=seed)


def most_of(size: int, shards: int, share: float | None = None) -> int:
    """Return how many rows each of `shards` shards gives at most."""
    total = max(SHARE * size, CANDIDATES) if share is None else share * size
    return min(size, math.ceil(total / shards))


def first_round(
    shard: Shard, pool: Rows, n_kinds: int, most: int, steps: Floats, seed: int, number: int
) -> Rows:
    """Return the rows that shard `number` (from 0) gives: its own greedy picks, in pick order."""
    order = generator(seed, "select", "distributed", number).permutation(pool)
    held = np.zeros(n_kinds, np.int64)
    return greedy(shard.indptr, shard.indices, order, most, steps, held)


def second_round(
    shards: Sequence[Shard],
    pools: Sequence[Rows],
    given: Sequence[Rows],
    n_kinds: int,
    size: int,
    objective: Objective = "balance",
    *,
    seed: int = 0,
) -> Distributed:
    """Pick `size` rows among those `given` by the shards; see `distributed_greedy`."""
    steps = steps_of(objective, size)
    numbers = _numbers(shards, given)
    indptr, indices = gather(shards, given)
    held = np.zeros(n_kinds, np.int64)
    order = generator(seed, "select", "distributed").permutation(len(numbers))
    picks = numbers[greedy(indptr, indices, order, size, steps, held)]
    value = value_of(held, steps)
    for shard, rows in zip(shards, given, strict=True):
        alone = count_kinds(shard.indptr, shard.indices, rows, n_kinds)
        if value_of(alone, steps) > value:
            picks, held, value = shard.first + rows, alone, value_of(alone, steps)
    if len(picks) < size:
        picks = _filled(picks, [numbers, _numbers(shards, pools)], size)
        held = _held(shards, picks, n_kinds)
    return Distributed(picks, held, value_of(held, steps), len(numbers))


def upper_bound(
    shards: Sequence[Shard],
    pools: Sequence[Rows],
    held: Ints,
    size: int,
    objective: Objective = "balance",
    *,
    workers: int = 1,
) -> float:
    """Return a value that no `size` rows of the pools exceed.

    `held` are the c_j of any subset, a good one for a tight bound. F is concave and lies below its
    tangent at c_j; the tangents' sum is greatest for the rows with the greatest sum of slopes (see
    `balance_bound`; for coverage this is f(S) plus the largest remaining gains). One pass over
    each shard.
    """
    steps = steps_of(objective, size)
    slopes: Floats = np.reciprocal(1.0 + held, dtype=np.float64)
    if objective == "coverage":
        slopes = steps[np.minimum(held, len(steps) - 1)]
    worth = each(partial(_most_worth, shards, pools, slopes, size), range(len(shards)), workers)
    every = np.concatenate(worth)
    top = np.partition(every, len(every) - min(size, len(every)))[-size:]
    return value_of(held, steps) - float((slopes * held).sum()) + float(top.sum())


def steps_of(objective: Objective, size: int) -> Floats:
    """Return F(c + 1) - F(c) for c = 0 … size."""
    if objective == "coverage":
        return FIRST_ONLY
    return np.log1p(1.0 / np.arange(1.0, size + 2.0))


def value_of(held: Ints, steps: Floats) -> float:
    """Return Σ_j F(c_j)."""
    total = np.concatenate([[0.0], np.cumsum(steps)])
    return float(total[np.minimum(held, len(steps))].sum())


def _within(
    shards: Sequence[Shard],
    pools: Sequence[Rows],
    n_kinds: int,
    most: int,
    steps: Floats,
    seed: int,
    number: int,
) -> Rows:
    return first_round(shards[number], pools[number], n_kinds, most, steps, seed, number)


def _most_worth(
    shards: Sequence[Shard], pools: Sequence[Rows], slopes: Floats, size: int, number: int
) -> Floats:
    """Return the `size` largest sums of slopes of a shard's rows, in any order."""
    shard, rows = shards[number], pools[number]
    worth = np.empty(len(rows))
    row_sums(shard.indptr, shard.indices, rows, slopes, worth)
    return np.partition(worth, len(worth) - size)[-size:] if len(worth) > size else worth


def _numbers(shards: Sequence[Shard], rows: Sequence[Rows]) -> Rows:
    """Return rows of shards by their numbers in the whole."""
    return np.concatenate([s.first + r for s, r in zip(shards, rows, strict=True)])


def _filled(picks: Rows, more: Sequence[Rows], size: int) -> Rows:
    """Return `picks` brought to `size` with the first rows of `more` that are not yet in."""
    for rows in more:
        new = rows[~np.isin(rows, picks)]
        picks = np.concatenate([picks, new[: size - len(picks)]])
    return picks


def _held(shards: Sequence[Shard], picks: Rows, n_kinds: int) -> Ints:
    """Return c_j of rows of the whole."""
    held = np.zeros(n_kinds, np.int64)
    for shard in shards:
        inside = picks[(picks >= shard.first) & (picks < shard.first + shard.n_samples)]
        held += count_kinds(shard.indptr, shard.indices, inside - shard.first, n_kinds)
    return held


def _check(pools: Sequence[Rows], size: int, objective: str, share: float | None) -> None:
    """Refuse what cannot be picked."""
    if objective not in get_args(Objective):
        raise UsageError(
            f"select: objective is {objective!r} but must be one of "
            f"{', '.join(get_args(Objective))}"
        )
    if size < 1:
        raise UsageError(f"select: size is {size:,} but a subset has at least 1 sample")
    if share is not None and share < 1:
        raise UsageError(f"select: share is {share:g} but must be at least 1")
    held = sum(map(len, pools))
    if size > held:
        raise DataError(
            f"select: size is {size:,} but the pools of {len(pools):,} shards hold {held:,} "
            "samples; lower the size or take a larger pool"
        )
