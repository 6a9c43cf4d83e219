"""UBA as a torch scheduler, for any training loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler

from sft_diversity.core.errors import UsageError
from sft_diversity.training.schedules import Phase, Schedule
from sft_diversity.training.uba import warmup_steps

_SETTINGS = ("total_steps", "phi", "warmup", "eta_min", "phases")
_PROGRESS, _RATES = ("last_epoch", "_step_count"), ("base_lrs", "_last_lr")  # torch's own names


class UBALR(LRScheduler):
    """Budget-aware rates; call `step` once after each `optimizer.step()`.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        The learning rate of each of its groups is the peak, η_max.
    total_steps : int
        Optimizer steps of the whole run, warm-up included.
    phi : float
        Above 0; 2 is the cosine, larger decays sooner.
    warmup : float
        Steps of linear warm-up, or below 1 their share of the run.
    eta_min : float
        Learning rate at the end, of every group.
    phases : sequence of Phase
        Restarts, each with its own length, peak, floor and phi.

    Raises
    ------
    UsageError
        If phi, warm-up, `eta_min` or the phases cannot be; when loading a state, if it is that of
        another schedule.

    Notes
    -----
    The rate is a function of the step alone: a scheduler that loads a state gives the rates of one
    that never stopped, on its own and in torch's `SequentialLR` and `ChainedScheduler`. As with
    torch's schedulers loading leaves the optimizer alone: load the optimizer's state too, which
    brings the rate of the step at hand. The state holds numbers and texts only.

    Examples
    --------
    >>> optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
    >>> scheduler = UBALR(optimizer, total_steps=1_000, phi=5.0, warmup=30, eta_min=1e-5)
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        total_steps: int,
        phi: float = 2.0,
        warmup: float = 0,
        eta_min: float = 0.0,
        phases: Sequence[Phase] | None = None,
        last_epoch: int = -1,
    ) -> None:
        if total_steps < 1:
            raise UsageError(f"schedule: total_steps is {total_steps}, but must be at least 1")
        self.total_steps, self.phi, self.eta_min = total_steps, phi, eta_min
        self.warmup = warmup_steps(warmup, total_steps)
        self.phases = [phase.model_dump() for phase in phases or ()]
        peaks = [float(g.get("initial_lr", g["lr"])) for g in optimizer.param_groups]
        if eta_min > min(peaks):
            raise UsageError(
                f"schedule: eta_min is {eta_min:g}, above the learning rate {min(peaks):g}"
            )
        self._factors = [
            Schedule(
                "uba", total_steps, self.warmup, phi, eta_min / peak if peak else 0.0, phases or ()
            )
            for peak in peaks
        ]
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float | torch.Tensor]:
        """Return the rate of each group at the present step."""
        return [
            peak * factor(self.last_epoch)
            for peak, factor in zip(self.base_lrs, self._factors, strict=True)
        ]

    def state_dict(self) -> dict[str, Any]:
        """Return the step, the peaks and the schedule."""
        state = {name: getattr(self, name) for name in (*_SETTINGS, *_PROGRESS)}
        rates = {name: [float(rate) for rate in getattr(self, name)] for name in _RATES}
        return state | rates

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go to the step of `state_dict`; the optimizer's rates are the optimizer's state."""
        mine = self.state_dict()
        for name in (*_SETTINGS, "base_lrs"):
            if state_dict[name] != mine[name]:
                raise UsageError(
                    f"schedule: {name} is {mine[name]}, but {state_dict[name]} in the saved state; "
                    "resume with the same schedule or start anew"
                )
        for name in _PROGRESS:
            setattr(self, name, state_dict[name])
        self._last_lr = [
            torch.full_like(peak, rate) if isinstance(peak, torch.Tensor) else rate
            for peak, rate in zip(self.base_lrs, state_dict["_last_lr"], strict=True)
        ]


def get_uba_schedule_with_warmup(
    optimizer: torch.optim.Optimizer,
    num_warmup_steps: int,
    num_training_steps: int,
    phi: float = 2.0,
    last_epoch: int = -1,
    min_lr: float = 0.0,
) -> UBALR:
    """Return the UBA schedule in the form of transformers' `get_cosine_schedule_with_warmup`.

    Parameters
    ----------
    num_warmup_steps : int
        Of linear warm-up: step s has (s + 1)/(w + 1) of the peak, so that none is at rate 0.
    num_training_steps : int
        Of the whole run, warm-up included.
    phi : float
        Above 0; 2 is the cosine, larger decays sooner.
    last_epoch : int
        Step to go on from.
    min_lr : float
        Rate at the end.
    """
    return UBALR(
        optimizer, num_training_steps, phi, int(num_warmup_steps), min_lr, last_epoch=last_epoch
    )
