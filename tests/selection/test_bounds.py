"""What no samples reach and what random ones hold, against every subset and other draws."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft_diversity.selection.bounds import chance_kinds, coverage_bound
from sft_diversity.selection.greedy import cover
from sft_diversity.selection.problem import PickLimits, Quotas, Total
from tests.selection.small import covered, problem, random_rows, row_lists


@given(row_lists(max_rows=9), st.data())
def test_the_expectation_is_the_mean_over_all_subsets(drawn, data):
    rows, n_kinds = drawn
    pool = [i for i, row in enumerate(rows) if row]
    if not pool:
        return
    size = data.draw(st.integers(1, len(pool)))
    kept = data.draw(st.lists(st.sampled_from(pool), max_size=size, unique=True))
    others = [i for i in pool if i not in kept]
    sets = [[*kept, *more] for more in combinations(others, size - len(kept))]
    limits = PickLimits(kept=np.array(kept, np.int64))
    chance = chance_kinds(problem(rows, n_kinds, size, limits=limits))
    assert chance.sd is None
    assert chance.mean == pytest.approx(np.mean([covered(rows, picks) for picks in sets]))


@given(row_lists(max_rows=9), st.data())
def test_under_quotas_it_is_the_mean_over_the_subsets_that_keep_them(drawn, data):
    rows, n_kinds = drawn
    group = np.array([i % 2 for i in range(len(rows))], np.int32)
    parts = [[i for i, row in enumerate(rows) if row and i % 2 == part] for part in (0, 1)]
    number = [data.draw(st.integers(0, len(part))) for part in parts]
    if sum(number) == 0:
        return
    sets = [
        [*one, *other]
        for one in combinations(parts[0], number[0])
        for other in combinations(parts[1], number[1])
    ]
    limits = PickLimits(quotas=Quotas(group, np.array(number)))
    chance = chance_kinds(problem(rows, n_kinds, sum(number), limits=limits))
    assert chance.mean == pytest.approx(np.mean([covered(rows, picks) for picks in sets]))


def test_draws_that_keep_a_total_are_near_free_ones_where_it_hardly_binds():
    rows = random_rows(2000, 200, seed=1)
    lengths = np.random.default_rng(0).integers(5, 15, size=2000)
    free = chance_kinds(problem(rows, 200, 100))
    held = chance_kinds(problem(rows, 200, 100, limits=PickLimits(total=Total(lengths, 940, 960))))
    assert held.sd is not None
    assert abs(held.mean - free.mean) < 4 * held.sd / 10


def test_draws_under_a_cap_keep_it():
    # one sample in two holds kind 0: of ten picks two may, so eight hold a kind of their own
    rows = [{0, 1 + i} if i % 2 else {1 + i} for i in range(100)]
    chance = chance_kinds(problem(rows, 101, 10, limits=PickLimits(cap=2)))
    assert chance.mean == pytest.approx(11, abs=0.05)


def test_the_bound_explains_what_no_set_can_cover():
    # each row holds two kinds of its own: five rows hold ten of twenty
    rows = [{2 * i, 2 * i + 1} for i in range(10)]
    assert coverage_bound(problem(rows, 20, 5)) == 10


def test_the_bound_is_close_on_a_larger_incidence():
    given = problem(random_rows(300, 150, seed=4), 150, 20)
    found = given.kinds(cover(given))
    assert found <= coverage_bound(given) <= 1.1 * found


def test_prices_tighten_the_bound_beyond_the_best_remaining_gains():
    rows = random_rows(400, 300, seed=9)
    given = problem(rows, 300, 40)
    held = given.held(cover(given))
    found = np.count_nonzero(held)
    left = sorted((sum(held[kind] == 0 for kind in row) for row in rows), reverse=True)
    assert found <= coverage_bound(given) < found + sum(left[:40])
