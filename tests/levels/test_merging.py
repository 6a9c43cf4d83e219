import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft_diversity.levels import merging
from sft_diversity.levels.merging import merge_to_leaders


def unit(rows):
    vectors = np.array(rows, dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def by_hand(vectors, frequency, threshold):
    """One unit after another, in plain Python."""
    leaders, leads = [], {}
    for i in sorted(range(len(vectors)), key=lambda i: (-frequency[i], i)):
        cosines = [float(vectors[i] @ vectors[j]) for j in leaders]
        if cosines and max(cosines) >= threshold:
            leads[i] = leaders[cosines.index(max(cosines))]
        else:
            leads[i] = i
            leaders.append(i)
    return [leads[i] for i in range(len(vectors))]


def test_a_rare_unit_joins_the_more_frequent_one():
    vectors = unit([[1, 0], [1, 0.1], [0, 1]])
    assert merge_to_leaders(vectors, np.array([3, 9, 5]), 0.9).tolist() == [1, 1, 2]


def test_members_do_not_chain():
    angles = np.deg2rad([0, 20, 40])  # neighbours are alike, the ends are not
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    assert merge_to_leaders(vectors, np.array([9, 5, 3]), 0.9).tolist() == [0, 0, 2]


@pytest.mark.parametrize("block", [1, 3, 1024])
@given(data=st.data())
def test_it_equals_taking_the_units_one_by_one(block, data):
    many = data.draw(st.integers(1, 12))
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    vectors = unit(rng.normal(size=(many, 3)))
    frequency = rng.integers(1, 4, size=many)
    threshold = data.draw(st.sampled_from([0.3, 0.8, 0.95]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(merging, "_BLOCK", block)
        merged = merge_to_leaders(vectors, frequency, threshold)
    assert merged.tolist() == by_hand(vectors, frequency, threshold)


@given(st.integers(1, 20), st.integers(0, 99))
def test_every_unit_is_within_the_threshold_of_its_leader(many, seed):
    rng = np.random.default_rng(seed)
    vectors = unit(rng.normal(size=(many, 4)))
    leader = merge_to_leaders(vectors, rng.integers(1, 9, size=many), 0.7)
    assert (leader[leader] == leader).all()
    assert (np.sum(vectors * vectors[leader], axis=1) >= 0.7 - 1e-6).all()
