"""Words, shingles and MinHash candidates against plain Python."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft_diversity.cleaning import minhash, pairs, words
from tests.cleaning import making

TEXT = st.text(st.sampled_from("ab A.'_9-é漢 \nﬁ’"), max_size=40)


@given(a=st.tuples(TEXT, TEXT), b=st.tuples(TEXT, TEXT), size=st.integers(1, 4))
def test_jaccard_is_that_of_sets_of_shingles(a, b, size):
    values, bounds = minhash.sets([a[0], b[0]], [a[1], b[1]], size)
    wanted = making.jaccard(a, b, size)
    assert pairs.jaccard(values, bounds, 0, 1, 0.0) == wanted
    for least in (0.3, 0.8, 1.0):
        kept = wanted if wanted >= least else -1.0
        assert pairs.jaccard(values, bounds, 1, 0, least) == kept


def test_words_and_signs_are_told_apart():
    spelled = words.spelled("Janet’s x-ray: 漢字 No.2")
    assert spelled == ["janet", "s", "x", "ray", "漢", "字", "no", "2"]
    with_signs, starts = words.hashed(["x - 2", "x + 2", "X  -2", "x’s – y"], symbols=True)
    assert np.diff(starts).tolist() == [3, 3, 3, 5]
    assert (with_signs[:3] == with_signs[6:9]).all()
    assert with_signs[1] != with_signs[4]
    without, starts = words.hashed(["x - 2", "x + 2", "x’s", "x's"], symbols=False)
    assert np.diff(starts).tolist() == [2] * 4
    assert (without[:2] == without[2:4]).all()
    assert (without[4:6] == without[6:]).all()


def test_no_text_has_no_shingles_and_no_bucket():
    values, bounds = minhash.sets(["", "", "a"], ["", " \n", ""], 3)
    assert bounds.tolist() == [0, 0, 0, 0, 0, 1, 1]
    assert pairs.jaccard(values, bounds, 0, 1, 0.0) == -1.0
    keys = minhash.band_keys(values, bounds, minhash.Bands(4, 2), 0)
    numbers, total = minhash.buckets(keys)
    assert total == 0
    assert (numbers == -1).all()


@pytest.mark.parametrize("least", [0.5, 0.7, 0.8, 0.95, 1.0])
def test_bands_are_as_long_as_the_miss_allows(least):
    bands = minhash.banding(least, 128)
    assert bands.found(least) >= 0.995
    assert bands.number * bands.rows <= 128
    longer = minhash.Bands(128 // (bands.rows + 1), bands.rows + 1)
    assert bands.rows == 128 or longer.found(least) < 0.995


def test_pairs_at_the_threshold_become_candidates():
    """2,000 pairs of exactly 0.8: misses stay near the 0.17 % that the banding promises."""
    rng = np.random.default_rng(0)
    shared = rng.integers(1, 2**63, (2_000, 80), dtype=np.uint64)
    values, bounds = [], [0]
    for row in shared:
        for extra in rng.integers(1, 2**63, (2, 10), dtype=np.uint64):
            values.append(np.sort(np.concatenate([row, extra])))
            bounds += [bounds[-1] + 90] * 2
    flat, ends = np.concatenate(values), np.array(bounds, np.int64)
    assert pairs.jaccard(flat, ends, 0, 1, 0.0) == 0.8
    bands = minhash.banding(0.8, 128)
    numbers, _ = minhash.buckets(minhash.band_keys(flat, ends, bands, 7))
    twins = numbers.reshape(2_000, 2, -1)
    met = ((twins[:, 0] == twins[:, 1]) & (twins[:, 0] >= 0)).any(axis=1)
    assert met.mean() > 0.99


def test_strangers_seldom_share_a_bucket():
    rng = np.random.default_rng(1)
    flat = np.sort(rng.integers(1, 2**63, (500, 90), dtype=np.uint64), axis=1).ravel()
    ends = np.repeat(np.arange(501) * 90, 2)[1:].astype(np.int64)
    keys = minhash.band_keys(flat, ends, minhash.banding(0.8, 128), 0)
    assert minhash.buckets(keys)[1] == 0
