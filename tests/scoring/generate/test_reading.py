"""What is read off an answer, against plain readings of the same."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft_diversity.scoring.generate import reading


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("It rains. It pours.", ["It rains.", "It pours."]),
        ("Mr. Low, of Kew Gardens Ltd., came.", ["Mr. Low, of Kew Gardens Ltd., came."]),
        ("J. R. Low wrote it. I did not.", ["J. R. Low wrote it.", "I did not."]),
        ('He said "No!" Then he left.', ['He said "No!"', "Then he left."]),
        ("3.5 of them (e.g. two) came", ["3.5 of them (e.g. two) came"]),
        ("Not yet... but soon. Wait", ["Not yet... but soon.", "Wait"]),
        ("a heading\nand a line", ["a heading\nand a line"]),
        (" \n", []),
    ],
)
def test_sentences(text, parts):
    assert reading.sentences(text) == parts


@pytest.mark.parametrize(
    ("answer", "number"),
    [
        ("so 3 + 4 = 7", 7),
        ("It is $1,234.50.", "1234.5"),
        ("#### 72", 72),
        ("#### 5 apples, of 9\nThanks for asking 3 times", 5),
        ("#### none, so 8", 8),
        ("First \\boxed{3}, no: \\boxed{x = -4}. In 2 steps", -4),
        ("10-15", 15),
        ("5 - -3 gives −8", -8),
        ("about 12% of v1.2.3", 12),
        ("nothing", None),
        ("", None),
        (".5", "0.5"),
        ("1,000,000", 1_000_000),
    ],
)
def test_the_number_that_an_answer_comes_to(answer, number):
    found = reading.final_number(answer)
    assert found == (None if number is None else Decimal(number))


@given(
    st.decimals(-10_000_000, 10_000_000, places=2),
    st.sampled_from(["#### {}", "it is {}.", "\\boxed{{{}}}"]),
)
def test_a_number_is_found_as_it_was_written(number, form):
    assert reading.final_number(form.format(f"{number:,}")) == number


def looped(words):
    """Return the longest stretch of a phrase three times in a row, trying all of them."""
    best = 0
    for start in range(len(words)):
        for phrase in range(1, 33):
            stop = start + phrase
            while stop < len(words) and words[stop] == words[stop - phrase]:
                stop += 1
            if stop - start >= 3 * phrase:
                best = max(best, stop - start)
    return best


@given(st.lists(st.sampled_from("ab"), max_size=24))
def test_the_longest_loop_is_that_of_trying_all(words):
    assert reading.longest_loop(words) == looped(words)


def test_a_phrase_said_over_and_over_is_a_loop():
    words = ["to", "begin", "with", "it", "is", "so", "it", "is", "so", "it", "is", "so", "it"]
    assert reading.longest_loop(words) == 10
    assert reading.longest_loop(words[:-2]) == 0
    assert reading.longest_loop([]) == 0


@given(st.lists(st.sampled_from("abc"), max_size=12))
def test_distinct_runs_of_four(words):
    runs = list(zip(*(words[i:] for i in range(4)), strict=False))
    assert reading.distinct_share(words) == (len(set(runs)) / len(runs) if runs else None)
