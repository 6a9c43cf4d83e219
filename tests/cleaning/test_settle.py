"""Who stays, against brute force over all pairs."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sft_diversity.cleaning import minhash, settle
from sft_diversity.cleaning import pairs as pairing
from sft_diversity.cleaning.chain import chain
from sft_diversity.core import vectors
from tests.cleaning import making

WORDS = st.lists(st.sampled_from(["a", "b", "c", "d", "+"]), min_size=0, max_size=6)
PAIRS = st.lists(st.tuples(WORDS.map(" ".join), WORDS.map(" ".join)), min_size=1, max_size=14)


def nothing(_):
    return None


def ignore(*_):
    return None


def by_words(pairs, least):
    """Evidence in which every pair is a candidate, and the same by plain Python."""
    values, bounds = minhash.sets(*zip(*pairs, strict=True), 2)
    buckets = np.zeros((len(pairs), 1), np.int32)
    alike = settle.Alike(buckets, 1, values, bounds, jaccard=least)
    n = len(pairs)
    brute = np.full((n, n), -1.0)
    for i in range(n):
        for j in range(n):
            found = making.jaccard(pairs[i], pairs[j], 2)
            brute[i, j] = found if found >= least else -1.0
    return alike, brute


def by_vectors(seed, n, least, dims=(3, 2)):
    rng = np.random.default_rng(seed)
    # near a few directions, so that many pairs are near the threshold
    made = [
        vectors.unit(rng.normal(size=(3, d))[rng.integers(0, 3, n)] + 0.2 * rng.normal(size=(n, d)))
        for d in dims
    ]
    exact = [m.astype(np.float64) @ m.astype(np.float64).T for m in made]
    lowest = np.minimum(*exact) if len(exact) == 2 else exact[0]
    more = made[1] if len(made) == 2 else settle.NOTHING
    alike = settle.Alike(np.zeros((n, 0), np.int32), vectors=made[0], more=more, cosine=least)
    return alike, np.where(lowest >= least, lowest, -1.0)


@given(pairs=PAIRS, least=st.sampled_from([0.3, 0.5, 0.8, 1.0]), seed=st.integers(0, 99))
def test_samples_settle_as_the_rule_says(pairs, least, seed):
    alike, brute = by_words(pairs, least)
    order = np.random.default_rng(seed).permutation(len(pairs)).astype(np.int32)
    verdicts = settle.direct(order, alike, nothing, ignore)
    staying, twins = making.settle(order, brute)
    assert {int(r) for r in np.flatnonzero(verdicts.twin < 0)} == {int(r) for r in staying}
    assert {int(a): int(b) for a, b in twins.items()} == {
        int(r): int(verdicts.twin[r]) for r in np.flatnonzero(verdicts.twin >= 0)
    }
    for row, twin in twins.items():
        assert verdicts.similarity[row] == brute[row, twin] >= least


@pytest.mark.parametrize("block", [1, 7, 2_048])
@pytest.mark.parametrize("dims", [(3, 2), (4,)])
def test_cosines_settle_the_same_in_blocks_of_any_size(monkeypatch, block, dims):
    monkeypatch.setattr(settle, "BLOCK", block)
    for seed in range(20):
        alike, brute = by_vectors(seed, 60, 0.93, dims)
        order = np.random.default_rng(seed).permutation(60).astype(np.int32)
        verdicts = settle.direct(order, alike, nothing, ignore)
        staying, twins = making.settle(order, brute)
        assert (np.sort(staying) == np.flatnonzero(verdicts.twin < 0)).all()
        for row, twin in twins.items():
            assert verdicts.twin[row] == twin
            assert verdicts.similarity[row] == pytest.approx(brute[row, twin], abs=1e-6)
            assert verdicts.by[row] == pairing.COSINE


@given(pairs=PAIRS, least=st.sampled_from([0.3, 0.5, 0.8]), seed=st.integers(0, 99))
def test_a_chain_leaves_the_first_of_each_connected_cluster(pairs, least, seed):
    alike, brute = by_words(pairs, least)
    order = np.random.default_rng(seed).permutation(len(pairs)).astype(np.int32)
    check_chain(order, chain(order, alike, nothing, ignore), brute, making.clusters)


def test_chains_by_cosine_are_connected_clusters():
    for seed in range(10):
        alike, brute = by_vectors(seed, 60, 0.9)
        order = np.random.default_rng(seed).permutation(60).astype(np.int32)
        check_chain(order, chain(order, alike, nothing, ignore), brute, making.clusters)


def check_chain(order, verdicts, brute, clusters):
    rank = np.argsort(order)
    for row, cluster in enumerate(clusters(len(order), brute)):
        first = min(cluster, key=lambda member: rank[member])
        assert verdicts.twin[row] == (-1 if row == first else first)
        if row != first:
            linked = verdicts.linked[row]
            assert verdicts.similarity[row] == pytest.approx(brute[row, linked], abs=1e-6)
            assert verdicts.similarity[row] >= 0


@given(pairs=PAIRS, seed=st.integers(0, 99))
def test_how_samples_are_numbered_changes_nothing(pairs, seed):
    alike, _ = by_words(pairs, 0.5)
    n = len(pairs)
    order = np.arange(n, dtype=np.int32)
    verdicts = settle.direct(order, alike, nothing, ignore)
    moved = np.random.default_rng(seed).permutation(n)  # place -> sample
    other, _ = by_words([pairs[i] for i in moved], 0.5)
    place = np.argsort(moved).astype(np.int32)
    again = settle.direct(place, other, nothing, ignore)
    back = [int(moved[t]) if t >= 0 else -1 for t in again.twin[place]]
    assert back == verdicts.twin.tolist()


@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_both_measures_together_leave_no_twins_and_lose_none(seed):
    rng = np.random.default_rng(seed)
    letters = rng.integers(0, 2, (40, 6))
    pairs = [(" ".join("ab"[c] for c in row), "x") for row in letters]
    words, brute_words = by_words(pairs, 0.7)
    cosines, brute_cosines = by_vectors(seed, 40, 0.98)
    both = settle.Alike(
        words.buckets, 1, words.values, words.bounds, 0.7, cosines.vectors, cosines.more, 0.98
    )
    order = rng.permutation(40).astype(np.int32)
    verdicts = settle.direct(order, both, nothing, ignore)
    stays = np.flatnonzero(verdicts.twin < 0)
    alike = (brute_words >= 0) | (brute_cosines >= 0)
    assert alike[np.ix_(stays, stays)].sum() == np.diag(alike)[stays].sum()
    for row in np.flatnonzero(verdicts.twin >= 0):
        assert verdicts.twin[row] in stays
        measure = brute_words if verdicts.by[row] == pairing.MINHASH else brute_cosines
        assert measure[row, verdicts.twin[row]] >= 0


@pytest.mark.parametrize("way", [settle.direct, chain])
def test_blocks_that_were_kept_are_not_made_again(monkeypatch, way):
    monkeypatch.setattr(settle, "BLOCK", 8)
    monkeypatch.setattr(sys.modules[chain.__module__], "BLOCK", 8)
    alike, _ = by_vectors(3, 60, 0.93)
    order = np.random.default_rng(3).permutation(60).astype(np.int32)
    stored = {}
    whole = way(order, alike, nothing, stored.__setitem__)
    assert len(stored) == 8
    for number in range(9):
        kept = {k: v for k, v in stored.items() if k < number}
        made = []
        again = way(order, alike, kept.get, lambda block, _, made=made: made.append(block))
        assert made == list(range(number, 8))
        for one, other in zip(whole, again, strict=True):
            assert (one == other).all()
