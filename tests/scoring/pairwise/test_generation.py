"""Answers of a model that runs here, against generating them one token at a time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft_diversity.scoring.pairwise import generation
from tests import tiny


@pytest.fixture(scope="module")
def loaded():
    tokenizer = tiny.tokenizer()
    return tiny.model(len(tokenizer), seed=3).eval(), tokenizer


def token_by_token(model, tokenizer, ids, most):
    """Return the greedy text of one prompt, the whole sequence run anew for every token."""
    import torch

    ids, start = list(ids), len(ids)
    while len(ids) - start < most:
        with torch.inference_mode():
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
        if ids[-1] == tokenizer.eos_token_id:
            break
    return tokenizer.decode(ids[start:], skip_special_tokens=True).strip()


def answers(loaded, prompts, most=12, temperature=0.0, seed=0):
    return generation.answer(*loaded, prompts, most, temperature, None, seed)


def test_greedy_answers_of_a_padded_batch_are_those_of_each_prompt_alone(loaded):
    prompts = [
        loaded[1](text)["input_ids"] for text in ("How do plants grow?", "Rain", "Sort 3, 1")
    ]
    found = answers(loaded, prompts)
    assert [a.text for a in found] == [token_by_token(*loaded, ids, 12) for ids in prompts]
    assert [a.tokens_in for a in found] == [len(ids) for ids in prompts]


def test_the_models_own_sampling_settings_are_not_used_and_stay(loaded):
    model, _ = loaded
    prompts = [loaded[1]("How do plants grow?")["input_ids"]]
    plain = answers(loaded, prompts)
    before = model.generation_config
    model.generation_config = type(before)(do_sample=True, temperature=9.0, repetition_penalty=5.0)
    try:
        assert answers(loaded, prompts) == plain
        assert model.generation_config.repetition_penalty == 5.0
    finally:
        model.generation_config = before


def test_sampling_depends_on_the_seed_and_leaves_the_global_state_alone(loaded):
    import torch

    prompts = [loaded[1](text)["input_ids"] for text in ("Rain", "Sort 3, 1")]
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one = answers(loaded, prompts, temperature=1.0)
    assert torch.equal(torch.rand(3), expected)
    assert answers(loaded, prompts, temperature=1.0) == one
    assert answers(loaded, prompts, temperature=1.0, seed=1) != one


def test_an_end_token_stops_an_answer_and_is_not_in_it(loaded):
    model, tokenizer = loaded
    prompts = [tokenizer("How do plants grow?")["input_ids"]]
    model.generation_config.eos_token_id = list(range(len(tokenizer)))
    try:
        [found] = answers(loaded, prompts)
    finally:
        model.generation_config.eos_token_id = tokenizer.eos_token_id
    assert (found.text, found.finish, found.tokens_out) == ("", "stop", 0)


@given(st.lists(st.integers(1, 100), max_size=40), st.integers(1, 8), st.integers(1, 100))
def test_batches_hold_every_row_once_and_long_ones_alone(lengths, size, room):
    found = generation.in_batches(lengths, size, room)
    assert sorted(row for group in found for row in group) == list(range(len(lengths)))
    assert all(len(group) <= size for group in found)
    assert all(len(group) == 1 for group in found if any(lengths[r] > room for r in group))


@given(st.lists(st.integers(1, 100), max_size=40), st.integers(1, 8), st.integers(0, 40))
def test_full_batches_of_fewer_prompts_are_batches_of_more(lengths, size, fewer):
    some = [g for g in generation.in_batches(lengths[:fewer], size, 50) if len(g) == size]
    assert all(group in generation.in_batches(lengths, size, 50) for group in some)
