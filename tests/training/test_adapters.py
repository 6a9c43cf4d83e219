"""Adapters of each kind are made, say how, and are gone on with."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from sft_diversity.core import folder
from sft_diversity.core.errors import UsageError
from sft_diversity.training.models import BASES, home_of_tokenizer, load_base
from sft_diversity.training.stage import finetune, plan

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*is_gradient_checkpointing:FutureWarning"
)  # peft's
WEIGHTS = "adapter_model.safetensors"
IDS = torch.arange(2, 40)[None]
STILL = {"lr": 1e-12, "weight_decay": 0.0, "steps": 1, "epochs": None}  # weights stay as they are


def silent(line: str) -> None:
    pass


def config_of(adapter):
    return json.loads((adapter / "adapter_config.json").read_text())


def logits(model):
    """Return what plain PEFT and transformers make of a saved model or adapter."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    if not (model / "adapter_config.json").exists():
        loaded = AutoModelForCausalLM.from_pretrained(model)
    else:
        below = AutoModelForCausalLM.from_pretrained(config_of(model)["base_model_name_or_path"])
        loaded = PeftModel.from_pretrained(below, model)
    with torch.no_grad():
        return loaded.eval()(IDS).logits


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return tmp_path_factory.mktemp("adapters")


@pytest.fixture(params=["lora", "dora"])
def adapter(request, made, subset, config):
    out = made / request.param
    options = {"use_dora": request.param == "dora", "target_modules": ["q_proj", "down_proj"]}
    asked = config(lora=True, lora_rank=3, lora_alpha=7, peft=options, lr=1e-2, epochs=1)
    finetune(subset, out, asked, silent)
    return out


@pytest.mark.parametrize(
    ("options", "trained"),
    [
        ({"use_dora": True}, "lora_magnitude_vector"),
        ({"use_rslora": True}, "lora_A"),
        ({"target_modules": ["q_proj"]}, "q_proj.lora_A"),
        # Embeddings that are the head too: PEFT asks for the second where the first is given.
        ({"modules_to_save": ["embed_tokens"], "ensure_weight_tying": True}, "embed_tokens.weight"),
        ({"init_lora_weights": "gaussian"}, "lora_A"),
    ],
)
def test_every_kind_of_adapter_is_trained_and_said(
    options, trained, subset, config, tmp_path, base
):
    asked = config(
        lora=True, lora_rank=2, lora_alpha=8, steps=2, epochs=None, lr=1e-2, peft=options
    )
    out = tmp_path / "out"
    finetune(subset, out, asked, silent)
    assert options.items() <= config_of(out).items()
    weights = load_file(out / WEIGHTS)
    assert any(trained in name for name in weights), sorted(weights)
    if "target_modules" in options:
        assert all("q_proj" in name for name in weights)
    assert not torch.allclose(logits(out), logits(base), atol=1e-4)
    merged = tmp_path / "merged"
    finetune(subset, merged, asked.model_copy(update={"merge_adapter": True}), silent)
    assert torch.allclose(logits(merged), logits(out), atol=1e-5)


@pytest.mark.parametrize("lora", [True, False])
def test_a_run_begins_where_the_adapter_ended(lora, adapter, subset, config, tmp_path):
    out = tmp_path / "out"
    finetune(subset, out, config(model=str(adapter), lora=lora, **STILL), silent)
    assert (out / "adapter_config.json").exists() == lora
    assert torch.allclose(logits(out), logits(adapter), atol=1e-5)


def test_an_adapter_is_trained_further_as_it_was_made(adapter, subset, config, tmp_path, base):
    out = tmp_path / "out"
    made = finetune(subset, out, config(model=str(adapter), lora=True, epochs=1), silent)
    before, after = load_file(adapter / WEIGHTS), load_file(out / WEIGHTS)
    assert before.keys() == after.keys()
    assert all(not torch.equal(before[name], after[name]) for name in before)
    for name in ("r", "lora_alpha", "use_dora", "target_modules"):
        assert config_of(out)[name] == config_of(adapter)[name]
    assert (made["config"]["lora_rank"], made["config"]["lora_alpha"]) == (3, 7)
    assert made["inputs"]["model"] == BASES.find(base).key
    assert made["inputs"]["adapter"] == BASES.find(adapter).key
    assert made["inputs"]["adapter"] in (out / "README.md").read_text()
    merged = tmp_path / "merged"
    asked = config(model=str(adapter), lora=True, epochs=1, merge_adapter=True)
    finetune(subset, merged, asked, silent)
    assert torch.allclose(logits(merged), logits(out), atol=1e-5)


def test_all_weights_are_trained_on_a_merged_one(adapter, subset, config, tmp_path, base):
    out = tmp_path / "out"
    planned = plan(subset, out, config(model=str(adapter), epochs=1))
    whole = plan(subset, out, config(epochs=1))
    assert (planned["bytes"], planned["memory"]) == (whole["bytes"], whole["memory"])
    finetune(subset, out, config(model=str(adapter), epochs=1), silent)
    assert folder.verify(out)["faults"] == []
    moved, still = load_file(out / "model.safetensors"), load_file(base / "model.safetensors")
    assert all(not torch.equal(moved[name], still[name]) for name in still)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lora_rank": 16}, "lora_rank is 3; leave it out"),
        ({"peft": {"use_rslora": True}}, r"peft\.use_rslora is its own; leave it out"),
    ],
)
def test_what_an_adapter_has_settled_is_not_asked_of_it_again(
    options, message, adapter, subset, config, tmp_path
):
    for verb in (plan, finetune):
        with pytest.raises(UsageError, match=message):
            verb(subset, tmp_path / "out", config(model=str(adapter), lora=True, **options))


def test_adapters_that_are_no_lora_or_pickled_are_one_line(adapter, subset, config, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(adapter, other)
    told = config_of(other) | {"peft_type": "IA3"}
    (other / "adapter_config.json").write_text(json.dumps(told))
    with pytest.raises(UsageError, match="of type IA3; only LoRA"):
        finetune(subset, tmp_path / "out", config(model=str(other), lora=True), silent)
    (other / WEIGHTS).rename(other / "adapter_model.bin")
    with pytest.raises(UsageError, match="pickled weights are not"):
        finetune(subset, tmp_path / "out", config(model=str(other), lora=True), silent)


def test_an_adapter_without_a_tokenizer_has_its_bases(adapter, subset, config, tmp_path):
    other = tmp_path / "bare"
    other.mkdir()
    for name in ("adapter_config.json", WEIGHTS):
        shutil.copy(adapter / name, other)
    finetune(subset, tmp_path / "out", config(model=str(other), lora=True, **STILL), silent)
    assert home_of_tokenizer(BASES.find(other)) == BASES.find(other).base  # whose key counts
    assert load_base(BASES.find(other), 0, train_adapter=True).peft_config
