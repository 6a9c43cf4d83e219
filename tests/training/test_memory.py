"""What a run is said to need, against what its tensors hold."""

from __future__ import annotations

import pytest
from peft import LoraConfig, get_peft_model

from sft_diversity.training import memory
from sft_diversity.training.config import FinetuneConfig
from sft_diversity.training.models import BASES, load_base
from sft_diversity.training.stage import finetune, plan


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft's
def test_what_an_adapter_trains_is_counted_from_the_shapes(base):
    found = BASES.find(base)
    model = get_peft_model(
        load_base(found, 0), LoraConfig(r=7, target_modules="all-linear", task_type="CAUSAL_LM")
    )
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert 7 * sum(m + n for m, n in found.matrices()) == trained


def test_what_costs_less_is_said_to_cost_less(base):
    found = BASES.find(base)

    def needs(dtype="float32", tokens=1_000, **options):
        return memory.needed_bytes(found, FinetuneConfig(**options), dtype, tokens)

    held = found.parameters() * 16  # weight, gradient, two moments
    assert needs(tokens=0) - held == pytest.approx(needs(optimizer="lion", tokens=0) - held * 0.75)
    assert needs(lora=True) < needs()
    assert needs(lora=True, quantization="4bit") < needs(lora=True, quantization="8bit")
    assert needs(gradient_checkpointing=True) < needs()
    assert needs("bfloat16") < needs() < needs(tokens=2_000)


def test_a_run_that_will_not_fit_says_so_before_it_starts(subset, config, tmp_path, monkeypatch):
    lines: list[str] = []
    planned = plan(subset, tmp_path / "out", config(steps=1, epochs=None))
    assert (planned["steps"], planned["memory"] > 0) == (1, True)
    finetune(subset, tmp_path / "fits", config(steps=1, epochs=None), lines.append)
    assert not any("GB of memory" in line for line in lines)
    monkeypatch.setattr(memory, "available_bytes", lambda: planned["memory"] / 2)
    finetune(subset, tmp_path / "out", config(steps=1, epochs=None), lines.append)
    assert sum("GB of memory" in line and "gradient_checkpointing" in line for line in lines) == 1


def test_a_gpu_gets_as_many_tokens_at_once_as_its_memory_holds(base, monkeypatch):
    found = BASES.find(base)
    on_cpu = memory.tokens_at_once(found, FinetuneConfig(), "float32")
    monkeypatch.setenv("SFTDIV_DETECT", "gpus=1")
    counts = []
    for there in (2e9, 8e9):
        monkeypatch.setattr(memory, "available_bytes", lambda there=there: there)
        for options in ({}, {"gradient_checkpointing": True}):
            config = FinetuneConfig(**options)
            counts.append(most := memory.tokens_at_once(found, config, "bfloat16"))
            assert memory.needed_bytes(found, config, "bfloat16", most) <= 0.8 * there
            assert memory.needed_bytes(found, config, "bfloat16", most + 2) > 0.8 * there
            assert memory.largest_pass(found, config, "bfloat16", 10) == 10 * config.batch_size
            assert memory.largest_pass(found, config, "bfloat16", 2 * most) == 2 * most
    assert counts == sorted(counts)
    assert on_cpu == 8192
    monkeypatch.setattr(memory, "available_bytes", lambda: 1e9)  # less than the weights take
    assert memory.tokens_at_once(found, FinetuneConfig(), "bfloat16") == 1
