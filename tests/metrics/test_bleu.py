from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics.bleu import BLEU

from sft_diversity.metrics.texts import numbered, self_bleu

TEXTS = st.lists(
    st.lists(st.sampled_from(["a", "b", "c", "d.", "1,5"]), max_size=9).map(" ".join),
    min_size=2,
    max_size=8,
)


def peer(texts):
    bleu = BLEU(effective_order=True)
    return [
        bleu.sentence_score(text, texts[:i] + texts[i + 1 :]).score / 100
        for i, text in enumerate(texts)
    ]


@given(TEXTS)
@settings(max_examples=300)
def test_each_score_is_that_of_sacrebleu(texts):
    assert self_bleu(numbered(texts)) == pytest.approx(peer(texts), abs=1e-12)


def test_real_sentences_score_as_in_sacrebleu():
    texts = [
        "The cat sat on the mat, and the dog sat on the cat.",
        "The dog sat on the mat.",
        "A list of 3.5 things: mats, cats & dogs.",
        "Entirely different words stand here",
    ]
    assert self_bleu(numbered(texts)) == pytest.approx(peer(texts), abs=1e-12)


def test_equal_texts_score_one_and_strangers_zero():
    assert self_bleu(numbered(["a b c d e"] * 3)) == pytest.approx([1.0] * 3)
    assert self_bleu(numbered(["a b", "c d", "e f"])).tolist() == [0.0] * 3


def test_empty_texts_score_zero_without_a_warning():
    assert self_bleu(numbered(["", "a b", ""])).tolist() == [0.0, 0.0, 0.0]


def test_one_text_has_no_references():
    with pytest.raises(ValueError, match="two texts"):
        self_bleu(numbered(["a"]))


def test_scores_do_not_depend_on_the_order_of_the_texts():
    texts = ["a b c", "b c d a", "a b", "c c c a b"]
    order = np.array([2, 0, 3, 1])
    moved = self_bleu(numbered([texts[i] for i in order]))
    assert moved == pytest.approx(self_bleu(numbered(texts))[order])
