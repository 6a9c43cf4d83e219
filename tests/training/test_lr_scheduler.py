from __future__ import annotations

import io
import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import lr_scheduler as schedulers

import sft_diversity
from sft_diversity import UBALR, Phase
from sft_diversity.core.errors import UsageError
from sft_diversity.training.schedules import Schedule

PHASES = [Phase(length=0.5), Phase(peak=0.5, floor=0.1, phi=4.0)]


def optimizer(*rates: float):
    groups = [{"params": [torch.nn.Parameter(torch.zeros(2))], "lr": rate} for rate in rates]
    return torch.optim.SGD(groups)


def walk(scheduler, steps):
    """The rates that an optimizer sees, step by step."""
    seen = []
    for _ in range(steps):
        seen.append([group["lr"] for group in scheduler.optimizer.param_groups])
        scheduler.optimizer.step()
        scheduler.step()
    return seen


def test_it_is_a_scheduler_of_torch_and_exported():
    assert issubclass(UBALR, torch.optim.lr_scheduler.LRScheduler)
    assert sft_diversity.UBALR is UBALR
    with pytest.raises(AttributeError):
        _ = sft_diversity.UBALS


def test_phi_two_is_torchs_cosine():
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer(1e-3, 5e-3), 50, eta_min=1e-4)
    ours = UBALR(optimizer(1e-3, 5e-3), 50, eta_min=1e-4)
    for a, b in zip(walk(ours, 51), walk(theirs, 51), strict=True):
        assert a == pytest.approx(b, abs=1e-12)


def test_its_rates_are_those_of_the_trainer():
    factor = Schedule("uba", 60, 6, 5.0, 0.1, PHASES)
    seen = walk(UBALR(optimizer(2e-3), 60, phi=5.0, warmup=0.1, eta_min=2e-4, phases=PHASES), 61)
    assert [rate for (rate,) in seen] == [2e-3 * factor(step) for step in range(61)]


@given(
    stop=st.integers(0, 40),
    phi=st.floats(0.05, 50.0),
    warmup=st.integers(0, 9),
    phases=st.sampled_from([None, PHASES]),
)
def test_resume_at_any_step_gives_the_same_rates(stop, phi, warmup, phases):
    def fresh():
        return UBALR(optimizer(1e-3, 3e-4), 40, phi, warmup, 1e-5, phases)

    undisturbed = walk(fresh(), 45)
    second = resumed(fresh, stop)
    assert second.get_last_lr() == undisturbed[stop]
    assert walk(second, 45 - stop) == undisturbed[stop:]


def resumed(fresh, stop):
    """A scheduler that goes on after `stop` steps of another, from both states in a file."""
    first, second = fresh(), fresh()
    walk(first, stop)
    saved = io.BytesIO()
    torch.save([first.optimizer.state_dict(), first.state_dict()], saved)
    saved.seek(0)
    states = torch.load(saved, weights_only=True)
    second.optimizer.load_state_dict(states[0])
    second.load_state_dict(states[1])
    return second


def test_loading_a_state_leaves_the_optimizer_alone_as_torchs_schedulers_do():
    first = UBALR(optimizer(1e-3), 40)
    walk(first, 13)
    second = UBALR(optimizer(1e-3), 40)
    second.load_state_dict(first.state_dict())
    assert second.optimizer.param_groups[0]["lr"] == 1e-3
    assert second.get_last_lr() == first.get_last_lr()


def by_torch(params):
    """UBA of 20 steps, 4 of them warm-up, with torch's own class: what `ours` is held to."""
    peaks = [group.get("initial_lr", group["lr"]) for group in params.param_groups]
    factors = [Schedule("uba", 20, 4, 5.0, 1e-5 / peak) for peak in peaks]
    return schedulers.LambdaLR(params, factors)


def ours(params):
    return UBALR(params, 20, phi=5.0, warmup=4, eta_min=1e-5)


PARTNERS = {
    "LambdaLR": lambda o: schedulers.LambdaLR(o, lambda step: 0.9**step),
    "MultiplicativeLR": lambda o: schedulers.MultiplicativeLR(o, lambda step: 0.9),
    "StepLR": lambda o: schedulers.StepLR(o, 3, 0.5),
    "MultiStepLR": lambda o: schedulers.MultiStepLR(o, [2, 5], 0.5),
    "ConstantLR": lambda o: schedulers.ConstantLR(o, 0.5, 4),
    "LinearLR": lambda o: schedulers.LinearLR(o, 0.1, total_iters=6),
    "ExponentialLR": lambda o: schedulers.ExponentialLR(o, 0.9),
    "PolynomialLR": lambda o: schedulers.PolynomialLR(o, 9, 2.0),
    "CosineAnnealingLR": lambda o: schedulers.CosineAnnealingLR(o, 7),
    "CosineAnnealingWarmRestarts": lambda o: schedulers.CosineAnnealingWarmRestarts(o, 3),
    "CyclicLR": lambda o: schedulers.CyclicLR(o, 1e-4, 2e-3, 3, cycle_momentum=False),
    "OneCycleLR": lambda o: schedulers.OneCycleLR(o, 2e-3, 40, cycle_momentum=False),
}


def first_then(other, uba, params):
    return schedulers.SequentialLR(params, [other(params), uba(params)], [6])


def last_then(other, uba, params):
    return schedulers.SequentialLR(params, [uba(params), other(params)], [6])


def chained(other, uba, params):
    return schedulers.ChainedScheduler([uba(params), other(params)])


def chained_last(other, uba, params):
    return schedulers.ChainedScheduler([other(params), uba(params)])


@pytest.mark.filterwarnings("ignore:.*epoch parameter in `scheduler.step:UserWarning")
@pytest.mark.parametrize("composed", [first_then, last_then, chained, chained_last])
@pytest.mark.parametrize("partner", PARTNERS)
def test_within_torchs_composers_it_is_what_lambdalr_is_also_when_resumed(composed, partner):
    def build(uba):
        return composed(PARTNERS[partner], uba, optimizer(1e-3, 3e-4))

    undisturbed = walk(build(ours), 24)
    assert undisturbed == walk(build(by_torch), 24)
    for stop in range(24):
        second = resumed(lambda: build(ours), stop)
        assert second.get_last_lr() == undisturbed[stop]
        assert walk(second, 24 - stop) == undisturbed[stop:]


def test_its_state_is_plain_json():
    state = UBALR(optimizer(1e-3), 40, phases=PHASES).state_dict()
    assert json.loads(json.dumps(state)) == state


def test_the_optimizers_state_and_its_own_go_together():
    def pair():
        params = optimizer(1e-3)
        return params, UBALR(params, 40, phi=5.0)

    params, scheduler = pair()
    undisturbed = walk(scheduler, 40)
    params, scheduler = pair()
    walk(scheduler, 13)
    resumed, again = pair()
    again.load_state_dict(scheduler.state_dict())
    resumed.load_state_dict(params.state_dict())
    assert walk(again, 27) == undisturbed[13:]


def test_the_state_of_another_schedule_is_refused_with_the_difference():
    state = UBALR(optimizer(1e-3), 40).state_dict()
    with pytest.raises(UsageError, match="total_steps is 80, but 40 in the saved state"):
        UBALR(optimizer(1e-3), 80).load_state_dict(state)
    with pytest.raises(UsageError, match=r"base_lrs is \[0.002\]"):
        UBALR(optimizer(2e-3), 40).load_state_dict(state)


@pytest.mark.parametrize("phi", [0.0, -1.0])
def test_a_phi_that_is_not_positive_is_refused_with_the_reason(phi):
    with pytest.raises(UsageError, match="must be above 0: at 0 the rate would never fall"):
        UBALR(optimizer(1e-3), 40, phi)


def test_other_impossible_settings_are_refused():
    with pytest.raises(UsageError, match="total_steps is 0"):
        UBALR(optimizer(1e-3), 0)
    with pytest.raises(UsageError, match=r"eta_min is 0\.01, above the learning rate 0\.001"):
        UBALR(optimizer(1e-3), 40, eta_min=1e-2)
    with pytest.raises(UsageError, match="warm-up takes 40"):
        UBALR(optimizer(1e-3), 40, warmup=40)


def test_a_rate_that_is_a_tensor_stays_one():
    params = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(2))], lr=torch.tensor(1e-3))
    scheduler = UBALR(params, 10, phi=1.0)
    params.step()
    scheduler.step()
    rate = params.param_groups[0]["lr"]
    assert isinstance(rate, torch.Tensor)
    assert rate.item() == pytest.approx(1e-3 * Schedule("uba", 10, phi=1.0)(1))
