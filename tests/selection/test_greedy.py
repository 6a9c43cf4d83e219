import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sft_diversity.selection.bounds import coverage_bound
from sft_diversity.selection.greedy import FIRST_ONLY, balance, cover, greedy
from sft_diversity.selection.problem import PickLimits, Quotas
from tests.selection.small import (
    best_coverage,
    covered,
    greedy_plainly,
    problem,
    random_rows,
    row_lists,
)

LOGS = np.log1p(1.0 / np.arange(1.0, 12.0))


def picks_of(rows, n_kinds, pool, size, steps):
    given = problem(rows, n_kinds, size, pool)
    return greedy(given.state(), given.rows, size, steps).tolist()


@given(row_lists(), st.integers(1, 9), st.randoms(use_true_random=False))
def test_lazy_picks_equal_plain_picks_one_by_one(drawn, size, random):
    rows, n_kinds = drawn
    pool = list(range(len(rows)))
    random.shuffle(pool)  # the order is the tie-break
    for steps in (FIRST_ONLY, LOGS):
        assert picks_of(rows, n_kinds, pool, size, steps) == greedy_plainly(rows, pool, size, steps)


def test_lazy_picks_equal_plain_picks_on_a_larger_incidence():
    rows = random_rows(150, 60, seed=3)
    pool = list(range(150))
    for steps in (FIRST_ONLY, LOGS):
        assert picks_of(rows, 60, pool, 60, steps) == greedy_plainly(rows, pool, 60, steps)


@given(row_lists(), st.integers(1, 9))
def test_a_smaller_size_is_a_prefix(drawn, size):
    rows, n_kinds = drawn
    pool = list(range(len(rows)))
    whole = picks_of(rows, n_kinds, pool, len(rows), LOGS)
    assert picks_of(rows, n_kinds, pool, size, LOGS) == whole[:size]


def test_no_pool_gives_no_picks():
    assert picks_of([{0}], 1, [], 3, LOGS) == []


def test_it_stops_before_the_sum_of_gains_would_pass_what_is_allowed():
    given = problem([{0, 1}, {2, 3}, {4}], 5, 3)
    for most, picked in ((5, [0, 1, 2]), (4, [0, 1]), (3, [0]), (1, [])):
        picks = greedy(given.state(), given.rows, 3, FIRST_ONLY, most=most)
        assert picks.tolist() == picked


@given(row_lists(max_rows=14, max_kinds=4), st.integers(1, 9), st.data())
def test_under_quotas_and_a_cap_picks_equal_plain_picks_among_rows_of_one_kind_too(
    drawn, size, data
):
    rows, n_kinds = drawn
    n = len(rows)
    group = np.array(data.draw(st.lists(st.integers(0, 1), min_size=n, max_size=n)), np.int32)
    room = np.array(data.draw(st.tuples(st.integers(0, 5), st.integers(0, 5))))
    cap = data.draw(st.integers(1, 4))
    limits = PickLimits(cap=cap, quotas=Quotas(group, room))
    given = problem(rows, n_kinds, size, range(n), limits)
    picks = greedy(given.state(), given.rows, size, LOGS)
    plain, counts, left = [], np.zeros(n_kinds, np.int64), room.copy()
    while len(plain) < size:
        gains = {
            i: sum(LOGS[counts[kind]] for kind in sorted(rows[i]))
            for i in range(n)
            if i not in plain and left[group[i]] > 0 and all(counts[k] < cap for k in rows[i])
        }
        if not gains or max(gains.values()) <= 0:
            break
        best = max(gains, key=lambda i: (gains[i], -i))
        plain.append(best)
        left[group[best]] -= 1
        counts[sorted(rows[best])] += 1
    assert picks.tolist() == plain


@given(row_lists(), st.integers(1, 5))
def test_coverage_lies_between_the_greedy_guarantee_and_the_bound(drawn, size):
    rows, n_kinds = drawn
    pool = [i for i, row in enumerate(rows) if row]
    if len(pool) == 0:
        return
    given = problem(rows, n_kinds, min(size, len(pool)))
    found = covered(rows, cover(given))
    best, bound = best_coverage(rows, pool, given.size), coverage_bound(given)
    assert (1 - 1 / math.e) * best <= found <= best <= bound <= covered(rows, pool)


def test_a_cover_ends_when_nothing_is_left_to_gain():
    assert cover(problem([{0, 1, 2}, {0}, {1}], 3, 3)).tolist() == [0]


def test_ties_fall_by_the_order_given():
    assert cover(problem([{0}, {1}, {2}], 3, 2, [2, 0, 1])).tolist() == [2, 0]


@given(row_lists(), st.integers(1, 9), st.integers(0, 7))
def test_a_target_is_never_passed_and_met_where_single_rows_can_close_the_rest(drawn, size, target):
    rows, n_kinds = drawn
    picks = cover(problem(rows, n_kinds, size, range(len(rows))), target=target).tolist()
    found = covered(rows, picks)
    assert len(set(picks)) == len(picks) <= size
    assert found <= target
    if found < target and len(picks) < size:
        held = set().union(*(rows[i] for i in picks))
        gains = {len(row - held) for row in rows}
        assert not gains & set(range(1, target - found + 1))


def test_a_target_is_closed_by_the_largest_gain_that_fits():
    rows = [{0, 1, 2, 3}, {4, 5, 6}, {4}, {4, 5}, {7}]
    assert cover(problem(rows, 8, 4), target=6).tolist() == [0, 3]


@given(row_lists(), st.integers(1, 3))
def test_a_cover_never_exceeds_a_cap(drawn, cap):
    rows, n_kinds = drawn
    given = problem(rows, n_kinds, len(rows), range(len(rows)), PickLimits(cap=cap))
    assert given.held(cover(given)).max(initial=0) <= cap


@given(row_lists(), st.integers(1, 9))
def test_balance_is_plain_greedy_on_the_logarithms(drawn, size):
    rows, n_kinds = drawn
    pool = [i for i, row in enumerate(rows) if row]
    size = min(size, len(pool))
    steps = np.log1p(1.0 / np.arange(1.0, size + 2.0))
    picks = balance(problem(rows, n_kinds, size))
    assert picks.tolist() == greedy_plainly(rows, pool, size, steps)
    assert len(picks) == size


def test_balance_goes_on_from_picks_made_before():
    rows = [{0, 1, 2, 3}, {0, 1, 2, 3}, {0, 1}, {4}, {5}]
    picks = balance(problem(rows, 6, 4), np.array([3, 0]))
    assert picks.tolist() == [3, 0, 1, 4]  # four at log 3/2 are worth more than one at log 2
