"""The blocks that go to libraries, and what they change."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file
from transformers.models.llama.modeling_llama import LlamaMLP
from trl import SFTConfig

from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.training import blocks, trainer
from sft_diversity.training.config import FinetuneConfig
from sft_diversity.training.models import BASES, load_base
from sft_diversity.training.stage import check_options, finetune
from tests.training.conftest import dialogue, write_subset

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*is_gradient_checkpointing:FutureWarning"
)  # peft's


@pytest.fixture
def caught(monkeypatch):
    """Return a function that builds a run's trainer and trains nothing."""

    class Caught(Exception):
        pass

    def of(subset, out, config):
        def stop(self, **_):
            raise Caught(self)

        monkeypatch.setattr(trainer.Trainer, "train", stop)
        with pytest.raises(Caught) as found:
            finetune(subset, out, config, say=lambda line: None)
        return found.value.args[0]

    return of


def test_every_field_of_the_libraries_is_taken_or_refused_by_name():
    for block, of in (("trainer", SFTConfig), ("peft", LoraConfig)):
        fields = {field.name for field in dataclasses.fields(of) if field.init}
        assert blocks.REFUSED[block].keys() <= fields  # no rule for what is gone
        for name in sorted(fields):
            config = FinetuneConfig(lora=True, **{block: {name: None}})
            if name in blocks.REFUSED[block]:
                with pytest.raises(UsageError, match=rf"`{block}\.{name}` is not taken: [\w`]+"):
                    blocks.check(config)
            else:
                blocks.check(config)


@pytest.mark.parametrize(
    ("field", "value"),
    [("torch_empty_cache_steps", 3), ("neftune_noise_alpha", 5.0), ("loss_type", "dft")],
)
def test_any_field_of_sft_config_arrives(subset, config, caught, tmp_path, field, value):
    made = caught(subset, tmp_path / "out", config(trainer={field: value}))
    assert getattr(made.args, field) == value
    assert made._plain_head == (field != "loss_type")  # another loss is not replaced by ours


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"trainer": {"padding_fre": True}},
            r"`trainer.padding_fre` .* did you mean `padding_free`",
        ),
        ({"trainer": {"learning_rate": 1}}, r"`trainer.learning_rate` .*: say it with lr"),
        (
            {"peft": {"use_dorra": True}, "lora": True},
            r"`peft.use_dorra`.* did you mean `use_dora`",
        ),
        ({"peft": {"r": 8}, "lora": True}, r"`peft.r` .*lora_rank"),
        (
            {"trainer": {"torch_compile": "no"}},
            r"`trainer.torch_compile` is 'no', .* true or false",
        ),
        ({"trainer": {"packing": True}}, r"`trainer.packing` .* padding_free has the same rows"),
        (
            {"model_options": {"trust_remote_code": True}},
            r"trust_remote_code` is not taken: no code",
        ),
    ],
)
def test_a_key_that_is_unknown_or_ours_is_one_line(options, message):
    with pytest.raises(UsageError, match=message):
        check_options(FinetuneConfig(**options))


def test_a_model_option_that_nobody_knows_is_refused_before_samples_are_read(
    subset, config, tmp_path
):
    options = config(model_options={"atn_implementation": "eager"})
    with pytest.raises(UsageError, match="did you mean `attn_implementation`"):
        finetune(subset, tmp_path / "out", options, say=lambda line: None)


def test_values_that_a_library_refuses_are_one_line(subset, config, tmp_path):
    with pytest.raises(UsageError, match=r"`trainer`: .*no-such-file"):
        options = config(trainer={"accelerator_config": "no-such-file"})
        finetune(subset, tmp_path / "out", options, say=lambda line: None)


def test_blocks_are_for_adapters_where_they_are():
    for options in ({"peft": {"use_dora": True}}, {"quantization": "4bit"}):
        with pytest.raises(ValueError, match="set lora: true"):
            FinetuneConfig(**options)


def test_attention_and_adapter_options_arrive(subset, config, caught, tmp_path):
    options = config(
        lora=True,
        model_options={"attn_implementation": "eager"},
        peft={"use_dora": True, "target_modules": ["q_proj", "v_proj"]},
    )
    model = caught(subset, tmp_path / "out", options).model
    assert model.config._attn_implementation == "eager"
    names = [name for name, weights in model.named_parameters() if weights.requires_grad]
    assert any("magnitude" in name for name in names)
    assert all("q_proj" in name or "v_proj" in name for name in names)


def test_frozen_weights_have_the_precision_of_products_and_trained_ones_float32(
    subset, config, caught, tmp_path
):
    model = caught(subset, tmp_path / "out", config(lora=True, dtype="bfloat16")).model
    for weights in model.parameters():
        assert weights.dtype == (torch.float32 if weights.requires_grad else torch.bfloat16)
    whole = caught(subset, tmp_path / "whole", config(dtype="bfloat16")).model
    assert {weights.dtype for weights in whole.parameters()} == {torch.float32}


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_samples_in_one_row_have_the_logits_that_they_have_alone(attention, base):
    model = load_base(BASES.find(base), seed=0, attn_implementation=attention).eval()
    drawn = np.random.default_rng(0)
    alone = [torch.from_numpy(drawn.integers(3, 300, n)) for n in (7, 1, 12, 5)]
    positions = torch.cat([torch.arange(len(ids)) for ids in alone])[None]
    with torch.no_grad():
        row = model(torch.cat(alone)[None], position_ids=positions, use_cache=False).logits[0]
        single = torch.cat([model(ids[None], use_cache=False).logits[0] for ids in alone])
    assert torch.allclose(row, single, atol=1e-5)


def test_a_run_without_padding_ends_with_the_same_weights(config, tmp_path):
    subset = write_subset(tmp_path / "subset", [dialogue(i) for i in range(40)])
    weights = {}
    for free in (False, True):
        out = tmp_path / f"padding-free-{free}"
        options = config(trainer={"padding_free": free}, steps=20, epochs=None)
        finetune(subset, out, options, say=lambda line: None)
        weights[free] = load_file(out / "model.safetensors")
    moved = load_file(config().model + "/model.safetensors")
    for name, with_padding in weights[False].items():
        assert torch.allclose(with_padding, weights[True][name], atol=2e-4), name
    assert any(not torch.allclose(moved[name], weights[True][name], atol=1e-3) for name in moved)


def test_an_adapter_says_how_it_was_made_in_an_order_of_its_own(subset, config, tmp_path):
    options = config(lora=True, steps=1, epochs=None, peft={"use_rslora": True})
    finetune(subset, tmp_path / "out", options, say=lambda line: None)
    adapter = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert adapter["use_rslora"] is True
    assert adapter["target_modules"] == sorted(adapter["target_modules"])


def test_activations_are_made_again_where_that_is_asked_for(subset, config, tmp_path, monkeypatch):
    calls = []
    once = LlamaMLP.forward
    monkeypatch.setattr(LlamaMLP, "forward", lambda self, x: calls.append(self) or once(self, x))
    for lora in (False, True):
        logs = {}
        for asked in (False, True):
            calls.clear()
            out = tmp_path / f"{lora}-{asked}"
            options = config(steps=2, epochs=None, lora=lora, gradient_checkpointing=asked)
            finetune(subset, out, options, say=lambda line: None)
            passes = 2 * 2 * 2  # two layers, two micro-batches, two steps
            assert len(calls) == passes * (2 if asked else 1)
            lines = (out / "training.jsonl").read_text().splitlines()
            logs[asked] = [json.loads(line)["loss"] for line in lines]
        assert logs[True] == pytest.approx(logs[False], rel=1e-6)


def test_liger_arrives_and_is_named_where_it_is_missing(monkeypatch):
    asked = FinetuneConfig(trainer={"use_liger_kernel": True})
    with pytest.raises(UsageError, match="pip install liger-kernel, or leave it out"):
        blocks.check(asked)
    monkeypatch.setattr("sft_diversity.core.extras.has", lambda module: True)
    blocks.check(asked)
    options = {"use_cpu": True, "bf16": False, "activation_checkpointing": False}
    assert blocks.made(SFTConfig, "trainer", options | asked.trainer).use_liger_kernel


def test_what_a_library_refuses_of_the_model_is_one_line(subset, config, tmp_path):
    asked = config(lora=True, peft={"target_modules": ["nonsense"]})
    with pytest.raises(UsageError, match=r"of `peft`: Target modules .* not found"):
        finetune(subset, tmp_path / "out", asked, say=lambda line: None)


def test_quantization_without_its_library_is_one_line(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises((UsageError, DataError), match="bitsandbytes"):
        blocks.check(FinetuneConfig(lora=True, quantization="4bit"))
