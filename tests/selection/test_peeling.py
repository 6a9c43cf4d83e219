import numpy as np
from hypothesis import given

from sft_diversity.core.incidence import Incidence
from sft_diversity.selection.peeling import peel
from tests.selection.small import incidence, peel_plainly, random_rows, row_lists


@given(row_lists(max_rows=14, max_kinds=9))
def test_every_pool_is_that_of_dropping_the_rarest_kind_by_hand(drawn):
    rows, n_kinds = drawn
    peeling = peel(incidence(rows, n_kinds))
    steps = peel_plainly(rows)
    assert [set(peeling.pool(s)) for s in range(len(steps))] == [pool for pool, _ in steps]
    assert [set(np.flatnonzero(peeling.kind_left > s)) for s in range(len(steps))] == [
        kinds for _, kinds in steps
    ]
    assert peeling.pool_sizes.tolist() == [len(pool) for pool, _ in steps]
    assert peeling.kinds_after.tolist() == [len(kinds) for _, kinds in steps]


def test_pools_of_a_larger_incidence_are_exact_too():
    rows = random_rows(400, 120, seed=1)
    peeling = peel(incidence(rows, 120))
    steps = peel_plainly(rows)
    assert len(steps) == len(peeling.kinds_after)
    for step, (pool, kinds) in enumerate(steps):
        assert set(peeling.pool(step)) == pool
        assert set(np.flatnonzero(peeling.kind_left > step)) == kinds


def test_a_kind_emptied_by_a_drop_leaves_with_it_so_that_k_does_not_occur():
    # kind 0 is the rarest; its only sample also holds the only use of kind 1
    peeling = peel(incidence([{0, 1}, {2}, {2}], 3))
    assert peeling.kinds_after.tolist() == [3, 1, 0]
    assert peeling.pool_sizes.tolist() == [3, 2, 0]


def test_equally_rare_kinds_go_by_lowest_number():
    peeling = peel(incidence([{2}, {0}, {1}], 3))
    assert peeling.kind_left.tolist() == [1, 2, 3]


def test_samples_without_a_kind_are_counted_and_in_no_pool():
    peeling = peel(incidence([set(), {0}, set()], 2))
    assert (peeling.eligible, peeling.no_kind, peeling.kinds_total) == (1, 2, 1)
    assert peeling.pool(0).tolist() == [1]


def test_an_incidence_without_entries_has_one_step():
    peeling = peel(incidence([set(), set()], 3))
    assert peeling.kinds_after.tolist() == [0]
    assert peeling.no_kind == 2


def test_memory_maps_give_the_same_peeling(tmp_path):
    plain = incidence(random_rows(60, 20, seed=2), 20)
    mapped = []
    for name in ("indptr", "indices", "counts"):
        np.save(tmp_path / f"{name}.npy", getattr(plain, name))
        mapped.append(np.load(tmp_path / f"{name}.npy", mmap_mode="r"))
    one, two = peel(plain), peel(Incidence(mapped[0], mapped[1], mapped[2], 20))
    assert (one.sample_left == two.sample_left).all()
    assert (one.kind_left == two.kind_left).all()
