from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft_diversity.core.vectors import unit
from sft_diversity.metrics import spread
from sft_diversity.metrics.spread import (
    density_factors,
    mean_pairwise_distance,
    novelsum,
    vendi_score,
)


def some(n, d=8, seed=0):
    return unit(np.random.default_rng(seed).normal(size=(n, d)) + 0.4)


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


def by_definition(vectors, reference, neighbours=10, beta=0.5, alpha=1.0):
    """NovelSum written out with whole matrices, as its authors' code has it."""
    points, known = vectors.astype(np.float64), np.unique(reference.astype(np.float64), axis=0)
    squared = ((points[:, None] - known[None]) ** 2).sum(axis=2)
    squared = np.sort(squared, axis=1)[:, 1 : neighbours + 1]  # the first is the sample itself
    sigma = 1 / (squared.mean(axis=1) + 1e-9)
    distances = 1 - points @ points.T
    total = 0.0
    for i in range(len(points)):
        others = np.sort(np.delete(distances[i], i)) * sigma[i] ** beta
        total += np.average(others, weights=1 / np.arange(1, len(others) + 1) ** alpha)
    return total / len(points)


@pytest.mark.parametrize("seed", range(5))
def test_value_is_that_of_the_definition(seed):
    reference = some(200, seed=seed)
    vectors = reference[::5]
    found = novelsum(vectors, density_factors(vectors, reference))
    assert found == pytest.approx(by_definition(vectors, reference), rel=1e-4)


def test_copies_in_the_reference_change_nothing():
    reference = some(60)
    twice = np.concatenate([reference, reference[:30]])
    assert density_factors(reference, twice) == pytest.approx(density_factors(reference, reference))


def test_a_sample_outside_the_reference_has_its_ten_nearest_there():
    reference, vectors = some(50), some(3, seed=9)
    squared = np.sort(((vectors[:, None] - reference[None]) ** 2).sum(axis=2), axis=1)[:, :10]
    expected = squared.mean(axis=1) ** -0.5
    assert density_factors(vectors, reference) == pytest.approx(expected, rel=1e-4)


def test_blocks_do_not_change_the_value(monkeypatch):
    vectors = some(70)
    whole = novelsum(vectors, density_factors(vectors, vectors))
    monkeypatch.setattr(spread, "_BLOCK_VALUES", 200)
    assert novelsum(vectors, density_factors(vectors, vectors)) == pytest.approx(whole, rel=1e-5)


def test_copies_of_samples_lower_it():
    vectors = some(40)
    factors = np.ones(40)
    copied = np.concatenate([vectors[:20], vectors[:20]])
    assert novelsum(copied, factors) < novelsum(vectors, factors)


def test_a_reference_of_one_vector_that_is_the_sample_itself_has_no_neighbour():
    one = some(1)
    assert np.isfinite(density_factors(one, one)).all()
