"""IFEval's rules on texts that keep to them and that just do not."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft_diversity.core.errors import DataError
from sft_diversity.scoring.generate import rules

ROOT = Path(__file__).resolve().parents[3]
ENGLISH = "The boat went out at dawn, and nobody on the shore saw it come back that evening."
GERMAN = "Das Boot fuhr in der Dämmerung hinaus, und niemand am Ufer sah es zurückkehren."

#: Rule, its arguments, texts that keep to it, texts that do not.
CASES: list[tuple[str, dict[str, Any], list[str], list[str]]] = [
    ("keywords:existence", {"keywords": ["Rain", "sea"]}, ["the RAIN and the seaside"], ["rain"]),
    (
        "keywords:frequency",
        {"keyword": "sea", "frequency": 2, "relation": "at least"},
        ["Sea, seas", "sea sea sea"],
        ["sea"],
    ),
    (
        "keywords:frequency",
        {"keyword": "c++", "frequency": 2, "relation": "less than"},
        ["C++", "none"],
        ["c++ C++"],
    ),
    (
        "keywords:forbidden_words",
        {"forbidden_words": ["rock", "sea"]},
        ["rocks and seas"],
        ["a Rock", "the sea."],
    ),
    (
        "keywords:letter_frequency",
        {"letter": "Q", "let_frequency": 2, "let_relation": "at least"},
        ["Quick, quiet"],
        ["quick"],
    ),
    (
        "keywords:letter_frequency",
        {"letter": "#", "let_frequency": 1, "let_relation": "less than"},
        ["no mark"],
        ["# mark"],
    ),
    ("language:response_language", {"language": "de"}, [GERMAN, "123 !"], [ENGLISH]),
    ("change_case:english_capital", {}, [ENGLISH.upper()], [ENGLISH, GERMAN.upper()]),
    ("change_case:english_lowercase", {}, [ENGLISH.lower()], [ENGLISH, GERMAN.lower()]),
    (
        "change_case:capital_word_frequency",
        {"capital_frequency": 3, "capital_relation": "at least"},
        ["I saw NASA in the U.S. then", "CAN'T STOP"],
        ["I saw NASA", "CAN'T stop", "Ok McX B-side 42"],
    ),
    (
        "change_case:capital_word_frequency",
        {"capital_frequency": 1, "capital_relation": "less than"},
        ["none at all"],
        ["ONE"],
    ),
    (
        "length_constraints:number_sentences",
        {"num_sentences": 3, "relation": "at least"},
        ["Dr. Low came. He sat! Why?", "One… Two. Three. Four."],
        ["Dr. Low came. He sat", "e.g. this one, 3.5 wide. And that"],
    ),
    (
        "length_constraints:number_words",
        {"num_words": 4, "relation": "less than"},
        ["one two-three"],
        ["one two three four", "don't do it"],
    ),
    (
        "length_constraints:number_paragraphs",
        {"num_paragraphs": 2},
        ["one\n***\ntwo", "***\none\n\nstill\n*** two\n***"],
        ["one", "one *** two *** three", "one *** *** two"],
    ),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "Then"},
        ["One.\n\n'then, two", 'One.\n\n"Then" two'],
        ["One.\n\nSo then", "Then\n\nOne", "a\n\nThen b\n\nc", "One then"],
    ),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, ["[a] [b c]"], ["[a b\n]"]),
    (
        "detectable_content:postscript",
        {"postscript_marker": "P.S."},
        ["Bye\nP.S. more", "p. s. more"],
        ["Bye PS more"],
    ),
    (
        "detectable_content:postscript",
        {"postscript_marker": "P.P.S"},
        ["P.P.S more", "p.p.s. more"],
        ["P.S. more"],
    ),
    (
        "detectable_format:number_bullet_lists",
        {"num_bullets": 2},
        ["So:\n* one\n- two", "  - one\n  * two\n"],
        ["* one", "* one\n* two\n* three", "**one**\n**two**"],
    ),
    (
        "detectable_format:constrained_response",
        {},
        ["Well. My answer is maybe. Or so."],
        ["My answer is perhaps.", "my answer is yes."],
    ),
    (
        "detectable_format:number_highlighted_sections",
        {"num_highlights": 2},
        ["*one* and *two*", "**one** and *two*"],
        ["*one*", "** ** and *two*", "*one\ntwo* three"],
    ),
    (
        "detectable_format:multiple_sections",
        {"section_spliter": "Part", "num_sections": 2},
        ["Part 1\na\nPart 2\nb", "Part1 Part2"],
        ["Part 1", "part 1 part 2", "Part one Part two"],
    ),
    (
        "detectable_format:json_format",
        {},
        ['{"a": 1}', "```json\n[1, 2]\n```", "3"],
        ["{a: 1}", 'Here: {"a": 1}', "[" * 9_000],
    ),
    ("detectable_format:title", {}, ["<<Rain>>\nIt rains."], ["<Rain>", "<< >>", "<<Rain\n>>"]),
    (
        "combination:two_responses",
        {},
        ["one\n******\ntwo", "******\none******two"],
        ["one", "one ****** one", "one ****** two ****** three", "one***two"],
    ),
    (
        "combination:repeat_prompt",
        {"prompt_to_repeat": "Say it twice."},
        [" say it twice. It.", "Say it twice."],
        ["It. Say it twice."],
    ),
    (
        "startend:end_checker",
        {"end_phrase": "Any other Questions?"},
        ["Well. any other questions?", '"Any other questions?" \n'],
        ["Any other questions? No."],
    ),
    ("startend:quotation", {}, ['"All of it."', '""'], ['"', '"Some" of it', "'All'"]),
    ("punctuation:no_comma", {}, ["one; two"], ["one, two"]),
]


@pytest.mark.parametrize(("rule", "arguments", "kept", "broken"), CASES)
def test_a_rule_is_kept_by_texts_that_keep_to_it_and_by_no_others(rule, arguments, kept, broken):
    assert [t for t in kept if not rules.follows_strictly(t, rule, arguments)] == []
    assert [t for t in broken if rules.follows_strictly(t, rule, arguments)] == []
    assert not rules.follows_strictly(" \n", rule, arguments)


def test_every_rule_has_a_case_and_every_published_prompt_its_rules():
    file = ROOT / "data/eval/ifeval_input_data.jsonl.gz"
    rows = [json.loads(line) for line in gzip.decompress(file.read_bytes()).splitlines()]
    for number, row in enumerate(rows):
        rules.check_row(row["instruction_id_list"], row["kwargs"], f"row {number}")
    named = {rule for row in rows for rule in row["instruction_id_list"]}
    assert named == set(rules.RULES) == {rule for rule, *_ in CASES}
    assert len(named) == 25


@given(st.text(alphabet='ab,*-"\n .', max_size=30), st.sampled_from(CASES))
def test_what_is_kept_strictly_is_kept_loosely(text, case):
    rule, arguments, *_ = case
    strictly = rules.follows_strictly(text, rule, arguments)
    assert not strictly or rules.follows_loosely(text, rule, arguments)


def test_loosely_the_frame_of_an_answer_is_no_fault():
    rule = "startend:quotation", {}
    framed = 'Sure, here it is:\n"It rains."\nHope that helps!'
    assert not rules.follows_strictly(framed, *rule)
    assert rules.follows_loosely(framed, *rule)
    assert rules.follows_loosely('**"It rains."**', *rule)
    assert not rules.follows_loosely('one\ntwo\n"It rains."\nthree', *rule)


@pytest.mark.parametrize(
    ("named", "arguments", "words"),
    [
        (["punctuation:no_dash"], [{}], "no rule 'punctuation:no_dash'"),
        (["punctuation:no_comma"], [{"commas": 2}], "unexpected keyword argument 'commas'"),
        (["detectable_format:number_bullet_lists"], [{}], "missing a required argument"),
        (
            ["length_constraints:number_words"],
            [{"num_words": 3, "relation": "around"}],
            "do not fit it: 'around'",
        ),
        (["punctuation:no_comma"], [], "lists of one length"),
        ("punctuation:no_comma", {}, "lists of one length"),
    ],
)
def test_a_row_that_asks_for_no_rule_is_one_line(named, arguments, words):
    with pytest.raises(DataError, match="row 3: .*" + words) as caught:
        rules.check_row(named, arguments, "score: own.jsonl, row 3")
    assert "\n" not in str(caught.value)


def test_arguments_that_are_null_are_left_out():
    found = rules.check_row(["punctuation:no_comma"], [{"num_words": None}], "row 0")
    assert found == [("punctuation:no_comma", {})]
