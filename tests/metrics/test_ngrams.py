from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft_diversity.metrics.ngrams import distinct_ratio, ngrams, rarefied_ratio
from sft_diversity.metrics.words import number

TEXTS = st.lists(st.lists(st.sampled_from("abcd"), max_size=9).map(" ".join), max_size=6)


def by_hand(texts, order):
    rows = [text.split() for text in texts]
    return [tuple(row[i : i + order]) for row in rows for i in range(len(row) - order + 1)]


@given(TEXTS)
def test_ngrams_are_those_counted_by_hand_and_none_spans_two_texts(texts):
    for order, (grams, owners) in enumerate(ngrams(number(texts), 4), start=1):
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
    from itertools import combinations

    tokens = [kind for kind, count in enumerate(counts) for _ in range(count)][:11]
    held = np.array(list(Counter(tokens).values()))
    found = rarefied_ratio(held, size)
    if len(tokens) < size:
        assert found is None
        return
    draws = [len(set(draw)) / size for draw in combinations(tokens, size)]
    assert found == pytest.approx(np.mean(draws))
