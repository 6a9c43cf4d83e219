import numpy as np
import pytest

from sft_diversity.core.errors import DataError
from sft_diversity.selection.baselines import first_within, longest_first, random_order
from sft_diversity.selection.limits import FREE, Limits, Total
from sft_diversity.selection.quotas import Quotas


def test_random_draws_only_from_the_rows_given_and_a_smaller_size_is_a_prefix():
    order = random_order(np.array([3, 5, 7, 9]), seed=1)
    assert sorted(order) == [3, 5, 7, 9]
    assert first_within(order, 2, FREE, 0).tolist() == order[:2].tolist()


def test_longest_breaks_ties_by_row():
    lengths = np.array([2, 5, 5, 9], np.int32)
    assert longest_first(np.arange(4), lengths).tolist() == [3, 1, 2, 0]


def test_random_keeps_quotas_rows_and_a_total_length():
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 100, size=500)
    group = rng.integers(0, 3, size=500).astype(np.int32)
    kept = np.flatnonzero(group == 2)[:3]
    limits = Limits(
        kept=kept,
        quotas=Quotas(group, np.array([10, 20, 5])),
        total=Total(lengths, 1500, 1510),
    )
    picks = first_within(random_order(np.arange(500), 4), 35, limits, 4)
    assert len(set(picks.tolist())) == 35
    assert picks[:3].tolist() == kept.tolist()
    assert np.bincount(group[picks]).tolist() == [10, 20, 5]
    assert 1500 <= lengths[picks].sum() <= 1510


def test_too_few_rows_is_an_error_that_counts_them():
    with pytest.raises(DataError, match="size is 3 but only 2 samples qualify"):
        first_within(np.arange(2), 3, FREE, 0)
