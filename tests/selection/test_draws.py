import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sft_diversity.selection.draws import draw_by_kind
from sft_diversity.selection.problem import FREE, PickLimits
from tests.selection.small import covered, problem, random_rows, row_lists


def drawn_from(rows, n_kinds, size, seed, first=None, limits=FREE):
    given = problem(rows, n_kinds, size, limits=limits)
    return draw_by_kind(given, np.random.default_rng(seed), first)


@given(row_lists(), st.integers(1, 9), st.integers(0, 5))
def test_exactly_n_distinct_rows_and_every_kind_where_each_can_have_a_row(drawn, size, seed):
    rows, n_kinds = drawn
    pool = np.array([i for i, row in enumerate(rows) if row], np.int64)
    size = min(size, len(pool))
    picks = drawn_from(rows, n_kinds, size, seed)
    assert len(picks) == len(set(picks.tolist()) & set(pool.tolist())) == size
    if size >= covered(rows, pool):
        assert covered(rows, picks) == covered(rows, pool)


def test_one_kind_per_sample_gives_equal_counts():
    rows = [{i % 4} for i in range(100)] + [{0}] * 50  # kind 0 is three times as common
    picks = drawn_from(rows, 4, 40, 1)
    assert np.bincount([next(iter(rows[i])) for i in picks]).tolist() == [10, 10, 10, 10]


def test_rarest_kinds_take_their_turn_first_and_exhausted_ones_are_passed_over():
    rows = [{0}, {1}, {1}, {2}, {2}, {2}, {2}]
    picks = drawn_from(rows, 3, 7, 2)
    assert [next(iter(rows[i])) for i in picks] == [0, 1, 2, 1, 2, 2, 2]


def test_a_kind_that_another_draw_brought_waits_for_the_next_round():
    # in turn: kind 0 (row 0), kind 1 (row 1, which holds kind 2 too), kind 2 waits, kind 3
    rows = [{0}, {1, 2}, {2}, {2}, *({3} for _ in range(4))]
    for seed in range(20):
        assert covered(rows, drawn_from(rows, 4, 3, seed)) == 4


def test_it_goes_on_from_picks_made_before():
    rows = [{0}, {0}, {1}, {1}]
    picks = drawn_from(rows, 2, 3, 0, first=np.array([1, 0])).tolist()
    assert picks[:2] == [1, 0]
    assert picks[2] in (2, 3)


def test_each_sample_of_a_kind_is_drawn_equally_often():
    first = [int(drawn_from([{0}] * 8, 1, 1, seed)[0]) for seed in range(800)]
    times = np.bincount(first, minlength=8)
    assert ((times - 100.0) ** 2 / 100.0).sum() < 24.3  # chi-square, 7 degrees, p = 0.001


def test_the_same_seed_gives_the_same_rows_and_a_smaller_size_a_prefix():
    rows = random_rows(200, 20, seed=5)
    one, same, other = (drawn_from(rows, 20, 100, seed).tolist() for seed in (7, 7, 8))
    assert one == same
    assert set(one) != set(other)
    assert drawn_from(rows, 20, 60, 7).tolist() == one[:60]


@given(row_lists(), st.integers(1, 3), st.integers(0, 3))
def test_a_cap_is_never_exceeded(drawn, cap, seed):
    rows, n_kinds = drawn
    pool = np.array([i for i, row in enumerate(rows) if row], np.int64)
    picks = drawn_from(rows, n_kinds, len(pool), seed, limits=PickLimits(cap=cap))
    held = np.bincount([kind for i in picks for kind in rows[i]], minlength=n_kinds)
    assert held.max(initial=0) <= cap
    assert len(set(picks.tolist())) == len(picks)
