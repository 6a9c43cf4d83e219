"""Learning-rate schedules: UBA, the budget-aware one, and what it is compared with.

A schedule is a function of the step alone, so a run that resumes at any step goes on with the same
rates.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

from sft_diversity.core.errors import UsageError

Kind = Literal["uba", "cosine", "linear", "constant"]


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


def warmup_steps(warmup: float, total_steps: int) -> int:
    """Return warm-up in steps: below 1 it is a share of the run, else a number of steps.

    Raises
    ------
    UsageError
        If nothing would remain after warm-up.
    """
    steps = math.ceil(warmup * total_steps) if warmup < 1 else round(warmup)
    if steps >= total_steps and steps:
        raise UsageError(
            f"schedule: warm-up takes {steps} steps, but the run has {total_steps}; "
            "lower `warmup` or raise the budget"
        )
    return steps


def schedule_factor(
    kind: Kind, total_steps: int, warmup: int = 0, phi: float = 2.0, floor: float = 0.0
) -> Callable[[int], float]:
    """Return the function from step to the share of the peak learning rate, in [0, 1].

    Parameters
    ----------
    kind : {"uba", "cosine", "linear", "constant"}
        What follows warm-up.
    total_steps : int
        All optimizer steps, warm-up included.
    warmup : int
        Steps of linear warm-up: step s has (s + 1)/(warmup + 1) of the peak, so the first step is
        not wasted at 0 and step `warmup` is the first at the peak.
    phi : float
        Of UBA.
    floor : float
        η_min/η_max, the share that is left at the end.
    """
    length = total_steps - warmup

    def decay(step: int) -> float:
        if kind == "uba":
            return uba_factor(step, length, phi)
        if kind == "cosine":
            return uba_factor(step, length, 2.0)
        if kind == "linear":
            return min(max(1.0 - step / length, 0.0), 1.0)
        return 1.0

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        return floor + (1.0 - floor) * decay(step - warmup)

    factor(warmup)  # a wrong phi is refused here, not at the first step after warm-up
    return factor
