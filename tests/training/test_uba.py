from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

from sft_diversity.core.errors import UsageError
from sft_diversity.training.schedules import Schedule
from sft_diversity.training.uba import uba_factor, uba_half, uba_mean, warmup_steps

phis = st.floats(0.01, 100.0)


def test_phi_two_is_the_cosine_of_transformers():
    import torch
    from transformers import get_cosine_schedule_with_warmup

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = get_cosine_schedule_with_warmup(optimizer, 0, 1000).lr_lambdas[0]
    for step in range(1001):
        assert abs(uba_factor(step, 1000, 2.0) - theirs(step)) < 1e-12


@given(phi=phis, share=st.floats(0.0, 0.999))
def test_both_closed_forms_agree(phi, share):
    other = 1.0 / (1.0 + phi / 2.0 * math.tan(math.pi * share / 2.0) ** 2)
    assert uba_factor(share * 640, 640, phi) == pytest.approx(other, abs=1e-12)


@given(phi=phis, total=st.integers(1, 10_000))
def test_it_runs_from_one_to_zero_and_is_clamped_beyond(phi, total):
    assert uba_factor(0, total, phi) == uba_factor(-5, total, phi) == 1.0
    assert uba_factor(total, total, phi) == uba_factor(total + 5, total, phi) == 0.0


@given(phi=phis)
def test_half_height_lies_where_the_law_says(phi):
    share = 2.0 / math.pi * math.atan(math.sqrt(2.0 / phi))
    assert uba_factor(share * 1000.0, 1000, phi) == pytest.approx(0.5, abs=1e-12)
    assert uba_half(phi) == pytest.approx(share, abs=1e-15)


@pytest.mark.parametrize("phi", [0.05, 0.5, 1.0, 2.0, 5.0, 50.0])
def test_the_mean_factor_follows_the_law(phi):
    mean, _ = quad(lambda share: uba_factor(share * 1000.0, 1000, phi), 0.0, 1.0, limit=200)
    assert mean == pytest.approx(1.0 / (1.0 + math.sqrt(phi / 2.0)), abs=1e-9)
    assert mean == pytest.approx(uba_mean(phi), abs=1e-9)


@given(phi=phis, total=st.integers(2, 300))
def test_it_never_rises(phi, total):
    values = [uba_factor(step, total, phi) for step in range(total + 1)]
    assert all(a >= b for a, b in itertools.pairwise(values))


@pytest.mark.parametrize("phi", [0.0, -1.0, math.nan, math.inf])
def test_a_phi_that_is_not_positive_is_refused_with_the_reason(phi):
    with pytest.raises(UsageError, match="must be above 0"):
        uba_factor(1, 10, phi)
    with pytest.raises(UsageError, match="must be above 0"):
        Schedule("uba", 10, phi=phi)


def test_warm_up_is_a_share_or_a_number_of_steps():
    assert [warmup_steps(w, 100) for w in (0, 0.03, 0.001, 10, 99)] == [0, 3, 1, 10, 99]
    with pytest.raises(UsageError, match="the run has 100"):
        warmup_steps(100, 100)
    with pytest.raises(UsageError, match="takes 1 steps, but the run has 1"):
        warmup_steps(1, 1)


@given(share=st.floats(0.0, 1.0, exclude_max=True), total=st.integers(1, 300))
def test_a_share_of_warm_up_leaves_a_step_at_the_peak(share, total):
    steps = warmup_steps(share, total)
    assert 0 <= steps < total
    assert steps in (math.ceil(share * total), total - 1)
    factor = Schedule("uba", total, steps)
    assert max(factor(step) for step in range(total)) == factor(steps) == 1.0
    assert factor(total) == 0.0


@pytest.mark.parametrize(("total", "expected"), [(1, [1.0]), (2, [0.5, 1.0]), (3, [0.5, 1.0, 0.5])])
def test_short_runs_with_the_default_warm_up(total, expected):
    factor = Schedule("uba", total, warmup_steps(0.03, total))
    assert [factor(step) for step in range(total)] == pytest.approx(expected)
