from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from sft_diversity.core import machine
from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.training import optimizers
from sft_diversity.training.config import FinetuneConfig
from sft_diversity.training.schedules import Schedule
from sft_diversity.training.stage import finetune, plan


def lion(parameters, lr, **options):
    kind, defaults = optimizers.optimizer_class("lion", lr)
    return kind(parameters, **(defaults | options))


@pytest.mark.parametrize("foreach", [True, False])
def test_lion_is_the_algorithm_of_its_paper_step_by_step(foreach):
    generator = torch.Generator().manual_seed(0)

    def draw():
        return torch.randn(7, 5, dtype=torch.float64, generator=generator)

    lr, decay = 1e-2, 0.1
    parameter = torch.nn.Parameter(draw())
    x, m = parameter.detach().clone(), torch.zeros(7, 5, dtype=torch.float64)
    ours = lion([parameter], lr, weight_decay=decay, foreach=foreach)
    for _ in range(50):
        g = draw()
        c = 0.9 * m + 0.1 * g
        x = x - lr * (torch.sign(c) + decay * x)
        m = 0.99 * m + 0.01 * g
        parameter.grad = g.clone()
        ours.step()
        torch.testing.assert_close(parameter.detach(), x, rtol=0, atol=1e-13)


def test_adamw_is_the_algorithm_of_its_paper_step_by_step():
    generator = torch.Generator().manual_seed(2)
    lr, decay = 1e-2, 0.1
    parameter = torch.nn.Parameter(torch.randn(7, 5, dtype=torch.float64, generator=generator))
    kind, defaults = optimizers.optimizer_class("adamw", lr)
    ours = kind([{"params": [parameter], "weight_decay": decay}], **defaults)
    x = parameter.detach().clone()
    m, v = torch.zeros_like(x), torch.zeros_like(x)
    for step in range(1, 51):
        g = torch.randn(7, 5, dtype=torch.float64, generator=generator)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        x = x - lr * decay * x
        x = x - lr * (m / (1 - 0.9**step)) / ((v / (1 - 0.999**step)).sqrt() + 1e-8)
        parameter.grad = g.clone()
        ours.step()
        torch.testing.assert_close(parameter.detach(), x, rtol=0, atol=1e-12)


def descend(starts, momenta, steps, lr=1.0, factor=lambda step: 1.0):
    """LION on x²/2 with exact gradients, all starts at once; returns x after each step."""
    parameter = torch.nn.Parameter(torch.tensor(starts, dtype=torch.float64))
    ours = lion([parameter], lr)
    schedule = torch.optim.lr_scheduler.LambdaLR(ours, factor)
    parameter.grad = torch.zeros_like(parameter)
    ours.step()  # makes the state; a zero gradient moves nothing
    ours.state[parameter]["exp_avg"].copy_(torch.tensor(momenta, dtype=torch.float64))
    seen = []
    for _ in range(steps):
        parameter.grad = parameter.detach().clone()
        ours.step()
        schedule.step()
        seen.append(parameter.detach().clone())
    return torch.stack(seen)


@pytest.mark.parametrize("lr", [1.0, 0.003])
def test_constant_lion_is_an_exact_two_cycle_from_its_start(lr):
    seen = descend([lr / 2], [-lr / 398], 200, lr)[:, 0]
    expected = torch.tensor([-lr / 2, lr / 2] * 100, dtype=torch.float64)
    torch.testing.assert_close(seen, expected, rtol=1e-12, atol=0)


def random_starts(lr):
    generator = torch.Generator().manual_seed(1)
    starts = (torch.rand(500, generator=generator, dtype=torch.float64) - 0.5) * 40 * lr
    momenta = (torch.rand(500, generator=generator, dtype=torch.float64) - 0.5) * 2 * lr
    return starts.tolist(), momenta.tolist()


@pytest.mark.parametrize("lr", [1.0, 0.02])
def test_constant_lion_comes_near_and_never_arrives(lr):
    ends = descend(*random_starts(lr), 3_000, lr)[-500:].abs().amax(0)
    assert ends.min() >= lr / 2 * (1 - 1e-9)  # two points a step apart are not both nearer to 0
    assert ends.max() < 1.5 * lr


@pytest.mark.parametrize("phi", [0.5, 2.0, 5.0])
def test_lion_converges_under_uba(phi):
    factor = Schedule("uba", 3_000, phi=phi)
    assert descend(*random_starts(1.0), 3_000, factor=factor)[-1].abs().max() < 1e-3


def test_sgd_decays_beside_the_gradient_and_not_through_it():
    generator = torch.Generator().manual_seed(0)
    parameter = torch.nn.Parameter(torch.randn(6, dtype=torch.float64, generator=generator))
    kind, defaults = optimizers.optimizer_class("sgd", 0.1)
    ours = kind([{"params": [parameter], "weight_decay": 0.5}], **defaults)
    x, m = parameter.detach().clone(), torch.zeros(6, dtype=torch.float64)
    for _ in range(30):
        g = torch.randn(6, dtype=torch.float64, generator=generator)
        m = 0.9 * m + g
        x = x - 0.1 * (m + 0.5 * x)
        parameter.grad = g.clone()
        # Decay first, then the step: of the decayed x, as in AdamW; g does not depend on it here.
        ours.step()
        torch.testing.assert_close(parameter.detach(), x, rtol=0, atol=1e-12)


def test_sgd_asks_for_a_rate():
    with pytest.raises(UsageError, match="sgd has no published rate for fine-tuning; give lr"):
        optimizers.settings_for("sgd", 256, False, None, None)
    with pytest.raises(ValidationError, match="give lr"):
        FinetuneConfig(optimizer="sgd")
    assert optimizers.settings_for("sgd", 256, False, 0.5, None) == optimizers.Settings(0.5, 0.0)


@pytest.mark.parametrize("name", ["adamw-8bit", "lion-8bit"])
def test_8_bit_without_a_gpu_is_refused_before_any_work(
    name, tmp_path, subset, config, monkeypatch
):
    monkeypatch.setenv(machine.DETECT, "gpus=0")
    with pytest.raises(DataError, match=f"{name} needs a CUDA GPU.*; use {name[:-5]}"):
        finetune(subset, tmp_path / "out", config(optimizer=name), lambda line: None)
    with pytest.raises(DataError, match="needs a CUDA GPU"):
        plan(subset, tmp_path / "out", config(optimizer=name))


@pytest.mark.parametrize("name", ["adamw-8bit", "lion-8bit"])
def test_8_bit_takes_nearly_the_steps_of_32_bit(name):
    """bitsandbytes on a CPU: the class and the options, not its CUDA kernels."""
    pytest.importorskip("bitsandbytes")
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(64, 128, generator=generator)
    pair = [torch.nn.Parameter(start.clone()) for _ in range(2)]
    built = []
    for parameter, kind_name in zip(pair, (name, name.removesuffix("-8bit")), strict=True):
        kind, options = optimizers.optimizer_class(kind_name, 1e-2)
        built.append(kind([{"params": [parameter], "weight_decay": 0.5}], **options))
    assert built[0].state_dict()["param_groups"][0]["betas"] == built[1].defaults["betas"]
    for _ in range(10):
        g = torch.randn(64, 128, generator=generator)
        for parameter, one in zip(pair, built, strict=True):
            parameter.grad = g.clone()
            one.step()
    assert ((pair[0] - pair[1]).abs() > 1e-2).float().mean() < 0.02
    assert built[0].state[pair[0]]["state1"].dtype == torch.uint8


@pytest.mark.parametrize(
    "family",
    ["Llama", "Mistral", "Qwen2", "Qwen3", "Gemma3Text", "Phi3", "Olmo2", "GPTNeoX", "GPT2"],
)
def test_matrices_decay_and_norms_and_biases_do_not(family):
    import transformers

    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "vocab_size": 64}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 16}
    if family == "GPT2":
        sizes, heads = {"n_embd": 32, "n_layer": 1, "vocab_size": 64}, {"n_head": 2}
    kind = getattr(transformers, f"{family}Config")
    described = kind(**sizes, **heads, pad_token_id=0, bos_token_id=1, eos_token_id=2)
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(described)
    everything = model.named_parameters(remove_duplicate=False)  # a tied head under both names
    decayed = set(transformers.Trainer.get_decay_parameter_names(None, model))
    assert decayed == {name for name, p in everything if p.ndim > 1}


def test_defaults_follow_the_published_ratios():
    adamw = optimizers.settings_for("adamw", 4096, False, None, None)
    lion_ = optimizers.settings_for("lion", 4096, False, None, None)
    assert adamw == optimizers.Settings(lr=2e-5, weight_decay=0.01)
    assert 3 <= adamw.lr / lion_.lr <= 10
    assert 3 <= lion_.weight_decay / adamw.weight_decay <= 10
    assert optimizers.settings_for("adamw", 4096, True, None, None).lr == pytest.approx(2e-4)
    assert optimizers.settings_for("adamw", 256, False, None, None).lr == pytest.approx(3.2e-4)
    assert optimizers.settings_for("lion-8bit", 4096, False, None, None) == lion_
    assert optimizers.settings_for("adamw-8bit", 4096, False, None, None) == adamw
    assert optimizers.settings_for("lion", 256, True, 1e-3, 0.0) == optimizers.Settings(1e-3, 0.0)
