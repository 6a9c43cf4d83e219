from __future__ import annotations

import subprocess
from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

from sft_diversity.metrics.texts import (
    compression_ratio,
    distinct_ratio,
    length_figures,
    ngrams,
    numbered,
    rarefied_ratio,
    split,
)

TRICKY = st.text(alphabet="ab 19.,-/\n&;'\"()<>é中lt@_", max_size=60)
TEXTS = st.lists(st.lists(st.sampled_from("abcd"), max_size=9).map(" ".join), max_size=6)


@given(TRICKY | st.text(max_size=40))
def test_words_are_those_of_sacrebleu(text):
    assert split(text) == Tokenizer13a()(text.rstrip()).split()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Hello, world.", ["Hello", ",", "world", "."]),
        ("3.14 is 1,000-fold", ["3.14", "is", "1,000", "-", "fold"]),
        ("Tom &amp; Jerry", ["Tom", "&", "Jerry"]),
        ("", []),
    ],
)
def test_words_of_a_text(text, words):
    assert split(text) == words


def test_numbers_tell_words_apart_and_texts_keep_their_places():
    words = numbered(["a b a", "", "b c"])
    assert words.starts.tolist() == [0, 3, 3, 5]
    assert words.ids.tolist() == [0, 1, 0, 1, 2]
    assert words.vocabulary == 3


def test_words_taken_are_those_of_the_texts_taken():
    words = numbered(["a b a", "", "b c"]).take(np.array([2, 0]))
    assert words.ids.tolist() == [1, 2, 0, 1, 0]
    assert words.lengths.tolist() == [2, 3]


def by_hand(texts, order):
    rows = [text.split() for text in texts]
    return [tuple(row[i : i + order]) for row in rows for i in range(len(row) - order + 1)]


@given(TEXTS)
def test_ngrams_are_those_counted_by_hand_and_none_spans_two_texts(texts):
    for order, (grams, owners) in enumerate(ngrams(numbered(texts), 4), start=1):
        expected = by_hand(texts, order)
        assert len(grams) == len(expected)
        assert len(set(zip(grams.tolist(), expected, strict=True))) == len(set(expected))
        assert len(set(grams.tolist())) == len(set(expected))
        lengths = [max(len(text.split()) - order + 1, 0) for text in texts]
        assert np.bincount(owners, minlength=len(texts)).tolist() == lengths


def test_distinct_ratio_is_types_over_tokens():
    assert distinct_ratio(np.array([3, 1])) == 0.5
    assert distinct_ratio(np.array([], dtype=np.int64)) is None


@given(st.lists(st.integers(1, 6), min_size=1, max_size=6), st.integers(1, 5))
def test_rarefied_ratio_is_the_mean_over_all_draws(counts, size):
    tokens = [kind for kind, count in enumerate(counts) for _ in range(count)][:11]
    held = np.array(list(Counter(tokens).values()))
    found = rarefied_ratio(held, size)
    if len(tokens) < size:
        assert found is None
        return
    draws = [len(set(draw)) / size for draw in combinations(tokens, size)]
    assert found == pytest.approx(np.mean(draws))


def test_lengths_of_three_texts():
    found = length_figures(np.array([1, 2, 9]), ["ab", "", "abcd"])
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
