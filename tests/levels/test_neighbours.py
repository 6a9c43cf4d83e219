"""Nearest vectors and k-means: FAISS and PyTorch against brute force and each other, on a CPU.

PyTorch's way is that of a card; here it runs on the device `cpu`. faiss-gpu is not run.
"""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft_diversity.core import machine, neighbours
from sft_diversity.core.neighbours import ON_CPU, Engine

TORCH = Engine("torch", "cpu")
ENGINES = [ON_CPU, TORCH]


@pytest.fixture(scope="module", autouse=True)
def _libraries():
    pytest.importorskip("faiss")
    pytest.importorskip("torch")


def unit(n, d=24, seed=0, spread=1.0):
    """Vectors of length one around a few directions."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(9, d))
    rows = centres[rng.integers(9, size=n)] + spread * rng.normal(size=(n, d))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("on", ENGINES, ids=str)
def test_the_nearest_are_those_of_brute_force_in_order(on, monkeypatch):
    points, queries = unit(300), unit(70, seed=1)
    exact = queries.astype(np.float64) @ points.T.astype(np.float64)
    brute = np.argsort(-exact, axis=1, kind="stable")
    for number in (1, 7):
        assert (neighbours.nearest(points, queries, number, on) == brute[:, :number]).all()
    monkeypatch.setattr(neighbours, "QUERIES", 9)
    assert (neighbours.nearest(points, queries, 7, on) == brute[:, :7]).all()
    assert neighbours.nearest(points, queries[:0], 7, on).shape == (0, 7)


@given(data=st.data(), n=st.integers(1, 30), q=st.integers(1, 8))
def test_of_equal_products_pytorch_takes_the_lowest_rows(data, n, q):
    """Products of small whole numbers are exact, so ties are ties."""
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    points = rng.integers(-1, 2, (n, 3)).astype(np.float32)
    queries = rng.integers(-1, 2, (q, 3)).astype(np.float32)
    number = data.draw(st.integers(1, n))
    brute = np.argsort(-(queries @ points.T), axis=1, kind="stable")[:, :number]
    assert (neighbours.nearest(points, queries, number, TORCH) == brute).all()


@given(seed=st.integers(0, 99), k=st.integers(1, 12))
def test_of_equal_products_every_engine_assigns_to_the_lowest(seed, k):
    rng = np.random.default_rng(seed)
    vectors = rng.integers(-1, 2, (40, 3)).astype(np.float32)
    centroids = rng.integers(-1, 2, (k, 3)).astype(np.float32)
    brute = (vectors @ centroids.T).argmax(axis=1)
    assert (neighbours.assign(vectors, centroids) == brute).all()
    for on in ENGINES:
        assert (neighbours.nearest(centroids, vectors, 1, on)[:, 0] == brute).all()


def test_assignment_is_the_same_by_faiss_pytorch_and_numpy(monkeypatch):
    vectors = unit(5000, d=64)
    centroids = neighbours.spherical_centroids(vectors, 70, 5, 0)
    by_faiss, by_torch = (neighbours.nearest(centroids, vectors, 1, on)[:, 0] for on in ENGINES)
    by_numpy = neighbours.assign(vectors, centroids)
    assert by_faiss.tolist() == by_torch.tolist() == by_numpy.tolist()
    monkeypatch.setattr(neighbours, "_ASSIGNED", 7)
    assert neighbours.assign(vectors[:100], centroids).tolist() == by_numpy[:100].tolist()


@pytest.mark.parametrize("on", ENGINES, ids=str)
def test_centroids_are_of_unit_length_and_of_equal_bytes_for_equal_seeds(on):
    vectors = unit(600, spread=0.7)
    one, again, other = (
        neighbours.spherical_centroids(vectors, 12, 10, seed, on) for seed in (3, 3, 4)
    )
    np.testing.assert_allclose(np.linalg.norm(one, axis=1), 1.0, atol=1e-5)
    assert one.tobytes() == again.tobytes()
    assert one.tobytes() != other.tobytes()


def test_pytorch_clusters_as_well_as_faiss():
    vectors = unit(3000, spread=0.6)

    def value(on, seed):
        centroids = neighbours.spherical_centroids(vectors, 30, 20, seed, on)
        return float((vectors @ centroids.T).max(axis=1).mean())

    means = [np.mean([value(on, seed) for seed in range(5)]) for on in ENGINES]
    assert abs(means[0] - means[1]) < 0.005


def test_an_iteration_of_pytorch_is_assignment_and_mean():
    vectors = unit(400, spread=0.7)
    first = np.random.default_rng(5).choice(400, 6, replace=False)
    own = (vectors @ vectors[first].T).argmax(axis=1)
    sums = np.array([vectors[own == c].sum(axis=0, dtype=np.float64) for c in range(6)])
    wanted = sums / np.linalg.norm(sums, axis=1, keepdims=True)
    made = neighbours.spherical_centroids(vectors, 6, 1, 5, TORCH)
    np.testing.assert_allclose(made, wanted, atol=1e-6)


@pytest.mark.parametrize("on", ENGINES, ids=str)
def test_fewer_directions_than_clusters_are_no_fault(on):
    vectors = np.repeat(np.eye(3, 8, dtype=np.float32), 40, axis=0)
    made = neighbours.spherical_centroids(vectors, 10, 8, 0, on)
    assert made.shape == (10, 8)
    assert np.isfinite(made).all()
    np.testing.assert_allclose((vectors @ made.T).max(axis=1), 1.0, atol=1e-2)


def test_products_are_all_of_them():
    a, b = unit(20), unit(30, seed=1)
    assert (neighbours.products(a, b) == a @ b.T).all()


@pytest.mark.parametrize(
    ("gpus", "faiss", "said"),
    [
        (0, SimpleNamespace(), "faiss on cpu"),
        (1, SimpleNamespace(), "torch on cuda"),
        (1, SimpleNamespace(StandardGpuResources=object, get_num_gpus=lambda: 1), "faiss on cuda"),
        (0, SimpleNamespace(StandardGpuResources=object, get_num_gpus=lambda: 1), "faiss on cpu"),
        (1, None, "torch on cuda"),
    ],
)
def test_the_engine_is_faiss_on_the_card_then_pytorch_there_then_faiss_here(
    gpus, faiss, said, monkeypatch
):
    monkeypatch.setenv(machine.DETECT, f"gpus={gpus}")
    monkeypatch.setitem(__import__("sys").modules, "faiss", faiss)
    monkeypatch.setattr(neighbours.extras, "has", lambda module: faiss is not None)
    assert str(neighbours.engine()) == said


def test_another_engine_than_faiss_on_the_cpu_is_part_of_the_key(monkeypatch):
    keys = {}
    ask = SimpleNamespace(key=lambda role, key: keys.update({role: key}))
    monkeypatch.setattr(neighbours, "engine", lambda: ON_CPU)
    neighbours.count_engine(ask)
    assert keys == {}
    monkeypatch.setattr(neighbours, "engine", lambda: Engine("torch", "cuda"))
    neighbours.count_engine(ask)
    assert keys == {"neighbours": "torch on cuda"}
