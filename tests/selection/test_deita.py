import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft_diversity.core.errors import UsageError
from sft_diversity.core.kernels import slack
from sft_diversity.core.vectors import unit
from sft_diversity.selection import deita
from sft_diversity.selection.deita import fit_basis, repr_filter, sketch
from tests.selection.small import cosines, directions


def by_the_rule(points, order, size, threshold):
    """Return the picks of the published rule, one candidate at a time."""
    similar = cosines(points)
    picks: list[int] = []
    for row in order:
        if len(picks) < size and all(similar[row, pick] <= threshold for pick in picks):
            picks.append(int(row))
    return picks


@given(
    st.integers(1, 40),
    st.integers(2, 9),
    st.integers(1, 40),
    st.floats(-0.9, 0.99),
    st.integers(0, 2**32 - 1),
)
def test_picks_are_those_of_the_rule(n, dimensions, size, threshold, seed):
    points = directions(n, dimensions, seed)
    order = np.random.default_rng(seed).permutation(n)
    size = min(size, n)
    picks = repr_filter(points, order, size, threshold=threshold)
    assert picks.tolist() == by_the_rule(points, order, size, threshold)


@pytest.mark.parametrize("threshold", [-0.5, 0.2, 0.6, 0.9])
def test_blocks_do_not_change_the_picks_also_where_the_threshold_binds(monkeypatch, threshold):
    points = directions(600, 6, seed=3)
    order = np.random.default_rng(3).permutation(600)
    expected = by_the_rule(points, order, 600, threshold)
    assert repr_filter(points, order, 600, threshold=threshold).tolist() == expected
    assert len(expected) < 600
    monkeypatch.setattr(deita, "FEW", 0)
    for at_once, picks in ((1, 1), (7, 3), (64, 100)):
        monkeypatch.setattr(deita, "AT_ONCE", at_once)
        monkeypatch.setattr(deita, "PICKS", picks)
        assert repr_filter(points, order, 600, threshold=threshold).tolist() == expected
        fewer = repr_filter(points, order, 10, threshold=threshold)
        assert fewer.tolist() == expected[:10]


def test_a_cosine_equal_to_the_threshold_passes_and_float32_noise_decides_nothing():
    # 3-4-5: the cosine to the first row is 0.6 exactly, up to the rounding of float32 coordinates
    points = unit(np.array([[1, 0], [0.6, 0.8], [0.6, -0.8]], np.float32))
    exact = float(points[1, 0])
    assert repr_filter(points, np.arange(3), 3, threshold=exact).tolist() == [0, 1, 2]
    below = float(np.nextafter(exact, 0))
    assert repr_filter(points, np.arange(3), 3, threshold=below).tolist() == [0]


def test_duplicates_of_picks_are_refused_and_the_first_is_always_taken():
    points = unit(np.array([[1, 0], [1, 0], [0, 1]], np.float32))
    assert repr_filter(points, np.array([1, 0, 2]), 3).tolist() == [1, 2]
    assert repr_filter(points, np.arange(3), 3, threshold=-1.0).tolist() == [0]


def test_wrong_sizes_and_thresholds_are_errors():
    points = directions(4, 3, seed=0)
    with pytest.raises(UsageError, match="size is 0"):
        repr_filter(points, np.arange(4), 0)
    with pytest.raises(UsageError, match=r"threshold is 1\.5"):
        repr_filter(points, np.arange(4), 2, threshold=1.5)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1), st.data())
def test_products_of_sketches_are_never_below_the_cosines(n, dimensions, seed, data):
    points = directions(n, dimensions, seed)
    k = data.draw(st.integers(1, dimensions))
    turned = np.linalg.qr(np.random.default_rng(seed).normal(size=(dimensions, dimensions)))[0]
    heads = sketch(points, turned[:, :k].astype(np.float32))
    assert (heads @ heads.T >= cosines(points) - slack(dimensions)).all()


@given(st.integers(1, 60), st.integers(1, 40), st.floats(-1, 1), st.integers(0, 2**32 - 1))
def test_the_basis_is_orthonormal(n, dimensions, threshold, seed):
    basis = fit_basis(directions(n, dimensions, seed), threshold)
    assert basis.shape[0] == dimensions
    assert 1 <= basis.shape[1] <= dimensions
    assert np.allclose(basis.T @ basis, np.eye(basis.shape[1]), atol=1e-5)


def test_points_near_a_plane_get_few_directions_where_few_pairs_are_similar():
    rng = np.random.default_rng(0)
    points = 0.1 * rng.normal(size=(3000, 64))
    points[:, :4] += rng.normal(size=(3000, 4))
    points = (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)
    assert fit_basis(points, 0.999).shape[1] < 32
