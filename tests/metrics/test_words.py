from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

from sft_diversity.metrics.words import number, split

TRICKY = st.text(alphabet="ab 19.,-/\n&;'\"()<>é中lt@_", max_size=60)


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
    words = number(["a b a", "", "b c"])
    assert words.starts.tolist() == [0, 3, 3, 5]
    assert words.ids.tolist() == [0, 1, 0, 1, 2]
    assert words.vocabulary == 3


def test_words_taken_are_those_of_the_texts_taken():
    words = number(["a b a", "", "b c"]).take(np.array([2, 0]))
    assert words.ids.tolist() == [1, 2, 0, 1, 0]
    assert words.lengths.tolist() == [2, 3]
