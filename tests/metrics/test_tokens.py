from __future__ import annotations

import subprocess

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy

from sft_diversity.metrics.tokens import compression_ratio, entropy_bits, lengths


@given(st.lists(st.integers(0, 50), min_size=1, max_size=30))
def test_entropy_is_that_of_scipy(counts):
    held = np.array(counts)
    expected = entropy(held, base=2) if held.sum() else 0.0
    assert entropy_bits(held) == pytest.approx(float(expected), abs=1e-9)


def test_lengths_of_three_texts():
    found = lengths(np.array([1, 2, 9]), ["ab", "", "abcd"])
    assert found["tokens_mean"] == 4
    assert found["tokens_median"] == 2
    assert found["tokens_p90"] == pytest.approx(7.6)
    assert found["characters_mean"] == 2


def test_compression_is_that_of_the_gzip_program():
    texts = ["the same words again", "the same words again", "and others", "é中"] * 50
    raw = " ".join(texts).encode()
    packed = subprocess.run(["gzip", "-9nc"], input=raw, capture_output=True, check=True).stdout
    assert compression_ratio(texts) == pytest.approx(len(raw) / len(packed), rel=0.02)


def test_repetition_compresses_better_and_nothing_has_no_ratio():
    varied = np.random.default_rng(0).bytes(2000).hex()
    assert compression_ratio(["again"] * 800) > 10 * compression_ratio([varied])
    assert compression_ratio([""]) is None
