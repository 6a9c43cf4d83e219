from __future__ import annotations

import pytest
import torch

from sft_diversity.core.chat import IGNORED
from sft_diversity.training import head
from sft_diversity.training.head import add_labelled_head, is_plain, positions_of
from tests import tiny


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(2, 60, (3, 12), generator=generator)
    sizes = torch.tensor([12, 9, 5])
    mask = torch.arange(12) < sizes[:, None]
    labels = ids.masked_fill(~mask | (torch.arange(12) < 3), IGNORED)
    return ids.masked_fill(~mask, 1), mask.long(), labels


@pytest.mark.parametrize("tiles", [False, True])
def test_loss_and_gradients_are_those_of_the_plain_model(batch, tiles, monkeypatch):
    ids, mask, labels = batch
    if tiles:  # as on a GPU; several of them
        monkeypatch.setattr(head, "_at_once", head._in_tiles)
        monkeypatch.setattr(head, "_TILE", 16)
    plain, ours = tiny.model(60), tiny.model(60)
    add_labelled_head(ours)
    expected = plain(input_ids=ids, attention_mask=mask, labels=labels).loss
    expected.backward()
    given = {"input_ids": ids, "labels": labels, "positions": positions_of(labels)}
    loss = ours(**given).loss / (labels != IGNORED).sum()
    loss.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-6)
    for one, other in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-6)


def test_without_the_flag_the_model_is_unchanged(batch):
    ids, mask, labels = batch
    plain, ours = tiny.model(60), tiny.model(60)
    add_labelled_head(ours)
    inputs = {"input_ids": ids, "attention_mask": mask, "labels": labels}
    assert torch.equal(ours(**inputs).logits, plain(**inputs).logits)
    assert torch.equal(
        ours.generate(ids[:1], max_new_tokens=4, do_sample=False),
        plain.generate(ids[:1], max_new_tokens=4, do_sample=False),
    )


def test_a_model_that_scales_its_logits_keeps_its_own_head():
    model = tiny.model(60)
    assert is_plain(model)
    model.config.final_logit_softcapping = 30.0
    assert not is_plain(model)
