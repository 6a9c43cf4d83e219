from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft_diversity.scoring.likelihood import Example, _head_of, by_length, token_nll
from tests import tiny


@given(
    lengths=st.lists(st.integers(1, 300), max_size=60),
    batch_tokens=st.integers(1, 2000),
)
def test_batches_hold_each_row_once_and_stay_within_the_limit(lengths, batch_tokens):
    groups = by_length(lengths, batch_tokens)
    assert sorted(row for group in groups for row in group) == list(range(len(lengths)))
    for group in groups:
        longest = max(lengths[row] for row in group)
        assert len(group) == 1 or len(group) * longest <= batch_tokens


def examples(seed: int = 0) -> list[Example]:
    rng = np.random.default_rng(seed)
    made = []
    for length in (5, 40, 17, 40, 3, 64):
        ids = rng.integers(2, 300, length).tolist()
        start = int(rng.integers(1, length))
        made.append(Example(ids, start, length, None, length, 1, 1, False))
    return made


@pytest.fixture(scope="module")
def model():
    return tiny.model(384).eval()


def by_torch(model, example: Example) -> np.ndarray:
    """The loss of one row alone, from the model's own full logits."""
    import torch

    ids = torch.tensor([example.ids])
    with torch.inference_mode():
        logp = torch.log_softmax(model(ids).logits[0].double(), -1)
    return np.array(
        [-logp[p - 1, example.ids[p]].item() for p in range(example.start, len(example.ids))]
    )


@pytest.mark.parametrize("batch_tokens", [1, 100, 10_000])
def test_batched_losses_equal_those_of_single_rows(model, batch_tokens):
    rows = examples()
    found = token_nll(model, rows, batch_tokens)
    for example, nll in zip(rows, found, strict=True):
        np.testing.assert_allclose(nll, by_torch(model, example), rtol=1e-4, atol=1e-5)


def test_the_mean_is_the_loss_that_transformers_reports(model):
    import torch

    example = examples()[1]
    ids = torch.tensor([example.ids])
    labels = ids.clone()
    labels[:, : example.start] = -100
    with torch.inference_mode():
        loss = model(ids, labels=labels).loss.item()
    assert token_nll(model, [example], 512)[0].mean() == pytest.approx(loss, rel=1e-5)


def test_equal_rows_give_equal_bytes(model):
    one, two = (token_nll(model, examples(), 128) for _ in range(2))
    assert all((a == b).all() for a, b in zip(one, two, strict=True))


def test_the_head_alone_serves_a_plain_model(model):
    assert _head_of(model) is model.get_output_embeddings()


def test_a_model_that_caps_its_logits_is_scored_by_its_own_logits():
    import torch
    from transformers import Gemma2Config, Gemma2ForCausalLM

    torch.manual_seed(0)
    capped = Gemma2ForCausalLM(
        Gemma2Config(
            vocab_size=384, hidden_size=32, intermediate_size=64, num_hidden_layers=1,
            num_attention_heads=2, num_key_value_heads=1, head_dim=16,
            final_logit_softcapping=0.05, pad_token_id=1, eos_token_id=0, bos_token_id=0,
        )
    ).eval()  # fmt: skip
    assert _head_of(capped) is None
    example = examples()[1]
    np.testing.assert_allclose(
        token_nll(capped, [example], 512)[0], by_torch(capped, example), rtol=1e-4, atol=1e-5
    )
