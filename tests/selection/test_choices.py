from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from sft_diversity.core.errors import DataError
from sft_diversity.selection.choices import choose_rows, first_within
from sft_diversity.selection.config import SelectConfig
from sft_diversity.selection.pool import Pool
from sft_diversity.selection.problem import (
    FREE,
    PickLimits,
    Problem,
    Quotas,
    Total,
    shuffled,
    without_kinds,
)
from tests.selection.small import incidence


def pool(lengths: list[int]) -> Pool:
    """Return a pool of samples that hold the token 0 alone, so many times."""
    held = incidence([{0}] * len(lengths), 1)
    tokens: Any = SimpleNamespace(take=held.take, lengths=np.array(lengths, np.int32))
    ids = pa.array([f"{i:04}" for i in range(len(lengths))])
    both: Any = {"instruction": tokens, "response": tokens}
    return Pool(Path(), both, kept={("ids", Path()): ids})


def picks_of(lengths, **options):
    return choose_rows(pool(lengths), SelectConfig(**options))[0].tolist()


def first(order, size, limits=FREE, seed=0, n=500):
    rows = limits.candidates(np.array(order))
    return first_within(Problem(without_kinds(n), rows, size, limits), seed)


def test_a_smaller_random_subset_is_a_prefix_and_another_seed_another_one():
    seven = picks_of([1] * 9, strategy="random", size=7)
    assert len(set(seven)) == 7
    assert picks_of([1] * 9, strategy="random", size=4) == seven[:4]
    assert picks_of([1] * 9, strategy="random", size=7, seed=1) != seven


def test_longest_breaks_ties_by_row():
    assert picks_of([2, 5, 5, 9], strategy="longest", size=3) == [3, 1, 2]


def test_random_keeps_quotas_rows_and_a_total_length():
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 100, size=500)
    group = rng.integers(0, 3, size=500).astype(np.int32)
    kept = np.flatnonzero(group == 2)[:3]
    limits = PickLimits(
        kept=kept,
        quotas=Quotas(group, np.array([10, 20, 5])),
        total=Total(lengths, 1500, 1510),
    )
    picks = first(shuffled(np.arange(500), 4, "random"), 35, limits, 4)
    assert len(set(picks.tolist())) == 35
    assert picks[:3].tolist() == kept.tolist()
    assert np.bincount(group[picks]).tolist() == [10, 20, 5]
    assert 1500 <= lengths[picks].sum() <= 1510


def test_too_few_rows_is_an_error_that_counts_them():
    with pytest.raises(DataError, match="size is 3 but only 2 samples qualify"):
        first(np.arange(2), 3)


def test_options_of_the_index_stand_where_none_of_select_says_otherwise():
    config = SelectConfig(strategy="macro-response", size=2, index={"embed": {"batch": 7}})
    assert config.index_options["embed"] == {"batch": 7}
    said = SelectConfig(
        strategy="macro-response", size=2, index={"embed": {"batch": 7}}, embed={"batch": 9}
    )
    assert said.index_options["embed"] == {"batch": 9}
