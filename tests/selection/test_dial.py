from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.selection.dial import PROBES, Dial
from sft_diversity.selection.peeling import peel
from sft_diversity.selection.problem import NO_CAP, PickLimits
from tests.selection.small import (
    best_coverage,
    covered,
    greedy_plainly,
    incidence,
    peel_plainly,
    random_rows,
    row_lists,
)

FIRST_ONLY = np.array([1.0, 0.0])


@given(row_lists(max_rows=12, max_kinds=9), st.integers(1, 6))
def test_both_ends_equal_a_scan_over_every_pool(drawn, size):
    rows, n_kinds = drawn
    pools = [sorted(pool) for pool, _ in peel_plainly(rows) if len(pool) >= size]
    if not pools:
        return
    reach = [covered(rows, greedy_plainly(rows, pool, size, FIRST_ONLY)) for pool in pools]
    dial = Dial(incidence(rows, n_kinds), size)
    assert len(pools) <= PROBES  # so that every pool is probed
    # a pool whose kinds N samples hold counts as held even where greedy misses one
    assert dial.k_min >= reach[-1]
    assert dial.k_max >= max(reach)
    assert dial.k_max <= best_coverage(rows, pools[0], size)
    if dial.k_max > max(reach):
        assert any(dial.k_max == covered(rows, pool) for pool in pools)


def test_small_n_goes_on_beyond_the_pools_that_it_covers_whole():
    # one sample holds ten kinds that no other does; of the rest any two cover their pool
    rows = [set(range(10, 20)), *({kind % 3} for kind in range(30))]
    dial = Dial(incidence(rows, 20), 2)
    assert (dial.k_min, dial.k_max) == (1, 11)
    assert dial.bound == 11
    assert not dial.place(100).whole


@pytest.mark.parametrize("size", [3, 20, 80])
def test_every_place_is_shown_by_a_set_that_holds_its_kinds_exactly(size):
    rows = random_rows(600, 300, seed=size)
    dial = Dial(incidence(rows, 300), size)
    targets = []
    for percent in range(101):
        place = dial.place(percent)
        picks = dial.reference(place).tolist()
        assert len(set(picks)) == size
        assert set(picks) <= set(dial.peeling.pool(place.step).tolist())
        assert covered(rows, picks) == place.target
        assert place.whole == (place.target == dial.kinds_of_steps[place.step])
        targets.append(place.target)
    assert targets == sorted(targets)
    assert (targets[0], targets[-1]) == (dial.k_min, dial.k_max)
    wanted = dial.k_min + np.arange(101) / 100 * (dial.k_max - dial.k_min)
    assert np.abs(targets - wanted).max() <= 0.02 * (dial.k_max - dial.k_min) + 1


def test_the_whole_eligible_pool_is_100_percent_where_n_samples_hold_all_kinds():
    # with all kinds one row covers everything; without kind 5, whose only row it is, it is gone
    rows = [{0, 1, 2, 3, 4, 5}, *({kind} for kind in range(5) for _ in range(3))]
    dial = Dial(incidence(rows, 6), 2)
    assert dial.k_max == 6
    assert dial.place(100).step == 0
    assert dial.peeling.pool_sizes[0] == len(rows)  # nothing dropped


def test_percent_gives_the_nearest_k_that_occurs():
    # kinds 0 to 4 with 1, 2, 4, 8, 16 samples of their own
    rows = [{kind} for kind in range(5) for _ in range(2**kind)]
    dial = Dial(incidence(rows, 5), 16)
    assert (dial.k_min, dial.k_max) == (1, 5)
    assert [dial.place(p).target for p in (0, 20, 50, 80, 100)] == [1, 2, 3, 4, 5]


def test_a_place_does_not_depend_on_what_was_asked_before():
    rows = random_rows(400, 200, seed=2)
    made = incidence(rows, 200)
    asked = Dial(made, 10)
    at = [asked.place(percent) for percent in range(0, 101, 4)]
    assert [Dial(made, 10).place(percent) for percent in range(100, -1, -4)] == at[::-1]


def test_a_peeling_serves_several_sizes():
    made = incidence([{i % 5} for i in range(30)], 5)
    peeling = peel(made)
    for size in (1, 6, 30):
        assert Dial(peeling, size).k_max == Dial(made, size).k_max
        assert Dial(peeling, size).k_min == Dial(made, size).k_min


@given(row_lists(max_rows=12, max_kinds=9), st.integers(0, 9))
def test_without_a_size_there_are_the_same_pools_and_no_range(drawn, k):
    held = incidence(*drawn)
    dial = Dial(held)
    if dial.peeling.eligible:
        assert dial.pool(k).tolist() == Dial(held, 1).pool(k).tolist()
    for ask in (lambda: dial.k_min, lambda: dial.k_max, lambda: dial.at(50)):
        with pytest.raises(UsageError, match="that of a size"):
            ask()


def test_more_than_the_eligible_samples_is_an_error_that_counts_them():
    with pytest.raises(DataError, match=r"size is 3 but only 2 of 4 samples hold a kind"):
        Dial(incidence([{0}, set(), {0}, set()], 1), 3)


@pytest.mark.parametrize(("size", "cap"), [(0, NO_CAP), (-1, NO_CAP), (1, 0)])
def test_sizes_and_caps_below_one_are_wrong_usage(size, cap):
    with pytest.raises(UsageError):
        Dial(incidence([{0}], 1), size, limits=PickLimits(cap=cap))


@pytest.mark.parametrize("diversity", [-1, 100.5, float("nan")])
def test_a_diversity_that_is_no_percentage_is_wrong_usage(diversity):
    with pytest.raises(UsageError, match="percentage"):
        Dial(incidence([{0}], 1), 1).place(diversity)


def test_a_cap_raises_the_low_end_until_the_pool_holds_enough():
    rows = [{0}] * 10 + [{1}] * 5 + [{2}] * 5
    dial = Dial(incidence(rows, 3), 8, limits=PickLimits(cap=4))
    assert dial.free_range[0] == 1
    assert dial.k_min == 2  # four of two kinds
    assert dial.k_max == dial.free_range[1] == 3


def test_under_a_cap_the_upper_end_is_what_a_capped_set_holds():
    # kinds 1 to 4 come with kind 0 alone: a cap of 2 on it leaves two of them
    rows = [{0, kind} for kind in range(1, 5)] + [{5}, {6}]
    dial = Dial(incidence(rows, 7), 4, limits=PickLimits(cap=2))
    best = max(
        covered(rows, picks)
        for picks in combinations(range(6), 4)
        if sum(0 in rows[i] for i in picks) <= 2
    )
    assert dial.k_max == best == 5


def test_100_percent_is_what_a_probe_gives_though_a_pool_between_gives_more():
    # with this seed that pool gives more than 300 kinds, and no set of it is found to hold just 300
    made = incidence(random_rows(3000, 900, seed=13), 900)
    dial = Dial(made, 120, limits=PickLimits(cap=1))
    targets = [dial.place(percent).target for percent in range(0, 101, 5)]
    assert (targets[0], targets[-1]) == (dial.k_min, dial.k_max)
    assert targets == sorted(targets)
