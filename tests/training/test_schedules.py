from __future__ import annotations

import math
from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from sft_diversity.core.errors import UsageError
from sft_diversity.training.config import FinetuneConfig
from sft_diversity.training.schedules import Kind, Phase, Schedule
from sft_diversity.training.uba import uba_factor

KINDS: tuple[Kind, ...] = get_args(Kind)


def optimizer():
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)


@pytest.mark.parametrize("kind", KINDS)
def test_warm_up_is_linear_and_wastes_no_step(kind: Kind):
    factor = Schedule(kind, 20, warmup=4, phi=5.0)
    assert [factor(step) for step in range(5)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])


def test_the_floor_is_what_remains_at_the_end():
    ends: dict[Kind, float] = {
        "uba": 0.1, "cosine": 0.1, "linear": 0.1, "wsd": 0.1, "step": 0.109, "constant": 1.0,
    }  # fmt: skip
    for kind, end in ends.items():
        assert Schedule(kind, 20, warmup=4, floor=0.1)(20) == pytest.approx(end)


def test_linear_falls_in_a_line():
    factor = Schedule("linear", 10)
    assert [factor(step) for step in (0, 5, 10)] == [1.0, 0.5, 0.0]


def test_wsd_is_that_of_transformers():
    from transformers import get_wsd_schedule

    theirs = get_wsd_schedule(
        optimizer(), 0, num_decay_steps=40, num_stable_steps=160, decay_type="1-sqrt"
    ).lr_lambdas[0]
    ours = Schedule("wsd", 200)
    assert [ours(s) for s in range(201)] == pytest.approx([theirs(s) for s in range(201)])


def test_step_is_that_of_torch():
    params = optimizer()
    theirs = torch.optim.lr_scheduler.MultiStepLR(params, milestones=[50, 75], gamma=0.1)
    ours = Schedule("step", 100)
    for step in range(101):
        assert ours(step) == pytest.approx(theirs.get_last_lr()[0])
        params.step()
        theirs.step()


@given(
    kind=st.sampled_from(KINDS),
    phi=st.floats(0.05, 20.0),
    first=st.integers(1, 60),
    second=st.integers(1, 60),
    warmup=st.integers(0, 9),
)
def test_a_phase_is_a_schedule_of_its_own(kind, phi, first, second, warmup):
    phases = [Phase(length=first), Phase(peak=0.4, floor=0.1, phi=3.0)]
    whole = Schedule(kind, warmup + first + second, warmup, phi, 0.05, phases)
    one = Schedule(kind, first, 0, phi, 0.05)
    two = Schedule(kind, second, 0, 3.0, 0.25)
    assert [whole(warmup + s) for s in range(first)] == [one(s) for s in range(first)]
    assert [whole(warmup + first + s) for s in range(second + 1)] == pytest.approx(
        [0.4 * two(s) for s in range(second + 1)]
    )


def test_a_length_is_a_share_or_steps():
    shares = Schedule("uba", 110, 10, phases=[Phase(length=0.25), Phase(length=0.75)])
    steps = Schedule("uba", 110, 10, phases=[Phase(length=25), Phase()])
    assert [shares(s) for s in range(111)] == [steps(s) for s in range(111)]
    assert steps(34) == uba_factor(24, 25, 2.0)
    assert steps(35) == 1.0


def test_warm_up_leads_to_the_first_peak():
    factor = Schedule("uba", 20, 3, phases=[Phase(length=0.5, peak=0.4), Phase()])
    assert [factor(step) for step in range(4)] == pytest.approx([0.1, 0.2, 0.3, 0.4])


@pytest.mark.parametrize(
    ("phases", "reason"),
    [
        ([Phase(length=0.5), Phase(length=0.6)], "take 110 steps, but 100 follow"),
        ([Phase(length=40), Phase(length=40)], "take 80 steps, but 100 follow"),
        ([Phase(), Phase(length=40)], "phase 1 of 2 has no length"),
        ([Phase(length=0.001), Phase()], "phase 1 would have no step"),
        ([Phase(length=100), Phase()], "phase 2 would have no step"),
        ([Phase(length=50), Phase(peak=0.1)], "peaks at 0.1 of the learning rate, below the floor"),
    ],
)
def test_phases_that_do_not_make_up_the_run_are_refused(phases, reason):
    with pytest.raises(UsageError, match=reason):
        Schedule("uba", 100, floor=0.2, phases=phases)


def test_phases_are_mappings_or_one_line():
    line = FinetuneConfig.model_validate({"phases": "0.6 phi=1, peak=0.3 floor=0.01 phi=5"})
    table = FinetuneConfig.model_validate(
        {"phases": [{"length": 0.6, "phi": 1}, {"peak": 0.3, "floor": 0.01, "phi": 5}]}
    )
    assert line == table
    assert line.phases == (Phase(length=0.6, phi=1), Phase(peak=0.3, floor=0.01, phi=5))
    for wrong in ("0.6 peek=1", "half", "0.5 phi=0", "1 peak=0.1 floor=0.2"):
        with pytest.raises(ValidationError):
            FinetuneConfig.model_validate({"phases": wrong})


@given(
    kind=st.sampled_from(KINDS),
    phi=st.floats(0.05, 20.0),
    warmup=st.integers(0, 30),
    floor=st.floats(0.0, 0.5),
)
def test_equal_area_makes_the_sums_of_all_rates_equal(kind, phi, warmup, floor):
    peak = Schedule(kind, 200, warmup, phi, floor).equal_area()[0]
    factor = Schedule(kind, 200, warmup, phi, floor / peak)
    cosine = Schedule("cosine", 200, warmup, floor=floor)
    assert peak * sum(map(factor, range(200))) == pytest.approx(sum(map(cosine, range(200))))
    if kind != "constant":  # which has no floor
        assert peak * factor(200) >= floor * (1 - 1e-9)


def test_equal_area_holds_with_phases():
    phases = [Phase(length=0.5), Phase(peak=0.6, floor=0.01, phi=8.0)]
    peak = Schedule("uba", 300, 10, 0.5, 0.02, phases).equal_area()[0]
    factor = Schedule("uba", 300, 10, 0.5, 0.02 / peak, phases)
    cosine = Schedule("cosine", 300, 10, floor=0.02)
    assert peak * sum(map(factor, range(300))) == pytest.approx(sum(map(cosine, range(300))))


@pytest.mark.parametrize("phi", [0.05, 0.5, 1.0, 2.0, 5.0, 20.0])
def test_equal_area_follows_the_closed_mean_in_a_long_run(phi):
    assert Schedule("uba", 5_000, phi=phi).equal_area()[0] == pytest.approx(
        (1.0 + math.sqrt(phi / 2.0)) / 2.0, rel=1e-2
    )


def test_a_floor_that_equal_area_lifts_above_a_phase_is_refused():
    phases = [Phase(length=0.5, peak=3.0), Phase(peak=0.95)]
    schedule = Schedule("constant", 100, floor=0.9, phases=phases)
    with pytest.raises(UsageError, match="below the floor"):
        schedule.equal_area()


def test_a_floor_below_high_phases_is_kept_at_equal_area():
    phases = [Phase(length=0.5, peak=3.0), Phase(peak=2.5)]
    peak = Schedule("linear", 100, floor=0.9, phases=phases).equal_area()[0]
    assert peak < 0.9
    assert peak * Schedule("linear", 100, 0, 2.0, 0.9 / peak, phases)(100) == (pytest.approx(0.9))


def test_the_trainer_follows_phases_at_equal_area(tmp_path, subset, config):
    import json

    from sft_diversity.training.stage import finetune

    asked = config(
        optimizer="sgd", schedule="uba", phi=0.5, phases="0.5, peak=0.5", equal_area=True,
        lr=0.01, lr_min=0.001, warmup=2,
    )  # fmt: skip
    result = finetune(subset, tmp_path / "out", asked, lambda line: None)["result"]
    lines = (tmp_path / "out" / "training.jsonl").read_text().splitlines()
    rates = [json.loads(line)["lr"] for line in lines]
    peak = result["lr"]
    factor = Schedule("uba", 10, 2, 0.5, 0.001 / peak, asked.phases)
    assert rates == pytest.approx([peak * factor(step) for step in range(10)])
    cosine = Schedule("cosine", 10, 2, floor=0.1)
    assert sum(rates) == pytest.approx(0.01 * sum(map(cosine, range(10))))
    assert rates[6] == pytest.approx(peak / 2)
