import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sft_diversity.select.cover import cover
from sft_diversity.select.draws import draw
from sft_diversity.select.limits import Limits
from tests.select.small import covered, incidence, random_rows, row_lists


@given(row_lists(), st.integers(1, 9), st.integers(0, 5))
def test_exactly_n_distinct_rows_that_hold_every_kind_where_cover_can(drawn, size, seed):
    rows, n_kinds = drawn
    made = incidence(rows, n_kinds)
    pool = np.array([i for i, row in enumerate(rows) if row], np.int64)
    size = min(size, len(pool))
    picks = draw(made.indptr, made.indices, n_kinds, pool, size, seed)
    assert len(picks) == len(set(picks.tolist()) & set(pool.tolist())) == size
    reach = cover(made.indptr, made.indices, n_kinds, pool, size).covered
    if reach == covered(rows, pool):
        assert covered(rows, picks) == reach


def test_one_kind_per_sample_gives_equal_counts():
    rows = [{i % 4} for i in range(100)] + [{0}] * 50  # kind 0 is three times as common
    made = incidence(rows, 4)
    picks = draw(made.indptr, made.indices, 4, np.arange(150), 40, seed=1)
    assert np.bincount([next(iter(rows[i])) for i in picks]).tolist() == [10, 10, 10, 10]


def test_rarest_kinds_take_their_turn_first_and_exhausted_ones_are_passed_over():
    rows = [{0}, {1}, {1}, {2}, {2}, {2}, {2}]
    made = incidence(rows, 3)
    picks = draw(made.indptr, made.indices, 3, np.arange(7), 7, seed=2)
    assert [next(iter(rows[i])) for i in picks] == [0, 1, 2, 1, 2, 2, 2]


def test_the_cover_takes_over_where_random_draws_need_too_many():
    # rows 0 and 1 hold all four kinds; any draw of a single first needs more than two rows
    rows = [{0, 1}, {2, 3}, *({kind} for kind in range(4) for _ in range(30))]
    made = incidence(rows, 4)
    for seed in range(5):
        picks = draw(made.indptr, made.indices, 4, np.arange(len(rows)), 2, seed)
        assert sorted(picks) == [0, 1]


def test_where_nothing_reaches_every_kind_the_picks_are_a_greedy_cover():
    rows = [{kind} for kind in range(6) for _ in range(3)] + [{0, 1}]
    made = incidence(rows, 6)
    picks = draw(made.indptr, made.indices, 6, np.arange(len(rows)), 3, seed=0)
    assert covered(rows, picks) == 4


def test_each_sample_of_a_kind_is_drawn_equally_often():
    made = incidence([{0}] * 8, 1)
    first = [
        int(draw(made.indptr, made.indices, 1, np.arange(8), 1, seed)[0]) for seed in range(800)
    ]
    times = np.bincount(first, minlength=8)
    assert ((times - 100.0) ** 2 / 100.0).sum() < 24.3  # chi-square, 7 degrees, p = 0.001


def test_the_same_seed_gives_the_same_rows_and_a_smaller_size_a_prefix():
    rows = random_rows(200, 20, seed=5)
    made = incidence(rows, 20)
    pool = np.flatnonzero(np.diff(made.indptr))
    one, same, other = (
        draw(made.indptr, made.indices, 20, pool, 100, seed).tolist() for seed in (7, 7, 8)
    )
    assert one == same
    assert set(one) != set(other)
    assert draw(made.indptr, made.indices, 20, pool, 60, 7).tolist() == one[:60]


@given(row_lists(), st.integers(1, 3), st.integers(0, 3))
def test_a_cap_is_never_exceeded(drawn, cap, seed):
    rows, n_kinds = drawn
    made = incidence(rows, n_kinds)
    pool = np.array([i for i, row in enumerate(rows) if row], np.int64)
    picks = draw(made.indptr, made.indices, n_kinds, pool, len(pool), seed, limits=Limits(cap=cap))
    held = np.bincount([kind for i in picks for kind in rows[i]], minlength=n_kinds)
    assert held.max(initial=0) <= cap
    assert len(set(picks.tolist())) == len(picks)
