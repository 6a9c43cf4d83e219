import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sft_diversity.select.balance import balance
from sft_diversity.select.cover import cover
from tests.select.small import covered, greedy_plainly, incidence, row_lists


@given(row_lists(), st.integers(1, 9))
def test_balance_is_plain_greedy_on_the_logarithms(drawn, size):
    rows, n_kinds = drawn
    made = incidence(rows, n_kinds)
    pool = [i for i, row in enumerate(rows) if row]
    size = min(size, len(pool))
    steps = np.log1p(1.0 / np.arange(1.0, size + 2.0))
    picks = balance(made.indptr, made.indices, n_kinds, np.array(pool, np.int64), size)
    assert picks.tolist() == greedy_plainly(rows, pool, size, steps)
    assert len(picks) == size


def test_where_balance_leaves_out_a_kind_that_cover_reaches_the_cover_comes_first():
    # two long rows overlap and are worth most, but {4}, {5} need a pick each
    rows = [{0, 1, 2, 3}, {0, 1, 2, 3}, {0, 1, 2, 3}, {4}, {5}]
    made = incidence(rows, 6)
    arguments = (made.indptr, made.indices, 6, np.arange(5), 3)
    assert covered(rows, balance(*arguments)) < 6
    picks = balance(*arguments, target=6)
    assert sorted(picks) == [0, 3, 4]


@given(row_lists(), st.integers(1, 9))
def test_every_kind_is_held_wherever_cover_holds_it(drawn, size):
    rows, n_kinds = drawn
    made = incidence(rows, n_kinds)
    pool = np.array([i for i, row in enumerate(rows) if row], np.int64)
    size = min(size, len(pool))
    target = covered(rows, pool)
    picks = balance(made.indptr, made.indices, n_kinds, pool, size, target=target)
    assert len(set(picks.tolist())) == size
    if cover(made.indptr, made.indices, n_kinds, pool, size).covered == target:
        assert covered(rows, picks) == target
