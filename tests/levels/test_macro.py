"""Macro level: clusters of unit vectors become one kind a sample."""

import numpy as np
import pyarrow as pa
import pytest
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from sft_diversity.core import incidence, machine, neighbours
from sft_diversity.core import vectors as core_vectors
from sft_diversity.core.errors import DataError
from sft_diversity.levels import hdbscan as hd
from sft_diversity.levels.kmeans import Clusters, compact, default_k, spherical_kmeans
from sft_diversity.levels.macro import MacroOptions, incidence_of, kinds_table, macro
from tests.making import make


def planted(groups: int, each: int, dim: int = 16, spread: float = 0.15, seed: int = 0):
    """Return unit vectors around random directions, and their group."""
    rng = np.random.default_rng(seed)
    centres = core_vectors.unit(rng.normal(size=(groups, dim)))
    truth = np.repeat(np.arange(groups), each)
    noise = rng.normal(size=(groups * each, dim)) * spread / np.sqrt(dim)
    return core_vectors.unit(centres[truth] + noise), truth


def test_planted_clusters_are_recovered():
    vectors, truth = planted(8, 60)
    found = spherical_kmeans(vectors, 24, seed=1)
    # more clusters than groups: none may mix two groups
    for cluster in range(len(found.centroids)):
        assert len(np.unique(truth[found.assignment == cluster])) == 1


def test_hierarchy_of_sizes_numbers_the_clusters():
    found = spherical_kmeans(planted(6, 50)[0], 6, seed=0)
    sizes = np.bincount(found.assignment)
    assert (np.diff(sizes) <= 0).all()
    assert sizes.sum() == 300


def test_centroids_have_unit_length_and_assignment_is_the_brute_force_argmax():
    vectors, _ = planted(5, 100, spread=1.0)
    found = spherical_kmeans(vectors, 20, seed=3)
    np.testing.assert_allclose(np.linalg.norm(found.centroids, axis=1), 1, atol=1e-5)
    products = np.einsum("nd,kd->nk", vectors.astype(np.float64), found.centroids)
    chosen = products[np.arange(len(vectors)), found.assignment]
    np.testing.assert_allclose(chosen, products.max(axis=1), atol=1e-6)


def test_the_same_seed_gives_the_same_bytes_and_another_one_does_not():
    vectors, _ = planted(5, 80, spread=1.0)
    first, again, other = (spherical_kmeans(vectors, 12, seed=s) for s in (7, 7, 8))
    assert first.centroids.tobytes() == again.centroids.tobytes()
    assert first.assignment.tobytes() == again.assignment.tobytes()
    assert first.centroids.tobytes() != other.centroids.tobytes()


def test_inertia_is_close_to_that_of_scikit_learn():
    vectors, _ = planted(10, 60, spread=0.8)
    ours = spherical_kmeans(vectors, 10, seed=0)
    peer = KMeans(10, n_init=5, random_state=0).fit(vectors)
    theirs = core_vectors.unit(peer.cluster_centers_)
    cosine = np.einsum("nd,nd->n", vectors, ours.centroids[ours.assignment]).mean()
    peer_cosine = np.einsum("nd,nd->n", vectors, theirs[neighbours.assign(vectors, theirs)]).mean()
    assert cosine > 0.95 * peer_cosine


def test_a_training_sample_still_assigns_every_row():
    vectors, _ = planted(4, 200, spread=0.5)
    found = spherical_kmeans(vectors, 4, seed=0, train_per_cluster=20)
    assert len(found.assignment) == 800
    assert (found.assignment >= 0).all()


def test_identical_rows_leave_no_empty_cluster():
    vectors = np.repeat(np.eye(3, 8, dtype=np.float32), 40, axis=0)
    found = spherical_kmeans(vectors, 10, seed=0)
    assert (np.bincount(found.assignment) > 0).all()
    assert len(found.centroids) <= 10


def test_more_clusters_than_samples_is_an_error():
    with pytest.raises(DataError, match="k is 5 but there are 4 samples"):
        spherical_kmeans(np.eye(4, dtype=np.float32), 5, seed=0)


def test_k_defaults_to_the_square_root(monkeypatch):
    monkeypatch.setenv(machine.DETECT, "gpus=0")
    assert default_k(117_000) == 342
    vectors, _ = planted(4, 25)
    clusters, figures = macro(vectors, MacroOptions())
    assert figures["clusters_asked"] == 10
    assert 0 < float(str(figures["mean_cosine"])) <= 1
    assert clusters.on == neighbours.ON_CPU


def test_the_incidence_holds_one_kind_a_sample_and_none_for_the_unassigned():
    clusters = Clusters(np.array([1, -1, 0, 1], np.int32), np.eye(2, 4, dtype=np.float32))
    made = incidence_of(clusters)
    assert made.indptr.tolist() == [0, 1, 1, 2, 3]
    assert made.indices.tolist() == [1, 0, 1]
    assert made.counts.tolist() == [1, 1, 1]
    assert made.n_kinds == 2


def test_kinds_name_the_samples_nearest_to_the_centroid():
    centroids = np.eye(2, dtype=np.float32)
    vectors = core_vectors.unit(np.array([[1, 0.5], [1, 0.0], [1, 0.2], [1, 0.9], [0.1, 1]]))
    clusters = Clusters(np.array([0, 0, 0, 0, 1], np.int32), centroids)
    table = kinds_table(clusters, vectors, pa.array(list("abcde")))
    assert table["kind"].to_pylist() == ["cluster-0000", "cluster-0001"]
    assert table["samples"].to_pylist() == [4, 1]
    assert table["examples"].to_pylist() == [["b", "c", "a"], ["e"]]


def test_empty_clusters_are_left_out_and_unassigned_rows_stay_so():
    found = compact(np.array([3, 3, -1, 1], np.int32), np.eye(4, dtype=np.float32))
    assert found.assignment.tolist() == [0, 0, -1, 1]
    assert (found.centroids == np.eye(4)[[3, 1]]).all()


@pytest.mark.parametrize(
    ("noise", "expected"),
    [("drop", [0, 0, -1, 1, -1]), ("nearest", [0, 0, 0, 1, 1]), ("own-kind", [0, 0, 1, 2, 1])],
)
def test_noise_policies(noise, expected):
    vectors = core_vectors.unit(np.array([[1, 0], [1, 0.1], [1, 0.3], [0, 1], [0.3, 1]]))
    settled = hd.settle_noise(vectors, np.array([0, 0, -1, 1, -1], np.int32), noise)
    assert settled.assignment.tolist() == expected


@pytest.mark.parametrize("library", ["hdbscan", "hdbscan-sklearn"])
def test_hdbscan_after_pca_finds_planted_clusters_and_marks_strays(library):
    if library == "hdbscan":
        pytest.importorskip("fast_hdbscan")
    vectors, truth = planted(6, 80, dim=32, spread=0.1)
    strays = core_vectors.unit(np.random.default_rng(5).normal(size=(10, 32)))
    everything = np.concatenate([vectors, strays])
    labels = hd.hdbscan(everything, 15, "pca", 8, seed=0, library=library)
    held = labels[: len(truth)] >= 0
    assert held.mean() > 0.9
    assert adjusted_rand_score(truth[held], labels[: len(truth)][held]) > 0.98
    options = MacroOptions(method=library, reduce="pca", dimensions=8, noise="drop")
    clusters, figures = macro(everything, options)
    assert figures["noise_samples"] == int((clusters.assignment < 0).sum())


@pytest.mark.slow
def test_hdbscan_after_umap_finds_planted_clusters():
    pytest.importorskip("umap")
    vectors, truth = planted(6, 80, dim=32, spread=0.1)
    labels = hd.hdbscan(vectors, 15, "umap", None, seed=0)
    assert adjusted_rand_score(truth, labels) > 0.95


def test_no_cluster_at_all_is_an_error_that_names_the_way_out():
    points = core_vectors.unit(np.random.default_rng(0).normal(size=(40, 16)))
    with pytest.raises(DataError, match="lower `min_cluster_size`"):
        hd.hdbscan(points, 30, "pca", 4, seed=0, library="hdbscan-sklearn")


def test_too_few_dimensions_to_reduce_from_is_an_error():
    with pytest.raises(DataError, match="lower `dimensions`"):
        hd.reduced(np.eye(4, dtype=np.float32), "pca", 4, seed=0)


def test_without_faiss_the_error_names_the_extras(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "faiss", None)
    with pytest.raises(Exception, match=r"sft-diversity\[embed,cpu\]"):
        spherical_kmeans(np.eye(4, dtype=np.float32), 2, seed=0)


def test_more_clusters_than_samples_are_refused_before_anything_is_embedded(topical, tmp_path):
    options = {"strategy": "macro-response", "macro": {"k": 49}}
    with pytest.raises(DataError, match=r"macro\.k is 49 but there are 48 samples; lower it"):
        make("index", options, tmp_path / "index", topical)
    assert list(tmp_path.iterdir()) == []


def test_the_index_is_that_of_the_embeddings(topical, tiny, tmp_path):
    options = {"strategy": "macro-response", "macro": {"k": 4}, "encoder": str(tiny)}
    manifest = make("index", options, tmp_path / "index", topical)
    (embeddings,) = (tmp_path / "work" / "embed").iterdir()
    ids, vectors = core_vectors.read_component(embeddings, "response")
    clusters, figures = macro(vectors, MacroOptions(k=4))
    stored = incidence.load(tmp_path / "index")
    assert stored.indices.tolist() == clusters.assignment.tolist()
    assert incidence.load_ids(tmp_path / "index").to_pylist() == ids.to_pylist()
    assert (np.load(tmp_path / "index" / "centroids.npy") == clusters.centroids).all()
    assert manifest["result"].items() >= figures.items()
    assert manifest["run"]["device"] == "cpu"
