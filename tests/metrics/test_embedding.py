from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft_diversity.core.vectors import unit
from sft_diversity.metrics.embedding import mean_pairwise_distance, vendi_score


def some(n, d=8, seed=0):
    return unit(np.random.default_rng(seed).normal(size=(n, d)) + 0.5)


@given(n=st.integers(2, 30), seed=st.integers(0, 2**32 - 1))
def test_mean_distance_is_that_over_all_pairs(n, seed):
    vectors = some(n, seed=seed)
    pairs = [1 - float(a @ b) for a, b in combinations(vectors.astype(np.float64), 2)]
    assert mean_pairwise_distance(vectors) == pytest.approx(np.mean(pairs), abs=1e-6)


@given(n=st.integers(1, 30), seed=st.integers(0, 2**32 - 1))
def test_vendi_score_is_that_of_the_kernel_form(n, seed):
    vectors = some(n, seed=seed).astype(np.float64)
    values = np.linalg.eigvalsh(vectors @ vectors.T / n)
    values = values[values > 1e-12]
    expected = np.exp(-(values * np.log(values)).sum())
    assert vendi_score(vectors.astype(np.float32)) == pytest.approx(expected, rel=1e-4)


def test_vendi_score_counts_groups_of_equal_samples():
    assert vendi_score(np.eye(6, dtype=np.float32)) == pytest.approx(6)
    assert vendi_score(np.repeat(np.eye(3, 6, dtype=np.float32), 4, axis=0)) == pytest.approx(3)
