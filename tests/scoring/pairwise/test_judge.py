"""The judge's prompt and what is read from its answers."""

from __future__ import annotations

import pytest

from sft_diversity.endpoint.answers import Answer, Failure
from sft_diversity.scoring.pairwise import judge


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Because.\n[[A]]", "A"),
        ("[[b]]", "B"),
        ("[[C]]", "tie"),
        ("[[ tie ]]", "tie"),
        ("At first [[A]], yet all in all [[B]]", "B"),
        ("<think>[[A]]</think> [[B]]", "B"),
        ("<think>[[A]]</think> so", "malformed"),
        ("[[A>>B]]", "A"),
        ("[[B>A]]", "B"),
        ("[[A=B]]", "tie"),
        ("[[A>A]]", "malformed"),
        ("A is better", "malformed"),
        ("I'm sorry, but I can't help with that.", "refused"),
        ("I can’t judge such content.", "refused"),
        ("As an AI, I cannot compare these.", "refused"),
        ("I cannot tell them apart: [[C]]", "tie"),
    ],
)
def test_verdicts_are_read(text, expected):
    assert judge.verdict(Answer(text, "stop", 1, 1)) == expected


def test_calls_without_a_verdict_say_why():
    assert judge.verdict(Answer("It is long and", "length", 1, 1)) == "cut"
    assert judge.verdict(Answer("...", "content_filter", 1, 1)) == "refused"
    for reason in ("refused", "empty", "gave-up"):
        assert judge.verdict(Failure(reason, "")) == reason


def test_texts_that_look_like_places_stay_as_they_are():
    filled = judge.fill_prompt(
        "{prompt}|{answer_a}|{answer_b}|{x}", "{answer_a}", r"\1 {prompt}", "{b}"
    )
    assert filled == r"{answer_a}|\1 {prompt}|{b}|{x}"


def test_the_shipped_prompt_has_all_places():
    assert "[[C]]" in judge.load_prompt(None)
