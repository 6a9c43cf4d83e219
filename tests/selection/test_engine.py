import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.selection.dial import Dial
from sft_diversity.selection.engine import choose_at
from sft_diversity.selection.greedy import cover
from sft_diversity.selection.problem import NO_CAP, PickLimits
from tests.selection.small import best_coverage, covered, incidence, random_rows, row_lists

FILLS = ("draws", "balance", "uniform")
LEVELS = (0, 17, 33, 50, 67, 83, 100)


@given(
    row_lists(), st.integers(1, 5), st.sampled_from(LEVELS), st.sampled_from(FILLS),
    st.just(NO_CAP) | st.integers(1, 3), st.integers(0, 3),
)  # fmt: skip
def test_every_subset_is_exact_and_its_figures_are_true(drawn, size, level, fill, cap, seed):
    rows, n_kinds = drawn
    try:
        dial = Dial(incidence(rows, n_kinds), size, limits=PickLimits(cap=cap))
    except DataError:
        return
    chosen = choose_at(dial, level, fill=fill, seed=seed)
    picks = chosen.rows.tolist()
    place = dial.place(level)
    pool = dial.peeling.pool(place.step).tolist()
    assert len(picks) == len(set(picks)) == size
    assert set(picks) <= set(pool)
    assert all(rows[i] for i in picks)  # a sample without a kind stands for nothing
    assert chosen.pool == len(pool)
    assert chosen.place == place
    assert chosen.kinds_covered == covered(rows, picks)
    if fill != "uniform":
        assert chosen.kinds_covered == place.target
    assert dial.k_min <= place.target <= dial.k_max <= dial.peeling.kinds_total
    every = [i for i, row in enumerate(rows) if row]
    if cap == NO_CAP:
        assert best_coverage(rows, every, size) <= dial.bound
    assert dial.k_max <= dial.bound
    last = size - chosen.free_picks
    assert covered(rows, picks[:last]) == chosen.kinds_covered > covered(rows, picks[: last - 1])
    held = np.bincount([kind for i in picks for kind in rows[i]], minlength=n_kinds)
    assert held.max() <= (cap or size)


@pytest.mark.parametrize("fill", ["draws", "balance"])
def test_kinds_covered_equal_the_target_and_rise_with_the_dial(fill):
    made = incidence(random_rows(3000, 200, seed=6), 200)
    dial = Dial(made, 300)
    reached = [choose_at(dial, level, fill=fill) for level in LEVELS]
    assert [one.kinds_covered for one in reached] == [one.place.target for one in reached]
    assert (np.diff([one.kinds_covered for one in reached]) > 0).all()
    assert reached[-1].pool == dial.peeling.eligible


@pytest.mark.parametrize("fill", FILLS)
def test_the_same_seed_gives_the_same_rows_another_seed_others(fill):
    # every kind in several samples of equal shape, so that there is something to choose
    made = incidence([{i % 10, 10 + i % 7} for i in range(700)], 17)
    dial = Dial(made, 70)
    one, same, other = (choose_at(dial, 100, fill=fill, seed=seed) for seed in (1, 1, 2))
    assert one.rows.tolist() == same.rows.tolist()
    assert set(one.rows.tolist()) != set(other.rows.tolist())


@pytest.mark.parametrize("fill", ["draws", "balance"])
@pytest.mark.parametrize("size", [5, 20, 60])
def test_where_n_is_small_kinds_are_exact_rise_and_end_at_plain_greedy_or_above(fill, size):
    made = incidence(random_rows(3000, 800, seed=9), 800)
    dial = Dial(made, size)
    everyone = dial.problem(0)
    plain = everyone.kinds(cover(everyone))
    reached = [choose_at(dial, level, fill=fill, seed=4) for level in LEVELS]
    kinds = [one.kinds_covered for one in reached]
    assert kinds == [one.place.target for one in reached]
    assert (np.diff(kinds) > 0).all()
    assert kinds[-1] >= plain > dial.chance.mean


def test_random_is_placed_on_the_dial_without_clipping():
    made = incidence([{i % 10, 10 + i % 7} for i in range(700)], 17)
    dial = Dial(made, 70)
    share = (dial.chance.mean - dial.k_min) / (dial.k_max - dial.k_min)
    assert choose_at(dial, 0).figures()["random_percent"] == round(100 * share, 1)
    no_range = Dial(incidence([{0}] * 5, 1), 2)
    assert choose_at(no_range, 0).figures()["random_percent"] is None


def test_a_cap_of_one_picks_no_unit_twice():
    rows = random_rows(2000, 400, seed=8)
    chosen = choose_at(Dial(incidence(rows, 400), 60, limits=PickLimits(cap=1)), 100)
    units = [kind for i in chosen.rows for kind in rows[i]]
    assert len(chosen.rows) == 60
    assert len(units) == len(set(units))


@pytest.mark.parametrize(("options", "says"), [({"fill": "best"}, "fill"), ({"seed": -1}, "seed")])
def test_unknown_fills_and_negative_seeds_are_wrong_usage(options, says):
    with pytest.raises(UsageError, match=says):
        choose_at(Dial(incidence([{0}], 1), 1), 0, **options)
