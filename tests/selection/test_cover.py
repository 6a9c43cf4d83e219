import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sft_diversity.selection.bound import coverage_bound
from sft_diversity.selection.cover import cover
from sft_diversity.selection.limits import Limits
from tests.selection.small import best_coverage, covered, incidence, random_rows, row_lists


@given(row_lists(), st.integers(1, 5))
def test_coverage_lies_between_the_greedy_guarantee_and_the_bound(drawn, size):
    rows, n_kinds = drawn
    made = incidence(rows, n_kinds)
    pool = np.array([i for i, row in enumerate(rows) if row], np.int64)
    if len(pool) == 0:
        return
    size = min(size, len(pool))
    found = cover(made.indptr, made.indices, n_kinds, pool, size)
    best = best_coverage(rows, pool.tolist(), size)
    bound = coverage_bound(made.indptr, made.indices, n_kinds, pool, size)
    assert found.covered == covered(rows, found.rows.tolist())
    assert (1 - 1 / math.e) * best <= found.covered <= best <= bound <= covered(rows, pool)


def test_the_bound_explains_what_no_set_can_cover():
    # each row holds two kinds of its own: five rows hold ten of twenty
    rows = [{2 * i, 2 * i + 1} for i in range(10)]
    made = incidence(rows, 20)
    assert coverage_bound(made.indptr, made.indices, 20, np.arange(10), 5) == 10


def test_the_bound_is_close_on_a_larger_incidence():
    rows = random_rows(300, 150, seed=4)
    made = incidence(rows, 150)
    pool = np.flatnonzero(np.diff(made.indptr))
    found = cover(made.indptr, made.indices, 150, pool, 20)
    bound = coverage_bound(made.indptr, made.indices, 150, pool, 20)
    assert found.covered <= bound <= 1.1 * found.covered


def test_a_cover_ends_when_nothing_is_left_to_gain():
    made = incidence([{0, 1, 2}, {0}, {1}], 3)
    found = cover(made.indptr, made.indices, 3, np.arange(3), 3)
    assert found.rows.tolist() == [0]
    assert found.held.tolist() == [1, 1, 1]


def test_ties_fall_by_the_order_given():
    made = incidence([{0}, {1}, {2}], 3)
    found = cover(made.indptr, made.indices, 3, np.array([2, 0, 1]), 2)
    assert found.rows.tolist() == [2, 0]


@given(row_lists(), st.integers(1, 9), st.integers(0, 7))
def test_a_target_is_never_passed_and_met_where_single_rows_can_close_the_rest(drawn, size, target):
    rows, n_kinds = drawn
    made = incidence(rows, n_kinds)
    found = cover(made.indptr, made.indices, n_kinds, np.arange(len(rows)), size, target=target)
    picks = found.rows.tolist()
    assert len(set(picks)) == len(picks) <= size
    assert found.covered == covered(rows, picks) <= target
    if found.covered < target and len(picks) < size:
        held = set().union(*(rows[i] for i in picks))
        gains = {len(row - held) for row in rows}
        assert not gains & set(range(1, target - found.covered + 1))


def test_a_target_is_closed_by_the_largest_gain_that_fits():
    made = incidence([{0, 1, 2, 3}, {4, 5, 6}, {4}, {4, 5}, {7}], 8)
    found = cover(made.indptr, made.indices, 8, np.arange(5), 4, target=6)
    assert found.rows.tolist() == [0, 3]


@given(row_lists(), st.integers(1, 3))
def test_a_cap_is_never_exceeded(drawn, cap):
    rows, n_kinds = drawn
    made = incidence(rows, n_kinds)
    found = cover(
        made.indptr, made.indices, n_kinds, np.arange(len(rows)), len(rows), limits=Limits(cap=cap)
    )
    assert found.held.max(initial=0) <= cap


def test_prices_tighten_the_bound_beyond_the_best_remaining_gains():
    rows = random_rows(400, 300, seed=9)
    made = incidence(rows, 300)
    pool = np.flatnonzero(np.diff(made.indptr))
    found = cover(made.indptr, made.indices, 300, pool, 40)
    left = sorted((sum(found.held[kind] == 0 for kind in row) for row in rows), reverse=True)
    bound = coverage_bound(made.indptr, made.indices, 300, pool, 40)
    assert found.covered <= bound < found.covered + sum(left[:40])
