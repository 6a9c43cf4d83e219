import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft_diversity.core import neighbours
from sft_diversity.core.errors import UsageError
from sft_diversity.core.vectors import unit
from sft_diversity.selection.facility_location import (
    facility_bound,
    facility_location,
    neighbour_graph,
)
from tests.selection.small import cosines, directions


def dense(graph):
    """Return the graph's similarities as a matrix, shape (n, n)."""
    n = len(graph.indptr) - 1
    made = np.zeros((n, n))
    rows = np.repeat(np.arange(n), np.diff(graph.indptr))
    made[rows, graph.indices] = graph.similarity
    return made


def value(similar, picks):
    return float(similar[:, list(picks)].max(axis=1).sum())


def greedy_plainly(similar, size):
    """Return the picks of plain greedy; gains added in ascending order of rows."""
    served = np.zeros(len(similar))
    picks: list[int] = []
    while len(picks) < size:
        gains = [
            sum((max(0.0, s - c) for s, c in zip(similar[j], served, strict=True) if s), 0.0)
            for j in range(len(similar))
        ]
        picks.append(max((j for j in range(len(similar)) if j not in picks), key=gains.__getitem__))
        served = np.maximum(served, similar[picks[-1]])
    return picks


@given(st.integers(1, 25), st.integers(1, 5), st.integers(0, 2**32 - 1), st.data())
def test_lazy_picks_equal_plain_picks_one_by_one(n, dimensions, seed, data):
    graph = neighbour_graph(directions(n, dimensions, seed), data.draw(st.integers(1, n)))
    size = data.draw(st.integers(1, n))
    found = facility_location(graph, size)
    assert found.rows.tolist() == greedy_plainly(dense(graph), size)
    assert found.value == pytest.approx(value(dense(graph), found.rows))
    assert found.gains.sum() == pytest.approx(found.value)
    assert (np.diff(found.gains) <= 0).all()
    assert facility_location(graph, 1).rows.tolist() == found.rows[:1].tolist()


@given(st.integers(2, 10), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_the_value_lies_between_the_greedy_guarantee_and_the_bound(n, size, seed):
    graph = neighbour_graph(directions(n, 3, seed), min(n, 4))
    size = min(size, n)
    similar = dense(graph)
    best = max(value(similar, picks) for picks in combinations(range(n), size))
    found = facility_location(graph, size)
    bound = facility_bound(graph, found)
    assert (1 - 1 / math.e) * best <= found.value <= best + 1e-9 <= bound + 2e-9


def test_prices_tighten_the_bound_beyond_the_best_remaining_gains():
    graph = neighbour_graph(directions(400, 4, seed=1), 12)
    found = facility_location(graph, 40)
    served = dense(graph)[:, found.rows].max(axis=1)
    left = np.sort(np.maximum(dense(graph) - served, 0).sum(axis=1))[::-1]
    bound = facility_bound(graph, found)
    assert found.value <= bound < found.value + left[:40].sum()
    assert found.value > 0.93 * bound


def test_the_graph_joins_each_row_with_its_nearest_both_ways():
    points = unit(np.random.default_rng(5).normal(size=(60, 4)).astype(np.float32))  # no ties
    similar = cosines(points)
    graph = neighbour_graph(points, 5)
    near = similar >= np.sort(similar, axis=1)[:, [-5]]
    joined = (near | near.T) & (similar > 0)
    assert ((dense(graph) > 0) == joined).all()
    assert np.allclose(dense(graph)[joined], similar[joined], atol=1e-12)
    assert (dense(graph) == dense(graph).T).all()


def test_a_graph_of_more_rows_than_are_searched_at_a_time_is_that_of_one_search(monkeypatch):
    points = unit(np.random.default_rng(6).normal(size=(90, 4)).astype(np.float32))
    whole = neighbour_graph(points, 6)
    monkeypatch.setattr(neighbours, "QUERIES", 7)
    parts = neighbour_graph(points, 6)
    assert (whole.indices == parts.indices).all()
    assert (whole.similarity == parts.similarity).all()


def test_wrong_sizes_are_errors():
    points = directions(4, 3, seed=0)
    with pytest.raises(UsageError, match="size is 5 but the graph has 4"):
        facility_location(neighbour_graph(points, 2), 5)
    with pytest.raises(UsageError, match="neighbours is 9"):
        neighbour_graph(points, 9)
