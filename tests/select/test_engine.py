import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.select.compiled import NO_CAP
from sft_diversity.select.dial import make_dial
from sft_diversity.select.engine import choose, choose_at, evenness
from sft_diversity.select.limits import Limits
from sft_diversity.select.peeling import peel
from tests.select.small import best_coverage, covered, incidence, random_rows, row_lists

FILLS = ("draws", "balance", "uniform")
LEVELS = (0, 17, 33, 50, 67, 83, 100)


@given(
    row_lists(), st.integers(1, 5), st.sampled_from(LEVELS), st.sampled_from(FILLS),
    st.just(NO_CAP) | st.integers(1, 3), st.integers(0, 3),
)  # fmt: skip
def test_every_subset_is_exact_and_its_figures_are_true(drawn, size, level, fill, cap, seed):
    rows, n_kinds = drawn
    try:
        chosen = choose(
            incidence(rows, n_kinds), size, level, fill=fill, limits=Limits(cap=cap), seed=seed
        )
    except DataError:
        return
    picks = chosen.rows.tolist()
    dial = make_dial(incidence(rows, n_kinds), size, limits=Limits(cap=cap))
    pool = dial.peeling.pool(dial.step(level)).tolist()
    assert len(picks) == len(set(picks)) == size
    assert set(picks) <= set(pool)
    assert all(rows[i] for i in picks)  # a sample without a kind stands for nothing
    assert chosen.pool == len(pool)
    assert chosen.kinds_target == covered(rows, pool)
    assert chosen.kinds_covered == covered(rows, picks)
    assert chosen.k_min <= chosen.kinds_target <= chosen.k_max <= chosen.kinds_total
    assert best_coverage(rows, pool, size) <= chosen.coverage_bound <= chosen.kinds_target
    held = np.bincount([kind for i in picks for kind in rows[i]], minlength=n_kinds)
    assert held.max() <= (cap or size)


@pytest.mark.parametrize("fill", ["draws", "balance"])
def test_kinds_covered_equal_the_target_and_rise_with_the_dial(fill):
    made = incidence(random_rows(3000, 200, seed=6), 200)
    dial = make_dial(made, 300)
    reached = [choose_at(dial, level, fill=fill) for level in LEVELS]
    assert [one.kinds_covered for one in reached] == [one.kinds_target for one in reached]
    assert (np.diff([one.kinds_covered for one in reached]) > 0).all()
    assert reached[-1].pool == dial.peeling.eligible


@pytest.mark.parametrize("fill", FILLS)
def test_the_same_seed_gives_the_same_rows_another_seed_others(fill):
    # every kind in several samples of equal shape, so that there is something to choose
    made = incidence([{i % 10, 10 + i % 7} for i in range(700)], 17)
    dial = make_dial(made, 70)
    one, same, other = (choose_at(dial, 100, fill=fill, seed=seed) for seed in (1, 1, 2))
    assert one.rows.tolist() == same.rows.tolist()
    assert set(one.rows.tolist()) != set(other.rows.tolist())


def test_one_call_equals_peeling_and_dial_made_beforehand():
    made = incidence(random_rows(500, 50, seed=7), 50)
    one = choose(made, 60, 40, seed=3)
    two = choose_at(make_dial(peel(made), 60), 40, seed=3)
    assert one.rows.tolist() == two.rows.tolist()
    assert dataclasses.replace(one, rows=two.rows) == two


def test_a_cap_of_one_picks_no_unit_twice():
    rows = random_rows(2000, 400, seed=8)
    chosen = choose(incidence(rows, 400), 60, 100, limits=Limits(cap=1))
    units = [kind for i in chosen.rows for kind in rows[i]]
    assert len(chosen.rows) == 60
    assert len(units) == len(set(units))


def test_evenness_is_one_for_equal_counts_and_falls_towards_zero():
    assert evenness(np.array([3, 3, 0, 3])) == pytest.approx(1.0)
    assert evenness(np.array([5, 0])) == 1.0
    assert evenness(np.array([1000, 1])) < 0.02


@pytest.mark.parametrize(("options", "says"), [({"fill": "best"}, "fill"), ({"seed": -1}, "seed")])
def test_unknown_fills_and_negative_seeds_are_wrong_usage(options, says):
    with pytest.raises(UsageError, match=says):
        choose(incidence([{0}], 1), 1, 0, **options)
