import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sft_diversity.levels.candidates import (
    HEAD,
    JOINER,
    LIGHT,
    OPTIONS,
    SENTENCE,
    TAIL,
    TASK,
    VERB,
    find_candidates,
    pack,
    place_weights,
    sentence_keys,
    unpack,
)
from sft_diversity.levels.stream import read_stream

NOUN = HEAD | TAIL
NO_FORM = np.empty(0, dtype=np.uint64)
WHAT = {"Write": TASK | VERB, "short": LIGHT, "story": NOUN, "area": NOUN, "of": JOINER}
WHAT |= {"rectangle": NOUN, "old": 0, "dog": NOUN, "runs": VERB, "good": LIGHT, "way": LIGHT | NOUN}


def candidates_of(text):
    stream = read_stream([text])
    bits = np.array([WHAT[word] for word in stream.words], dtype=np.int32)
    found = find_candidates(stream.codes, stream.starts, bits, NO_FORM)
    good = unpack(found.keys[found.weights > 0])
    return {" ".join(stream.words[w] for w in row if w >= 0) for row in good.tolist()}


def test_an_instruction_gives_its_object_and_its_verb_with_it():
    assert candidates_of("Write a short story.") == {
        "story",
        "short story",
        "Write short story",
        "Write story",
    }


def test_of_joins_two_nouns_and_stands_at_no_end():
    assert candidates_of("area of the rectangle") == {"area", "rectangle", "area of rectangle"}


def test_function_words_and_marks_end_a_phrase():
    assert candidates_of("dog, rectangle with story") == {"dog", "rectangle", "story"}


def test_light_words_alone_name_nothing_and_verbs_do_not_begin():
    assert candidates_of("good way") == set()
    assert candidates_of("runs dog") == {"dog"}
    assert candidates_of("old dog") == {"dog", "old dog"}


def test_the_edges_of_a_text_weigh_more_than_its_middle_and_choices_least():
    stream = read_stream(["dog.\nstory.\narea.\nrectangle.\ndog.\nOptions:\nstory"])
    weights = place_weights(stream.codes, stream.starts)
    words = [stream.words[c] if c >= 0 else c for c in stream.codes.tolist()]
    placed = [(w, round(float(x), 2)) for w, x in zip(words, weights, strict=True) if x]
    assert placed == [
        ("dog", 1.0),
        ("story", 0.7),
        ("area", 0.4),
        ("rectangle", 0.4),
        ("dog", 0.7),
        ("story", 0.2),
    ]
    assert weights[np.isin(stream.codes, (SENTENCE, OPTIONS))].sum() == 0


def test_equal_sentences_have_equal_keys_and_form_weighs_little():
    stream = read_stream(["area of dog. story", "story. area of dog."])
    keys = sentence_keys(stream.codes, stream.starts)
    of = {w: keys[stream.codes == stream.words.index(w)].tolist() for w in ("dog", "story")}
    assert of["dog"][0] == of["dog"][1] != of["story"][0] == of["story"][1]
    bits = np.array([WHAT[word] for word in stream.words], dtype=np.int32)
    form = np.unique(np.array(of["dog"][:1], dtype=np.uint64))
    light = find_candidates(stream.codes, stream.starts, bits, form)
    full = find_candidates(stream.codes, stream.starts, bits, NO_FORM)
    shares = light.weights / np.maximum(full.weights, 1e-9)
    assert {round(float(share), 3) for share in shares} == {0.0, 0.2, 1.0}


@given(st.lists(st.lists(st.integers(0, 2_000_000), min_size=1, max_size=3), min_size=1))
def test_packing_is_undone_by_unpacking(rows):
    words = np.array([row + [-1] * (3 - len(row)) for row in rows], dtype=np.int32)
    assert np.array_equal(unpack(pack(words)), words)
