"""Learning-rate schedules as functions of the step alone, so that a resumed run goes on with the
same rates: UBA and what it is compared with, in one phase or several.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from sft_diversity.core.config import Config
from sft_diversity.core.errors import UsageError
from sft_diversity.training.uba import uba_factor

Kind = Literal["uba", "cosine", "linear", "wsd", "step", "constant"]

Shape = Callable[[int, int, float], float]  # (step of the phase, its steps T, phi) -> 1 to 0


class Phase(Config):
    """A part of the run after warm-up in which the schedule goes once from its peak to its floor.

    Peak and floor are shares of the run's peak learning rate.
    """

    length: float | None = Field(
        None,
        gt=0,
        description="below 1 a share of the steps after warm-up, else steps; default, of the last "
        "phase alone: what the others leave",
    )
    peak: float = Field(1.0, gt=0, description="share of the run's peak at its start")
    floor: float | None = Field(
        None, ge=0, description="share of the run's peak at its end; default: the run's floor"
    )
    phi: float | None = Field(None, gt=0, description="UBA's φ; default: the run's")

    @model_validator(mode="after")
    def _falls(self) -> Phase:
        if self.floor is not None and self.floor > self.peak:
            raise ValueError(f"floor is {self.floor:g}, above peak {self.peak:g}")
        return self


def _parsed(phases: Any) -> Any:
    """Turn `"0.6 phi=1, 0.4 peak=0.3 phi=5"` into a list of mappings; leave the rest as it is."""
    if phases is None:
        return ()
    if not isinstance(phases, str):
        return phases
    found = []
    for text in filter(None, map(str.strip, phases.split(","))):
        words = [word if "=" in word else f"length={word}" for word in text.split()]
        found.append(dict(word.split("=", 1) for word in words))
    return found


# What options that several commands have say of themselves; phases are mappings, or one line.
KindOption = Annotated[Kind, Field(description="shape of the rates over the run")]
Phi = Annotated[float, Field(description="UBA's φ: 2 is the cosine, larger decays sooner")]
WarmUp = Annotated[float, Field(ge=0, description="linear warm-up: a share below 1, else steps")]
Phases = Annotated[
    tuple[Phase, ...],
    BeforeValidator(_parsed),
    Field(
        description="restarts after warm-up, each with its length, peak, floor and phi, as in "
        '"0.6 phi=1, 0.4 peak=0.3 phi=5"'
    ),
]


def _linear(step: int, length: int, phi: float) -> float:
    return min(max(1.0 - step / length, 0.0), 1.0)


def _wsd(step: int, length: int, phi: float) -> float:
    """Warm-up, stable, decay: the last fifth falls as 1 − √ (Hägele et al. 2024, 2405.18392)."""
    share = (step - 0.8 * length) / (0.2 * length)
    return 1.0 - math.sqrt(min(max(share, 0.0), 1.0))


def _step(step: int, length: int, phi: float) -> float:
    """A tenth after half the run and again after three quarters (He et al. 2016, 1512.03385)."""
    return 0.1 ** ((2 * step >= length) + (4 * step >= 3 * length))


SHAPES: dict[Kind, Shape] = {
    "uba": uba_factor,
    "cosine": lambda step, length, phi: uba_factor(step, length, 2.0),
    "linear": _linear,
    "wsd": _wsd,
    "step": _step,
    "constant": lambda step, length, phi: 1.0,
}


@dataclass(frozen=True)
class Schedule:
    """The share of the peak learning rate, as a function of the step.

    Attributes
    ----------
    kind : {"uba", "cosine", "linear", "wsd", "step", "constant"}
        What follows warm-up.
    total_steps : int
        All optimizer steps, warm-up included.
    warmup : int
        Steps of linear warm-up: step s has (s + 1)/(warmup + 1) of the first peak, so the first
        step is not wasted at 0 and step `warmup` is the first at the peak.
    phi : float
        Of UBA.
    floor : float
        η_min/η_max, the share that is left at the end.
    phases : sequence of Phase
        Restarts; none means one phase. A phase starts at its peak where the one before would have
        reached its floor.

    Raises
    ------
    UsageError
        If `phi` is not positive, or the phases do not make up the run.
    """

    kind: Kind
    total_steps: int
    warmup: int = 0
    phi: float = 2.0
    floor: float = 0.0
    phases: Sequence[Phase] = ()

    def __post_init__(self) -> None:
        self(self.warmup)  # a wrong phi is refused here, not at the first step after warm-up

    def __call__(self, step: int) -> float:
        """Return the share at a step."""
        if step < self.warmup:
            return self._spans[0].peak * ((step + 1) / (self.warmup + 1))
        step -= self.warmup
        span = self._spans[bisect.bisect_right(self._spans, step, key=lambda s: s.start) - 1]
        decay = SHAPES[self.kind](step - span.start, span.steps, span.phi)
        return span.floor + (span.peak - span.floor) * decay

    def equal_area(self) -> tuple[float, Schedule]:
        """Return the peak at which rates sum to those of a cosine with peak 1, and its schedule.

        Warm-up and the rate at the end, η_min, are the same in both: the new schedule's floor is
        the old one's in the unit of the peak.

        Notes
        -----
        The sums are those over the steps. Without warm-up and floor and for many steps it is the
        ratio of means, for UBA (1 + √(φ/2))/2.
        """

        def at(peak: float) -> Schedule:
            return replace(self, floor=self.floor / peak)

        cosine = Schedule("cosine", self.total_steps, self.warmup, floor=self.floor)
        one, two = self._area(), 2.0 * at(2.0)._area()
        peak = 1.0 + (cosine._area() - one) / (two - one)  # the sum is affine in the peak
        return peak, at(peak)

    def _area(self) -> float:
        return math.fsum(map(self, range(self.total_steps)))

    @cached_property
    def _spans(self) -> list[_Span]:
        """The phases in steps, which make up the run."""
        length, phases = self.total_steps - self.warmup, self.phases or (Phase(),)
        spans, end = [], 0.0
        for number, phase in enumerate(phases, 1):
            start = end
            if phase.length is not None:
                end += phase.length * length if phase.length < 1 else phase.length
            elif number == len(phases):
                end = length
            else:
                raise UsageError(
                    f"schedule: phase {number} of {len(phases)} has no length; only the last may "
                    "not"
                )
            least = self.floor if phase.floor is None else phase.floor
            if least > phase.peak:
                raise UsageError(
                    f"schedule: phase {number} peaks at {phase.peak:g} of the learning rate, below "
                    f"the floor {least:g}; raise its peak or give it a lower floor"
                )
            first, last = round(start), round(end)
            if last <= first:
                raise UsageError(
                    f"schedule: phase {number} would have no step (the run has {length:,} after "
                    "warm-up); make it longer or leave it out"
                )
            phi = self.phi if phase.phi is None else phase.phi
            spans.append(_Span(first, last - first, phase.peak, least, phi))
        if round(end) != length:
            raise UsageError(
                f"schedule: the phases take {round(end):,} steps, but {length:,} follow warm-up; "
                "leave out the last length, or give shares that sum to 1"
            )
        return spans


@dataclass(frozen=True)
class _Span:
    """A phase in steps after warm-up, with nothing left open."""

    start: int
    steps: int
    peak: float
    floor: float
    phi: float
