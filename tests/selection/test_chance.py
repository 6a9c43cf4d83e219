"""What random samples hold, against every subset, and against other draws."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft_diversity.selection.chance import chance_kinds
from sft_diversity.selection.limits import Limits, Total
from sft_diversity.selection.peeling import peel
from sft_diversity.selection.quotas import Quotas
from tests.selection.small import covered, incidence, random_rows, row_lists


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
    limits = Limits(kept=np.array(kept, np.int64))
    chance = chance_kinds(peel(incidence(rows, n_kinds)), size, limits)
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
    limits = Limits(quotas=Quotas(group, np.array(number)))
    chance = chance_kinds(peel(incidence(rows, n_kinds)), sum(number), limits)
    assert chance.mean == pytest.approx(np.mean([covered(rows, picks) for picks in sets]))


def test_draws_that_keep_a_total_are_near_free_ones_where_it_hardly_binds():
    rows = random_rows(2000, 200, seed=1)
    peeling = peel(incidence(rows, 200))
    lengths = np.random.default_rng(0).integers(5, 15, size=2000)
    free = chance_kinds(peeling, 100, Limits())
    held = chance_kinds(peeling, 100, Limits(total=Total(lengths, 940, 960)))
    assert held.sd is not None
    assert abs(held.mean - free.mean) < 4 * held.sd / 10


def test_draws_under_a_cap_keep_it():
    # one sample in two holds kind 0: of ten picks two may, so eight hold a kind of their own
    rows = [{0, 1 + i} if i % 2 else {1 + i} for i in range(100)]
    chance = chance_kinds(peel(incidence(rows, 101)), 10, Limits(cap=2))
    assert chance.mean == pytest.approx(11, abs=0.05)
