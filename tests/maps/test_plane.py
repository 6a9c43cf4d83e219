"""Places: seeded, within their frame, beside what they are most alike to."""

from __future__ import annotations

import numpy as np
import pytest

from sft_diversity.core.incidence import Incidence
from sft_diversity.maps import plane, regions
from sft_diversity.maps.table import nearest_rows


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def groups(each=40, apart=5.0, seed=1):
    """Unit vectors around two directions."""
    rng = np.random.default_rng(seed)
    centres = np.repeat([[apart] + [0.0] * 7, [-apart] + [0.0] * 7], each, axis=0)
    return (centres + rng.normal(size=centres.shape)).astype(np.float32)


@pytest.mark.parametrize("layout", ["pca", "tsne"])
def test_a_map_lies_in_its_frame_and_is_drawn_by_seed(layout):
    points = np.random.default_rng(0).normal(size=(80, 8)).astype(np.float32)
    laid = plane.scaled(plane.laid_out(points, layout, 0))
    assert laid.min() >= 0
    assert laid.max() <= plane.SIDE
    assert (laid == plane.scaled(plane.laid_out(points, layout, 0))).all()


def test_two_groups_stay_apart():
    laid = plane.laid_out(groups(), "tsne", 0)
    middles = laid[:40].mean(axis=0), laid[40:].mean(axis=0)
    spread = max(laid[:40].std(), laid[40:].std())
    assert np.linalg.norm(middles[0] - middles[1]) > spread


def test_samples_stand_beside_the_landmarks_that_they_are_most_alike_to():
    points = unit(groups(each=300))
    chosen = np.arange(0, 600, 5)
    flat = plane.scaled(plane.laid_out(points[chosen], "tsne", 0))
    places = plane.all_places(points, points[chosen], flat, 0)
    assert np.linalg.norm(places[chosen] - flat, axis=1).max() < plane.SIDE / 20
    best = flat[(points @ points[chosen].T).argmax(axis=1)]
    assert np.linalg.norm(places - best, axis=1).max() <= plane.SIDE / 20 + 5 * plane.spacing(flat)
    left = places[:300].mean(axis=0)
    assert np.linalg.norm(left - places[300:].mean(axis=0)) > places[:300].std()


def test_neighbours_are_those_of_brute_force_and_never_oneself():
    points = unit(np.random.default_rng(3).normal(size=(70, 6)))
    rows, far = nearest_rows(points, 5)
    for row, point in enumerate(points):
        order = sorted((1 - float(point @ other), i) for i, other in enumerate(points) if i != row)
        assert rows[row].tolist() == [i for _, i in order[:5]]
        assert far[row] == pytest.approx([distance for distance, _ in order[:5]], abs=1e-5)
    assert nearest_rows(points[:1], 5)[0].shape == (1, 0)
    assert nearest_rows(points[:3], 5)[0].shape == (3, 2)


def test_samples_of_the_same_kinds_are_near_and_those_without_have_no_direction():
    held = [[0, 1, 2], [0, 1, 2], [0, 1], [5, 6, 7], [5, 6, 7], []]
    indptr = np.cumsum([0, *map(len, held)])
    flat = np.array([kind for row in held for kind in row], np.int32)
    given = Incidence(indptr, flat, np.ones_like(flat), 8)
    points = plane.vectors_of_kinds(given, 0)
    cosines = points @ points.T
    assert cosines[0, 1] == pytest.approx(1, abs=1e-5)
    assert cosines[3, 4] == pytest.approx(1, abs=1e-5)
    assert cosines[0, 2] > 0.5 > abs(cosines[0, 3]) + 0.3
    assert not points[5].any()


def test_regions_are_named_by_words_that_are_theirs():
    texts = ["the cat sat"] * 6 + ["the dog ran"] * 6 + ["nothing here"] * 60
    region = np.array([0] * 6 + [1] * 6 + [2] * 60)
    assert regions.name_regions(texts, region, 3) == [["cat sat"], ["dog ran"], []]


def test_function_words_name_nothing_and_a_phrase_stands_for_its_words():
    here = ["It's in Los Angeles, of the state that isn't Nevada.", "What about Los Angeles? Rain!"]
    texts = here * 10 + ["What of the snow that is in the state of Alaska?"] * 30
    region = np.array([0] * 20 + [1] * 30)
    first, second = regions.name_regions(texts, region, 2)
    assert first[0] == "los angeles"
    assert set(second) == {"snow", "state", "alaska"}


def test_a_word_names_the_one_region_that_it_marks_most():
    texts = ["answer: river"] * 9 + ["water"] + ["answer: sand"] * 5 + ["dune"] * 5 + ["sky"] * 20
    region = np.repeat([0, 1, 2], [10, 10, 20])
    named = regions.name_regions(texts, region, 3)
    assert named == [["answer", "river"], ["dune", "sand"], ["sky"]]
    order = np.random.default_rng(0).permutation(40)
    assert regions.name_regions([texts[i] for i in order], region[order], 3) == named


def test_regions_without_words_have_no_name():
    assert regions.name_regions(["", "1 + 1 = 2"], np.array([0, 1]), 2) == [[], []]
