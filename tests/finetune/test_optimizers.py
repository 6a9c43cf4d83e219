from __future__ import annotations

import pytest
import torch

from sft_diversity.finetune import optimizers
from sft_diversity.finetune.schedules import schedule_factor


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


def descend(start: float, momentum: float, steps: int, factor=lambda step: 1.0) -> list[float]:
    """LION on x²/2 with exact gradients and rate 1; returns x after each step."""
    parameter = torch.nn.Parameter(torch.tensor([start], dtype=torch.float64))
    ours = lion([parameter], 1.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(ours, factor)
    parameter.grad = torch.zeros_like(parameter)
    ours.step()  # makes the state; a zero gradient moves nothing
    ours.state[parameter]["exp_avg"].fill_(momentum)
    seen = []
    for _ in range(steps):
        parameter.grad = parameter.detach().clone()
        ours.step()
        schedule.step()
        seen.append(parameter.item())
    return seen


def test_constant_lion_is_an_exact_two_cycle_from_its_start():
    seen = descend(0.5, -1.0 / 398.0, 40)
    assert seen == pytest.approx([-0.5, 0.5] * 20, abs=1e-12)


def test_constant_lion_comes_near_and_never_arrives():
    seen = descend(20.3, 0.0, 2_000)
    assert max(abs(x) for x in seen[-500:]) > 0.1
    assert max(abs(x) for x in seen[-500:]) < 20.0


def test_lion_converges_under_uba():
    seen = descend(20.3, 0.0, 2_000, schedule_factor("uba", 2_000, phi=5.0))
    assert abs(seen[-1]) < 1e-3


def test_defaults_follow_the_published_ratios():
    adamw = optimizers.resolve("adamw", 4096, False, None, None)
    lion_ = optimizers.resolve("lion", 4096, False, None, None)
    assert adamw == optimizers.Settings(lr=2e-5, weight_decay=0.01)
    assert 3 <= adamw.lr / lion_.lr <= 10
    assert 3 <= lion_.weight_decay / adamw.weight_decay <= 10
    assert optimizers.resolve("adamw", 4096, True, None, None).lr == pytest.approx(2e-4)
    assert optimizers.resolve("adamw", 256, False, None, None).lr == pytest.approx(3.2e-4)
    assert optimizers.resolve("lion", 256, True, 1e-3, 0.0) == optimizers.Settings(1e-3, 0.0)
