import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sft_diversity.selection.cover import FIRST_ONLY
from sft_diversity.selection.greedy import greedy
from tests.selection.small import greedy_plainly, incidence, random_rows, row_lists

LOGS = np.log1p(1.0 / np.arange(1.0, 12.0))


def picks_of(rows, n_kinds, pool, size, steps):
    made = incidence(rows, n_kinds)
    held = np.zeros(n_kinds, np.int64)
    return greedy(made.indptr, made.indices, np.array(pool, np.int64), size, steps, held).tolist()


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
    made = incidence([{0, 1}, {2, 3}, {4}], 5)
    for most, picked in ((5, [0, 1, 2]), (4, [0, 1]), (3, [0]), (1, [])):
        held = np.zeros(5, np.int64)
        rows = np.arange(3)
        picks = greedy(made.indptr, made.indices, rows, 3, FIRST_ONLY, held, most=most)
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
    made = incidence(rows, n_kinds)
    held = np.zeros(n_kinds, np.int64)
    picks = greedy(
        made.indptr, made.indices, np.arange(n), size, LOGS, held, cap=cap, group=group,
        room=room.copy(),
    )  # fmt: skip
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
