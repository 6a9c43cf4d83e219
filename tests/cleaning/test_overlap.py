"""n-gram overlap with evaluation texts against plain Python."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sft_diversity.cleaning import overlap
from sft_diversity.cleaning.evalfiles import EvalText
from sft_diversity.cleaning.words import spelled

WORDS = st.lists(st.sampled_from(["a", "B", "c,", "é", "-"]), max_size=12).map(" ".join)


def text(words, role="prompt", row=0):
    return EvalText("set", row, "field", role, words)


def found_in(pairs, texts, size, least, common=10**9):
    sought = overlap.grams(texts, size, least)
    hits = overlap.look_up(*zip(*pairs, strict=True), sought)
    return sought, overlap.overlaps(hits, len(pairs), sought, common)


def grams_of(words, size, least, role):
    words = tuple(spelled(words))
    if len(words) >= size:
        return {words[i : i + size] for i in range(len(words) - size + 1)}
    if words and len(words) >= min(least, size):
        return {words}
    return {("whole", *words)} if words and role == "prompt" else set()


def held(gram, pair):
    if gram[0] == "whole":
        return tuple(spelled(pair[0])) == gram[1:]
    for part in map(spelled, pair):
        if any(tuple(part[i : i + len(gram)]) == gram for i in range(len(part) - len(gram) + 1)):
            return True
    return False


@given(
    pairs=st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=5),
    texts=st.lists(st.tuples(WORDS, st.sampled_from(["prompt", "reference"])), max_size=5),
    size=st.integers(2, 5),
    least=st.integers(1, 4),
)
def test_without_boilerplate_any_shared_gram_contaminates(pairs, texts, size, least):
    made = [text(words, role, row) for row, (words, role) in enumerate(texts)]
    sought, found = found_in(pairs, made, size, least)
    wanted = {}
    for row, pair in enumerate(pairs):
        best = None
        for number, (words, role) in enumerate(texts):
            grams = grams_of(words, size, least, role)
            shared = sum(held(gram, pair) for gram in grams)
            if shared and (best is None or shared / len(grams) > best[0]):
                best = (shared / len(grams), number, shared)
        if best:
            wanted[row] = best
    assert found.rows.tolist() == sorted(wanted)
    for k, row in enumerate(found.rows.tolist()):
        assert (found.share[k], found.texts[k], found.shared[k]) == wanted[row]
        shown = tuple(sought.spelled(int(found.grams[k]), int(found.texts[k])).split())
        assert held(shown, pairs[row])


TEMPLATE = "you are a kind doctor who answers all questions of worried patients in plain words "


def test_a_template_is_boilerplate_and_so_are_grams_at_its_end():
    pairs = [(TEMPLATE + f"my {part} hurts since {i} days", "see one") for i, part in
             enumerate(["toe", "ear", "eye", "arm"] * 10)]  # fmt: skip
    texts = [text(TEMPLATE + "my toe hurts and i would like to know what to do about it at home")]
    _, found = found_in(pairs, texts, 8, 6, common=10)
    assert not len(found.rows)
    _, found = found_in(pairs, texts, 8, 6, common=100)
    assert len(found.rows) == 40


def test_a_text_held_whole_contaminates_however_many_hold_it():
    pairs = [(TEMPLATE, f"answer {i}") for i in range(50)]
    _, found = found_in(pairs, [text(TEMPLATE)], 8, 6, common=10)
    assert len(found.rows) == 50
    assert (found.share == 1).all()


def test_short_texts_count_whole_and_shorter_prompts_as_whole_instructions():
    pairs = [
        ("Tell me: who wrote the book of love and hate?", "x"),
        ("who wrote it", "x"),
        ("Who wrote it?", "x"),
        ("and who wrote it", "who wrote it"),
    ]
    texts = [
        text("Who wrote the book of love?"),
        text("who wrote it"),
        text("x", "reference"),
    ]
    _, found = found_in(pairs, texts, 8, 5)
    assert found.rows.tolist() == [0, 1, 2]
    assert found.texts.tolist() == [0, 1, 1]


def test_texts_without_words_hold_nothing():
    sought = overlap.grams([text("?!"), text("...", "reference")], 13, 8)
    assert not len(sought.hashes)
    assert not len(overlap.look_up(["?!"], ["a"], sought).rows)


def test_a_planted_13_gram_is_found_at_any_place():
    rng = np.random.default_rng(0)
    vocabulary = [f"w{i}" for i in range(5_000)]
    question = list(rng.choice(vocabulary, 40))
    plain = [(" ".join(rng.choice(vocabulary, 60)), " ".join(rng.choice(vocabulary, 60)))
             for _ in range(60)]  # fmt: skip
    planted = []
    for i, pair in enumerate(plain):
        part = [words.split() for words in pair]
        at, start = int(rng.integers(0, 61)), int(rng.integers(0, 28))
        length = 13 if i % 3 == 0 else 12
        part[i % 2][at:at] = question[start : start + length]
        planted.append(tuple(" ".join(words) for words in part))
    _, found = found_in(planted, [text(", ".join(question).upper())], 13, 8, common=10)
    assert found.rows.tolist() == list(range(0, 60, 3))
