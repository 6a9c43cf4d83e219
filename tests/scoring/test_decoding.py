"""Answers of a model that runs here, against generating them one token at a time."""

from __future__ import annotations

import pytest

from sft_diversity.scoring import decoding
from sft_diversity.scoring.decoding import Sampling
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


def answers(loaded, prompts, most=12, temperature=0.0, seed=0, top_p=None):
    limits = most if isinstance(most, list) else [most] * len(prompts)
    return decoding.answers_to(*loaded, prompts, limits, Sampling(temperature, top_p, seed))


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


TEXTS = ("How do plants grow?", "Rain", "Sort 3, 1", "Give three tips", "What is the capital?")


@pytest.fixture
def by_generate(monkeypatch):
    """Answers by transformers' own loop."""

    def answered(*given, **options):
        with monkeypatch.context() as patched:
            patched.setattr(decoding, "_has_plain_cache", lambda model: False)
            return answers(*given, **options)

    return answered


@pytest.fixture(scope="module")
def lively():
    """A model whose large weights make answers that do not loop."""
    tokenizer = tiny.tokenizer()
    model = tiny.model(len(tokenizer), hidden=128, layers=4, seed=3).eval()
    for weights in model.parameters():
        weights.data *= 6.0 if weights.dim() > 1 else 1.0
    return model, tokenizer


def test_answers_are_those_of_transformers_own_loop(lively, by_generate):
    loaded = lively
    prompts = [loaded[1](text)["input_ids"] for text in TEXTS]
    assert decoding._has_plain_cache(loaded[0])
    assert answers(loaded, prompts, 90) == by_generate(loaded, prompts, 90)


def test_rows_that_end_early_change_no_other(lively, by_generate):
    model, tokenizer = lively
    prompts = [tokenizer(text)["input_ids"] for text in TEXTS]
    model.generation_config.eos_token_id = list(range(11, len(tokenizer), 11))
    try:
        found = answers(lively, prompts, 40)
        assert found == by_generate(lively, prompts, 40)
    finally:
        model.generation_config.eos_token_id = tokenizer.eos_token_id
    assert len({one.tokens_out for one in found}) > 2


def test_each_answer_has_its_own_limit(loaded):
    prompts = [loaded[1](text)["input_ids"] for text in TEXTS]
    found = answers(loaded, prompts, [3, 12, 1, 7, 12])
    whole = answers(loaded, prompts, 12)
    assert [one.tokens_out for one in found] == [3, 12, 1, 7, 12]
    assert all(one.finish == "length" for one in found)
    assert all(
        long.text.startswith(one.text.rstrip("\ufffd"))
        for one, long in zip(found, whole, strict=True)
    )


def test_a_window_of_attention_is_kept():
    import torch
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    tokenizer = tiny.tokenizer()
    torch.manual_seed(0)
    config = Gemma3TextConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=4,
        num_attention_heads=4, num_key_value_heads=2, head_dim=8, sliding_window=8,
        layer_types=["sliding_attention", "full_attention"] * 2, eos_token_id=0, bos_token_id=0,
        pad_token_id=1,
    )  # fmt: skip
    loaded = Gemma3ForCausalLM(config).eval(), tokenizer
    prompts = [tokenizer(text)["input_ids"] for text in TEXTS]
    assert [one.text for one in answers(loaded, prompts, 30)] == [
        token_by_token(*loaded, ids, 30) for ids in prompts
    ]


def test_sampling_takes_tokens_as_often_as_the_model_holds_them_likely(loaded):
    import torch

    logits = torch.log(torch.tensor([0.5, 0.3, 0.15, 0.05])).expand(20_000, 4)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        plain = torch.bincount(decoding._choice(logits, Sampling(1.0)), minlength=4) / 20_000
        top = torch.bincount(decoding._choice(logits, Sampling(1.0, 0.75)), minlength=4) / 20_000
    assert torch.allclose(plain, logits[0].exp(), atol=0.02)
    assert torch.allclose(top, torch.tensor([0.625, 0.375, 0.0, 0.0]), atol=0.02)


def test_a_frozen_output_layer_is_not_copied_for_every_row():
    import torch

    tokenizer = tiny.tokenizer()
    frozen = tiny.model(4096, seed=3).eval().requires_grad_(False)
    prompts = [tokenizer(text)["input_ids"] for text in ("How do plants grow?", "Rain", "Sort")]
    with torch.profiler.profile(record_shapes=True) as seen:
        answers((frozen, tokenizer), prompts, most=3)
    shapes = [shape for event in seen.events() for shape in event.input_shapes]
    assert [4096, 32] in shapes  # the layer, and whoever reads it
    assert not [shape for shape in shapes if len(shape) == 3 and 4096 in shape[1:] and 32 in shape]
