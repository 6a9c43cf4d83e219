from itertools import combinations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy

from sft_diversity.selection.entropy_greedy import entropy_bound, maximise_entropy
from tests.selection.small import incidence, random_rows, row_lists


def bits(made, rows):
    part = made.take(np.array(rows, np.int64))
    return float(entropy(np.bincount(part.indices, part.counts), base=2))


@given(row_lists(max_rows=8), st.integers(1, 4))
def test_no_subset_has_more_entropy_than_the_bound(drawn, size):
    rows, n_kinds = drawn
    made = incidence(rows, n_kinds)
    able = np.array([i for i, row in enumerate(rows) if row], np.int64)
    if len(able) < size:
        return
    greedy = maximise_entropy(made, able, size)
    bound = entropy_bound(made, able, size, greedy)
    best = max(bits(made, picks) for picks in combinations(able.tolist(), size))
    assert best <= bound + 1e-9


def test_the_bound_is_tight_where_there_is_much_to_pick_from():
    made = incidence(random_rows(3000, 100, seed=2), 100)
    able = np.flatnonzero(np.diff(made.indptr)).astype(np.int64)
    greedy = maximise_entropy(made, able, 200)
    bound = entropy_bound(made, able, 200, greedy)
    assert 0.98 * bound <= bits(made, greedy) <= bound
