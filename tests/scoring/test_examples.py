from __future__ import annotations

from dataclasses import replace

import pytest

from sft_diversity.core import chat
from sft_diversity.scoring.likelihood import Example, build_example
from sft_diversity.scoring.sets import Record
from tests import templates, tiny


@pytest.fixture(scope="module")
def tokenizer():
    made = tiny.tokenizer()
    chat.ensure_template(made)
    return made


def record(*contents: str) -> Record:
    roles = ["user", "assistant"] * len(contents)
    messages = [
        {"role": role, "content": text} for role, text in zip(roles, contents, strict=False)
    ]
    return Record("set", "0", "transfer", "short", "", "key", messages)


def built(one: Record, tokenizer, max_length: int = 512) -> Example:
    example = build_example(one, tokenizer, max_length)
    assert isinstance(example, Example)
    return example


def text(example: Example, tokenizer) -> str:
    return str(tokenizer.decode(example.ids[example.start : example.stop]))


def test_the_scored_span_is_the_reference_and_then_the_end_of_turn(tokenizer):
    example = built(record("Why?", "Because of rain."), tokenizer)
    assert text(example, tokenizer) == "Because of rain."
    assert example.end == example.stop == len(example.ids) - 1
    assert example.ids[example.stop] == tokenizer.eos_token_id
    assert example.bytes == example.bytes_first == len("Because of rain.")


def test_only_the_last_turn_of_a_dialogue_is_scored(tokenizer):
    example = built(record("Why?", "Rain.", "And then?", "Sun."), tokenizer)
    assert text(example, tokenizer) == "Sun."


def test_a_reference_that_spells_the_end_token_is_scored_to_its_end(tokenizer):
    example = built(record("Why?", f"A {tiny.EOS} B"), tokenizer)
    assert example.ids[example.stop - 1] != tokenizer.eos_token_id
    assert example.ids[: example.stop].count(tokenizer.eos_token_id) >= 1


def test_a_blank_reference_is_skipped(tokenizer):
    assert build_example(record("Why?", " \n"), tokenizer, 512) == "no-reference"


def test_a_long_reference_is_cut_at_the_limit_without_an_end(tokenizer):
    whole = built(record("Why?", "rain and sun, " * 40), tokenizer)
    limit = whole.start + 100
    cut = built(record("Why?", "rain and sun, " * 40), tokenizer, limit)
    assert cut.truncated
    assert cut.end is None
    assert len(cut.ids) == limit == cut.stop
    assert cut.first_stop == cut.start + 64
    assert cut.bytes == len(text(cut, tokenizer).encode()) < whole.bytes
    assert cut.ids == whole.ids[:limit]


def test_a_prompt_that_leaves_no_room_for_64_tokens_is_over_length(tokenizer):
    one = record("why " * 200, "rain and sun, " * 40)
    start = built(one, tokenizer, 4096).start
    assert build_example(one, tokenizer, start + 63) == "over-length"
    assert not isinstance(build_example(one, tokenizer, start + 64), str)


def test_a_character_cut_in_two_does_not_count(tokenizer):
    one = record("Why?", "日本語" * 40)
    example = built(one, tokenizer)
    whole = one.messages[-1]["content"].encode()
    tokens = example.first_stop - example.start
    assert tokens == 64
    assert example.bytes_first % 3 == 0
    assert 0 <= tokens - example.bytes_first <= 2  # byte tokens: 64 bytes, the last cut off
    assert example.bytes == len(whole)


def test_replacing_the_prompt_leaves_the_scored_text_alone(tokenizer):
    one = record("Why?", "Because.")
    other = replace(one, messages=[{"role": "user", "content": "How?!"}, one.messages[-1]])
    a, b = built(one, tokenizer), built(other, tokenizer)
    assert a.ids[a.start :] == b.ids[b.start :]


def test_a_thought_that_a_template_inserts_is_not_scored():
    qwen3 = templates.tokenizer("qwen3")
    example = built(record("Why?", "Yes."), qwen3)
    assert (text(example, qwen3), example.bytes) == ("Yes.", 4)
    assert example.ids[example.end] == qwen3.convert_tokens_to_ids("<|im_end|>")


def test_bytes_are_those_of_the_text_as_the_template_trims_it():
    gemma = templates.tokenizer("gemma")
    example = built(record("Why?", "  Because.\n"), gemma)
    assert (text(example, gemma), example.bytes) == ("Because.", len("Because."))
