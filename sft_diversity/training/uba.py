"""UBA, the budget-aware learning-rate schedule: its factor, its laws, and warm-up before it."""

from __future__ import annotations

import math

from sft_diversity.core.errors import UsageError


def uba_factor(step: float, total_steps: float, phi: float) -> float:
    """Return the UBA factor: 1 at step 0, 0 at `total_steps`, clamped outside.

    Parameters
    ----------
    step : float
        Steps since warm-up ended, t.
    total_steps : float
        Steps without warm-up, T; at least 1.
    phi : float
        Above 0. 2 is exactly the cosine; towards 0 the rate stays high until T; larger decays
        sooner.

    Raises
    ------
    UsageError
        If `phi` is not a positive number or `total_steps` is below 1.

    Notes
    -----
    With c = 1 + cos(πt/T): 2c / (2φ + (2 − φ)c), which equals 1 / (1 + (φ/2)·tan²(πt/2T)).
    Half height at t/T = (2/π)·atan(√(2/φ)); mean 1/(1 + √(φ/2)). The first form is used: it has no
    pole at T. "Stepsize anything", arXiv:2505.24452.
    """
    if not (phi > 0 and math.isfinite(phi)):
        raise UsageError(
            f"schedule: phi is {phi}, but must be above 0: at 0 the rate would never fall, below "
            "it the formula has a pole inside the run; 2 is the cosine"
        )
    if total_steps < 1:
        raise UsageError(f"schedule: total_steps is {total_steps}, but must be at least 1")
    if step <= 0:
        return 1.0
    if step >= total_steps:
        return 0.0
    c = 1.0 + math.cos(math.pi * step / total_steps)
    return 2.0 * c / (2.0 * phi + (2.0 - phi) * c)


def uba_mean(phi: float) -> float:
    """Return the mean factor over the run, 1/(1 + √(φ/2))."""
    return 1.0 / (1.0 + math.sqrt(phi / 2.0))


def uba_half(phi: float) -> float:
    """Return the share of the run after which the factor is 1/2, (2/π)·atan(√(2/φ))."""
    return 2.0 / math.pi * math.atan(math.sqrt(2.0 / phi))


def warmup_steps(warmup: float, total_steps: int) -> int:
    """Return warm-up in steps: below 1 it is a share of the run, else a number of steps.

    A share is rounded up, but leaves the last step to the schedule: a run of one step has no
    warm-up.

    Raises
    ------
    UsageError
        If a number of steps leaves none after warm-up.
    """
    if warmup < 1:
        return min(math.ceil(warmup * total_steps), total_steps - 1)
    steps = round(warmup)
    if steps >= total_steps:
        raise UsageError(
            f"schedule: warm-up takes {steps} steps, but the run has {total_steps}; "
            "lower `warmup` or raise the budget"
        )
    return steps
