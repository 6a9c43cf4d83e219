import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft_diversity.core.errors import DataError
from sft_diversity.selection.dial import Dial
from sft_diversity.selection.fit import complete_capped, fits, smallest_cap
from sft_diversity.selection.problem import PickLimits
from tests.selection.small import incidence, problem, row_lists


@given(row_lists(min_rows=2), st.integers(1, 6))
def test_the_named_cap_is_feasible_and_every_smaller_one_is_not(drawn, size):
    rows, n_kinds = drawn
    caps = [PickLimits(cap=cap) for cap in range(1, size + 1)]
    capped = [problem(rows, n_kinds, size, limits=limits) for limits in caps]
    if len(capped[0].rows) < size or fits(capped[0]):
        return
    assert smallest_cap(capped[0]) == min(one.limits.cap for one in capped if fits(one))


def test_an_infeasible_cap_is_an_error_that_names_the_smallest_feasible_one():
    rows = [{0}] * 9 + [{1}] * 2
    with pytest.raises(DataError, match=r"smallest feasible max per kind is 6,"):
        Dial(incidence(rows, 2), 8, limits=PickLimits(cap=1))


@given(row_lists(), st.integers(1, 4), st.integers(1, 9), st.randoms(use_true_random=False))
def test_completing_gives_exactly_n_within_the_cap_and_keeps_a_prefix(drawn, cap, size, random):
    rows, n_kinds = drawn
    pool = [i for i, row in enumerate(rows) if row]
    given = problem(rows, n_kinds, size, limits=PickLimits(cap=cap))
    if len(pool) < size or not fits(given):
        return
    stuck: list[int] = []
    held = np.zeros(n_kinds, int)
    for i in random.sample(pool, len(pool)):  # any maximal set may be stuck below `size`
        if len(stuck) < size and all(held[kind] < cap for kind in rows[i]):
            stuck.append(i)
            held[list(rows[i])] += 1
    picks = complete_capped(given, np.array(stuck, np.int64))
    held = np.bincount([kind for i in picks for kind in rows[i]], minlength=n_kinds)
    assert len(set(picks.tolist())) == len(picks) == size
    assert held.max() <= cap


def test_a_stuck_fill_gives_up_only_its_last_picks():
    # {0, 1} blocks both {0} and {1}: of the fill [2, 0] only the 2 can stay
    rows = [{0, 1}, {0}, {2}, {1}]
    picks = complete_capped(problem(rows, 3, 3, limits=PickLimits(cap=1)), np.array([2, 0]))
    assert picks.tolist() == [2, 1, 3]
