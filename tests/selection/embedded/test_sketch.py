import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sft_diversity.selection.embedded.similarity import slack
from sft_diversity.selection.embedded.sketch import fit_basis, sketch
from tests.selection.small import cosines, directions


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
