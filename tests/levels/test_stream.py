import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft_diversity.levels.candidates import OPTIONS, SENTENCE, TRANSPARENT
from sft_diversity.levels.stream import read_stream


def words_of(text):
    stream = read_stream([text])
    return [stream.words[code] for code in stream.codes if code >= 0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The patient's well-known café", ["patient", "well", "known", "café"]),
        ("isArithmeticProgression", ["Arithmetic", "Progression"]),
        ("JavaScript and find_longest_word", ["JavaScript", "find", "longest", "word"]),
        ("<b>bold</b> &amp; https://example.org/a-b?c=d www.example.org", ["bold"]),
        ("C# and C++ 2nd h2o utf8", ["C#", "C++", "h2o", "utf8"]),
        (r"\frac{alpha}{beta} $x$", ["alpha", "beta"]),
        ("don't they've it's newton's", ["newton"]),
        ("你好世界", ["你好", "好世", "世界"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
        ("Größe naïve Ελλάδα", ["Größe", "naïve", "Ελλάδα"]),
        ("QUJD" * 20, []),
        ("🙂 … 42 3.14 ½ ", []),
        ("", []),
    ],
)
def test_words_are_what_a_reader_takes_for_words(text, words):
    assert words_of(text) == words


def test_articles_are_passed_over_and_lists_of_choices_marked():
    codes = read_stream(["Pick the animal.\nOptions:\n- cat"]).codes.tolist()
    assert codes.count(OPTIONS) == 1
    assert codes.index(TRANSPARENT) < codes.index(OPTIONS)


@given(st.lists(st.text(max_size=40), max_size=6))
def test_every_text_has_its_own_stretch_of_the_stream(texts):
    stream = read_stream(texts)
    assert len(stream.starts) == len(texts) + 1
    assert stream.starts[-1] == len(stream.codes)
    for i, text in enumerate(texts):
        part = stream.codes[stream.starts[i] : stream.starts[i + 1]]
        assert part[-1] == SENTENCE
        alone = read_stream([text])
        named = [stream.words[code] for code in part if code >= 0]
        assert named == [alone.words[code] for code in alone.codes if code >= 0]
        assert np.array_equal(part[part < 0], alone.codes[alone.codes < 0])
