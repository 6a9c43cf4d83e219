from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.select.greedy import greedy
from sft_diversity.select.peeling import peel
from sft_diversity.select.sharded.greedy import (
    distributed_greedy,
    steps_of,
    upper_bound,
    value_of,
)
from sft_diversity.select.sharded.peeling import peel_shards
from sft_diversity.select.sharded.shards import gather, split
from sft_diversity.select.transpose import count_kinds
from tests.select.small import best_coverage, incidence, random_rows, row_lists

OBJECTIVES = st.sampled_from(["coverage", "balance"])


def shards_of(rows, n_kinds, parts):
    shards = split(incidence(rows, n_kinds), min(parts, len(rows)))
    return shards, [shard.eligible() for shard in shards]


def value(rows, n_kinds, picks, objective, size):
    made = incidence(rows, n_kinds)
    held = count_kinds(made.indptr, made.indices, np.array(picks, np.int64), n_kinds)
    return value_of(held, steps_of(objective, size))


@given(row_lists(max_rows=9), st.integers(1, 4), st.integers(1, 5), OBJECTIVES, st.floats(1, 4))
def test_n_distinct_rows_of_the_pools_never_above_optimum_or_bound(
    drawn, parts, size, objective, share
):
    rows, n_kinds = drawn
    shards, pools = shards_of(rows, n_kinds, parts)
    pool = [i for i, row in enumerate(rows) if row]
    if len(pool) < size:
        with pytest.raises(DataError):
            distributed_greedy(shards, pools, n_kinds, size, objective)
        return
    made = distributed_greedy(shards, pools, n_kinds, size, objective, share=share)
    assert len(set(made.rows.tolist())) == size
    assert set(made.rows.tolist()) <= set(pool)
    assert made.value == pytest.approx(value(rows, n_kinds, made.rows, objective, size))
    best = max(value(rows, n_kinds, c, objective, size) for c in combinations(pool, size))
    bound = upper_bound(shards, pools, made.held, size, objective)
    assert made.value <= best + 1e-9 <= bound + 2e-9
    if share >= len(shards):  # no random part is bad by itself: (1 - 1/e) / 2 is in expectation
        assert made.value >= best / min(len(shards), size) - 1e-9


@given(row_lists(max_rows=9), st.integers(1, 5))
def test_one_shard_gives_the_value_of_plain_greedy_coverage(drawn, size):
    rows, n_kinds = drawn
    shards, pools = shards_of(rows, n_kinds, 1)
    size = min(size, len(pools[0]))
    if size == 0:
        return
    made = distributed_greedy(shards, pools, n_kinds, size, "coverage")
    best = best_coverage(rows, pools[0].tolist(), size)
    assert (1 - 1 / np.e) * best <= made.value <= best


@pytest.mark.parametrize("objective", ["coverage", "balance"])
def test_seed_decides_and_the_number_of_workers_does_not(objective):
    rows = random_rows(600, 150, seed=5)
    shards, pools = shards_of(rows, 150, 7)
    one, same, two = (
        distributed_greedy(shards, pools, 150, 60, objective, seed=3, workers=w) for w in (1, 1, 2)
    )
    assert one.rows.tobytes() == same.rows.tobytes() == two.rows.tobytes()
    other = distributed_greedy(shards, pools, 150, 60, objective, seed=4)
    assert other.rows.tobytes() != one.rows.tobytes()


@pytest.mark.parametrize(("objective", "share"), [("coverage", None), ("balance", 2)])
def test_little_is_lost_against_one_machine(objective, share):
    rows = random_rows(2000, 300, seed=6)
    made = incidence(rows, 300)
    shards, pools = shards_of(rows, 300, 8)
    steps = steps_of(objective, 200)
    held = np.zeros(300, np.int64)
    greedy(made.indptr, made.indices, np.flatnonzero(np.diff(made.indptr)), 200, steps, held)
    spread = distributed_greedy(shards, pools, 300, 200, objective, share=share)
    assert spread.value >= 0.99 * value_of(held, steps)
    assert spread.candidates <= (share or 8) * 200


def test_a_cover_that_is_complete_is_filled_up():
    rows = [{0, 1}, {0}, {1}, set(), {0}, {1}]
    shards, pools = shards_of(rows, 2, 2)
    made = distributed_greedy(shards, pools, 2, 5, "coverage")
    assert sorted(made.rows.tolist()) == [0, 1, 2, 4, 5]
    assert made.value == 2


def test_what_cannot_be_picked_is_refused():
    shards, pools = shards_of([{0}, {0}], 1, 2)
    with pytest.raises(UsageError, match="at least 1 sample"):
        distributed_greedy(shards, pools, 1, 0)
    with pytest.raises(UsageError, match=r"share is 0\.5"):
        distributed_greedy(shards, pools, 1, 1, share=0.5)
    with pytest.raises(UsageError, match="objective"):
        distributed_greedy(shards, pools, 1, 1, "entropy")
    with pytest.raises(UsageError, match="3 shards of 2 samples"):
        split(incidence([{0}, {0}], 1), 3)


@given(row_lists(max_rows=20, max_kinds=9), st.integers(1, 5))
def test_peeling_shards_equals_peeling_the_whole(drawn, parts):
    rows, n_kinds = drawn
    check_peeling(rows, n_kinds, min(parts, len(rows)), 1)


@pytest.mark.parametrize("parts", [1, 5, 16])
def test_peeling_shards_equals_peeling_a_larger_whole(parts):
    check_peeling(random_rows(800, 120, seed=8), 120, parts, 2)


def check_peeling(rows, n_kinds, parts, workers):
    made = incidence(rows, n_kinds)
    whole = peel(made)
    spread = peel_shards(split(made, parts), n_kinds, workers=workers)
    assert np.concatenate(spread.sample_left).tolist() == whole.sample_left.tolist()
    for name in ("kind_left", "kinds_after", "pool_sizes"):
        assert getattr(spread, name).tolist() == getattr(whole, name).tolist()
    step = len(whole.kinds_after) // 2
    pools = [s.first + p for s, p in zip(split(made, parts), spread.pools(step), strict=True)]
    assert np.concatenate(pools).tolist() == whole.pool(step).tolist()


def test_gathered_rows_are_the_rows():
    rows = random_rows(50, 20, seed=2)
    shards = split(incidence(rows, 20), 3)
    indptr, indices = gather(shards, [np.array([2, 0]), np.array([], np.int64), np.array([5])])
    wanted = [2, 0, shards[2].first + 5]
    found = [set(indices[a:b].tolist()) for a, b in pairwise(indptr)]
    assert found == [rows[i] for i in wanted]
