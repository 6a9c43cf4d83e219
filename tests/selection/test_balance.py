import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sft_diversity.selection.balance import balance
from tests.selection.small import greedy_plainly, incidence, row_lists


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


def test_it_goes_on_from_picks_made_before():
    rows = [{0, 1, 2, 3}, {0, 1, 2, 3}, {0, 1}, {4}, {5}]
    made = incidence(rows, 6)
    first = np.array([3, 0])
    picks = balance(made.indptr, made.indices, 6, np.arange(5), 4, first=first)
    assert picks.tolist() == [3, 0, 1, 4]  # four at log 3/2 are worth more than one at log 2
