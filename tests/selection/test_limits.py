"""Constraints hold in every subset, and the range of the dial is that of brute force."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.selection.bounds import balance_bound, coverage_bound
from sft_diversity.selection.dial import Dial
from sft_diversity.selection.engine import choose_at
from sft_diversity.selection.peeling import peel
from sft_diversity.selection.problem import NO_CAP, PickLimits, Quotas, Total
from sft_diversity.selection.quotas import Factor, largest_remainder, make_quotas
from tests.selection.small import covered, incidence, problem, random_rows, row_lists

FILLS = ("draws", "balance", "uniform")


@st.composite
def limited(draw):
    """Draw rows with a partition, lengths, a size and limits on them, whether feasible or not."""
    rows, n_kinds = draw(row_lists(max_rows=9, min_rows=3))
    n = len(rows)
    group = np.array(draw(st.lists(st.integers(0, 1), min_size=n, max_size=n)), np.int32)
    lengths = np.array(draw(st.lists(st.integers(1, 9), min_size=n, max_size=n)))
    size = draw(st.integers(1, 5))
    kept = np.array(draw(st.lists(st.integers(0, n - 1), max_size=2, unique=True)), np.int64)
    first = draw(st.integers(0, size))
    quotas = draw(st.sampled_from([None, Quotas(group, np.array([first, size - first]))]))
    least = draw(st.integers(1, 30))
    total = draw(st.sampled_from([None, Total(lengths, least, least + draw(st.integers(0, 6)))]))
    cap = draw(st.sampled_from([NO_CAP, NO_CAP, 1, 2, 3]))
    return rows, n_kinds, size, PickLimits(cap, kept, quotas, total)


def feasible(rows, pool, size, limits):
    """Return every set of `size` rows of the pool and those kept that is within the limits."""
    sets = []
    kept = limits.kept.tolist()
    for more in combinations([i for i in pool if i not in kept], max(0, size - len(kept))):
        picks = np.array([*kept, *more], np.int64)
        if len(picks) != size:
            continue
        if limits.quotas is not None:
            number = np.bincount(limits.quotas.group[picks], minlength=2)
            if number.tolist() != limits.quotas.number.tolist():
                continue
        total = limits.total
        if total is None or total.least <= total.of(picks) <= total.most:
            sets.append(picks.tolist())
    return sets


@given(limited(), st.sampled_from((0, 33, 67, 100)), st.sampled_from(FILLS), st.integers(0, 3))
def test_constraints_are_never_broken_and_bounds_never_passed(drawn, level, fill, seed):
    rows, n_kinds, size, limits = drawn
    try:
        dial = Dial(incidence(rows, n_kinds), size, limits=limits)
    except DataError:
        every = [i for i in range(len(rows)) if rows[i]]
        spread = [len(s) for s in feasible(rows, every, size, limits)]
        # a total is looked for at its ends, and what fits under a cap by a greedy rule
        assert not spread or limits.total is not None or limits.cap < NO_CAP
        return
    except UsageError:
        held = np.bincount([k for i in limits.kept for k in rows[i]], minlength=n_kinds)
        assert len(limits.kept) > size or held.max() > limits.cap
        return
    chosen = choose_at(dial, level, fill=fill, seed=seed)
    picks = chosen.rows.tolist()
    place = dial.place(level)
    pool = dial.peeling.pool(place.step).tolist()
    assert len(set(picks)) == len(picks) == size
    assert picks[: len(limits.kept)] == limits.kept.tolist()
    assert set(picks[len(limits.kept) :]) <= set(pool)
    if limits.quotas is not None:
        number = np.bincount(limits.quotas.group[chosen.rows], minlength=2)
        assert number.tolist() == limits.quotas.number.tolist()
    held = np.bincount([k for i in picks for k in rows[i]], minlength=n_kinds)
    assert held.max() <= limits.cap
    assert chosen.kinds_covered == covered(rows, picks)
    if limits.total is not None:
        assert limits.total.met(chosen.rows)
    if fill != "uniform":
        assert chosen.kinds_covered == place.target
    every = [i for i in range(len(rows)) if rows[i]]
    free_of_total = PickLimits(kept=limits.kept, quotas=limits.quotas)
    best = max(covered(rows, s) for s in feasible(rows, every, size, free_of_total))
    fewest = min(covered(rows, s) for s in feasible(rows, every, size, free_of_total))
    assert dial.k_max <= best <= dial.bound
    assert chosen.share_of_optimum * dial.bound <= dial.k_max
    assert dial.k_min_bound <= fewest
    sets = feasible(rows, pool, size, free_of_total)
    if fill == "balance":
        values = []
        for s in sets:
            held = np.bincount([k for i in s for k in rows[i]], minlength=n_kinds)
            values.append(np.log1p(held).sum())
        reached, bound = chosen.objective
        assert reached <= max(values) + 1e-6
        assert max(values) <= bound + 1e-6


@given(limited())
def test_the_low_end_is_the_smallest_pool_that_serves_the_quotas(drawn):
    rows, n_kinds, size, limits = drawn
    limits = PickLimits(quotas=limits.quotas)
    try:
        dial = Dial(incidence(rows, n_kinds), size, limits=limits)
    except DataError:
        return
    steps = dial.low_step + 1
    serving = [
        s for s in range(steps) if feasible(rows, dial.peeling.pool(s).tolist(), size, limits)
    ]
    assert dial.low_step == max(serving)


@pytest.mark.parametrize("level", [0, 50, 100])
@pytest.mark.parametrize("fill", FILLS)
def test_a_total_is_met_on_a_pool_with_room(level, fill):
    rows = random_rows(3000, 200, seed=3)
    rng = np.random.default_rng(3)
    lengths = np.array([3 * len(row) for row in rows]) + rng.integers(1, 20, size=3000)
    target = int(lengths.mean() * 200)
    limits = PickLimits(total=Total(lengths, int(np.ceil(target * 0.9975)), int(target * 1.0025)))
    dial = Dial(incidence(rows, 200), 200, limits=limits)
    chosen = choose_at(dial, level, fill=fill, seed=1)
    assert abs(lengths[chosen.rows].sum() / target - 1) <= 0.0025
    if fill != "uniform":
        assert chosen.kinds_covered == chosen.place.target


def test_under_a_total_kinds_are_exact_and_never_fall():
    rows = random_rows(1500, 600, seed=5)
    lengths = np.array([3 * len(row) for row in rows]) + np.random.default_rng(5).integers(
        1, 20, 1500
    )
    target = int(lengths.mean() * 40)
    limits = PickLimits(total=Total(lengths, int(np.ceil(target * 0.9975)), int(target * 1.0025)))
    dial = Dial(incidence(rows, 600), 40, limits=limits)
    reached = [choose_at(dial, level, seed=2) for level in range(0, 101, 10)]
    kinds = [one.kinds_covered for one in reached]
    assert kinds == [one.place.target for one in reached] == sorted(kinds)
    assert (kinds[0], kinds[-1]) == (dial.k_min, dial.k_max)
    assert all(limits.total.met(one.rows) for one in reached)
    assert dial.k_max > dial.kinds_of_steps[dial.low_step]


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), min_size=6, max_size=60),
    st.lists(st.integers(1, 5), min_size=4, max_size=4),
    st.integers(1, 6),
    st.integers(0, 3),
)
def test_joined_quotas_hold_every_factor_exactly(cells, shares, size, n_kept):
    one, other = (np.array(column, np.int32) for column in zip(*cells, strict=True))
    factors = [
        Factor("one", "abcd", one, np.array(shares, np.float64)),
        Factor("other", "xyz", other, np.bincount(other, minlength=3).astype(np.float64)),
    ]
    try:
        quotas = make_quotas(factors, np.arange(len(cells)), size, np.arange(n_kept))
    except DataError:
        return
    rooms = quotas.number
    present = np.bincount(quotas.group, minlength=len(rooms))
    assert (rooms[:-1] <= present[:-1]).all()
    assert (quotas.room(np.arange(n_kept)) >= 0).all()
    for factor in factors:
        got = np.zeros(len(factor.shares), np.int64)
        for part in range(len(rooms) - 1):
            got[factor.group[np.flatnonzero(quotas.group == part)[0]]] += rooms[part]
        assert got.tolist() == factor.numbers(size).tolist()


@given(st.lists(st.integers(0, 9), min_size=1, max_size=8).filter(any), st.integers(0, 50))
def test_largest_remainder_is_within_one_of_the_exact_share(amounts, size):
    whole = largest_remainder(np.array(amounts, np.float64), size)
    exact = np.array(amounts) / sum(amounts) * size
    assert whole.sum() == size
    assert (np.abs(whole - exact) < 1 + 1e-9).all()


def test_bounds_hold_on_larger_incidences():
    rows = random_rows(400, 120, seed=9)
    for size in (3, 10, 40):
        greedy = choose_at(Dial(incidence(rows, 120), size), 100, fill="balance")
        reached, bound = greedy.objective
        assert reached >= (1 - 1 / np.e) * bound
        everyone = problem(rows, 120, size)
        assert greedy.kinds_covered <= coverage_bound(everyone)
        assert balance_bound(everyone, np.zeros(120, np.int64)) >= bound - 1e-9


@given(row_lists(max_rows=9, min_rows=2), st.data())
def test_a_peeling_under_quotas_serves_them_to_the_last_pool(drawn, data):
    rows, n_kinds = drawn
    n = len(rows)
    group = np.array(data.draw(st.lists(st.integers(0, 1), min_size=n, max_size=n)), np.int32)
    kept = np.array(data.draw(st.lists(st.integers(0, n - 1), max_size=2, unique=True)), np.int64)
    others = [i for i in range(n) if rows[i] and i not in kept]
    present = np.bincount(group[np.array(others, int)], minlength=2)
    taken = np.bincount(group[kept], minlength=2)
    wanted = [data.draw(st.integers(0, int(p))) for p in present]
    quotas = Quotas(group, np.array(wanted) + taken)
    peeling = peel(incidence(rows, n_kinds), quotas, kept)
    every = {i for i in range(n) if rows[i]}
    for step in range(len(peeling.kinds_after)):
        pool = set(peeling.pool(step).tolist())
        kinds = set(np.flatnonzero(peeling.kind_left > step).tolist())
        assert (len(kinds), len(pool)) == (peeling.kinds_after[step], peeling.pool_sizes[step])
        assert pool == {i for i in every if rows[i] <= kinds}  # all of a sample's kinds survive
        assert (quotas.left(kept, np.array(sorted(pool - set(kept.tolist())), int)) >= 0).all()
    # no kind that is left could have been dropped
    for kind in kinds:
        rest = [i for i in pool if kind not in rows[i] and i not in kept]
        assert (quotas.left(kept, np.array(rest, int)) < 0).any()
