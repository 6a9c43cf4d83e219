from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from sft_diversity.core.errors import UsageError
from sft_diversity.core.vectors import unit
from sft_diversity.selection import k_center as module
from sft_diversity.selection.k_center import k_center
from tests.selection.small import cosines, directions


def farthest_first(points, size, first):
    """Return the picks by the definition."""
    similar = cosines(points)
    picks = [first]
    while len(picks) < size:
        left = [i for i in range(len(points)) if i not in picks]
        picks.append(min(left, key=lambda i: (max(similar[i, j] for j in picks), i)))
    return picks


@given(st.integers(1, 30), st.integers(1, 9), st.integers(0, 2**32 - 1), st.data())
def test_each_pick_is_the_farthest_from_all_before(n, dimensions, seed, data):
    points = directions(n, dimensions, seed)
    first, size = data.draw(st.integers(0, n - 1)), data.draw(st.integers(1, n))
    assert k_center(points, size, first).rows.tolist() == farthest_first(points, size, first)


def test_picks_are_the_same_however_many_are_looked_at_ahead(monkeypatch):
    points = directions(400, 5, seed=1)
    whole = k_center(points, 200, 7)
    assert whole.rows.tolist() == farthest_first(points, 200, 7)
    for ahead in (1, 3, 50):
        monkeypatch.setattr(module, "AHEAD", ahead)
        assert k_center(points, 200, 7).rows.tolist() == whole.rows.tolist()


@given(st.integers(2, 10), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_the_radius_is_at_most_twice_the_best_of_all_sets(n, size, seed):
    points = directions(n, 3, seed)
    size = min(size, n)
    distances = cdist(points.astype(float), points.astype(float))
    best = min(distances[list(s)].min(axis=0).max() for s in combinations(range(n), size))
    found = k_center(points, size)
    radius = distances[found.rows].min(axis=0).max()
    assert found.radius == pytest.approx(radius, abs=1e-3)
    assert radius <= 2 * best + 1e-6


def test_duplicates_of_picks_come_last_and_each_once():
    points = unit(np.array([[1, 0], [1, 0], [1, 0], [0, 1]], np.float32))
    assert k_center(points, 4, first=1).rows.tolist() == [1, 3, 0, 2]
    assert sorted(k_center(np.repeat(points[:1], 5, axis=0), 5).rows) == [0, 1, 2, 3, 4]


def test_a_smaller_size_is_a_prefix():
    points = directions(300, 8, seed=2)
    whole = k_center(points, 300).rows
    assert k_center(points, 40).rows.tolist() == whole[:40].tolist()


def test_wrong_sizes_first_picks_and_vectors_are_errors():
    points = directions(4, 3, seed=0)
    with pytest.raises(UsageError, match="size is 5 but there are 4"):
        k_center(points, 5)
    with pytest.raises(UsageError, match="first pick is row 4"):
        k_center(points, 2, first=4)
    with pytest.raises(UsageError, match="not finite"):
        k_center(np.full((3, 2), np.nan, np.float32), 2)
    with pytest.raises(UsageError, match="float64"):
        k_center(points.astype(np.float64), 2)
