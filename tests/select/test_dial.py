import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.select.compiled import NO_CAP
from sft_diversity.select.dial import WINDOW, largest_reached, make_dial
from sft_diversity.select.limits import Limits
from sft_diversity.select.peeling import peel
from tests.select.small import covered, greedy_plainly, incidence, peel_plainly, row_lists

FIRST_ONLY = np.array([1.0, 0.0])


@given(row_lists(max_rows=12, max_kinds=9), st.integers(1, 6))
def test_both_ends_equal_a_scan_over_every_k(drawn, size):
    rows, n_kinds = drawn
    steps = peel_plainly(rows)
    if len(steps[0][0]) < size:
        return
    held = [(len(kinds), sorted(pool)) for pool, kinds in steps if len(pool) >= size]
    reached = [
        k for k, pool in held if covered(rows, greedy_plainly(rows, pool, size, FIRST_ONLY)) == k
    ]
    dial = make_dial(incidence(rows, n_kinds), size)
    assert dial.k_min == held[-1][0]
    assert dial.k_max == max(reached, default=dial.k_min)


@given(st.sets(st.integers(0, 3 * WINDOW)), st.integers(0, 3 * WINDOW))
def test_what_is_found_is_reached_and_the_window_above_it_is_not(reached, low):
    best = largest_reached(lambda step: step in reached, low)
    assert best in reached or best == low
    assert not any(step in reached for step in range(max(0, best - WINDOW), best))


def test_a_cover_that_exists_only_for_a_larger_pool_is_found():
    # with all kinds one row covers everything; without kind 5, whose only row it is, it is gone
    rows = [{0, 1, 2, 3, 4, 5}, *({kind} for kind in range(5) for _ in range(3))]
    dial = make_dial(incidence(rows, 6), 2)
    assert dial.k_max == 6
    assert dial.step(100) == 0
    assert dial.peeling.pool_sizes[0] == len(rows)  # nothing dropped: the whole eligible pool


def test_percent_gives_the_nearest_k_that_occurs():
    # kinds 0 to 4 with 1, 2, 4, 8, 16 samples of their own
    rows = [{kind} for kind in range(5) for _ in range(2**kind)]
    dial = make_dial(incidence(rows, 5), 16)
    assert (dial.k_min, dial.k_max) == (1, 5)
    k = dial.peeling.kinds_after
    assert [int(k[dial.step(p)]) for p in (0, 20, 50, 80, 100)] == [1, 2, 3, 4, 5]


def test_a_peeling_serves_several_sizes():
    made = incidence([{i % 5} for i in range(30)], 5)
    peeling = peel(made)
    for size in (1, 6, 30):
        assert make_dial(peeling, size).k_max == make_dial(made, size).k_max
        assert make_dial(peeling, size).k_min == make_dial(made, size).k_min


def test_more_than_the_eligible_samples_is_an_error_that_counts_them():
    with pytest.raises(DataError, match=r"size is 3 but only 2 of 4 samples hold a kind"):
        make_dial(incidence([{0}, set(), {0}, set()], 1), 3)


@pytest.mark.parametrize(("size", "cap"), [(0, NO_CAP), (-1, NO_CAP), (1, 0)])
def test_sizes_and_caps_below_one_are_wrong_usage(size, cap):
    with pytest.raises(UsageError):
        make_dial(incidence([{0}], 1), size, limits=Limits(cap=cap))


@pytest.mark.parametrize("diversity", [-1, 100.5, float("nan")])
def test_a_diversity_that_is_no_percentage_is_wrong_usage(diversity):
    with pytest.raises(UsageError, match="percentage"):
        make_dial(incidence([{0}], 1), 1).step(diversity)


def test_a_cap_raises_the_low_end_until_the_pool_holds_enough():
    rows = [{0}] * 10 + [{1}] * 5 + [{2}] * 5
    dial = make_dial(incidence(rows, 3), 8, limits=Limits(cap=4))
    assert dial.free_k_min == 1
    assert dial.k_min == 2  # four of two kinds
    assert dial.k_max == dial.free_k_max == 3
