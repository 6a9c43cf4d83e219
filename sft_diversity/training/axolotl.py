"""A plug-in of axolotl: the UBA schedule and the gradient figures, by keys of its config.

    plugins: [sft_diversity.training.axolotl.DiversityPlugin]
    uba_phi: 1.0
    gradient_theory: true

Only axolotl imports this file: the base class is its own.
"""

from __future__ import annotations

from typing import Any

import torch
from axolotl.integrations.base import BasePlugin
from pydantic import BaseModel, Field
from torch.optim.lr_scheduler import LRScheduler
from transformers import TrainerCallback

from sft_diversity.training.callbacks import GradientTheory
from sft_diversity.training.lr_scheduler import UBALR


class DiversityArgs(BaseModel):
    """Keys that the plug-in adds to axolotl's config."""

    uba_phi: float | None = Field(default=None, gt=0, description="UBA with this φ; 2: the cosine")
    uba_eta_min: float | None = Field(default=None, ge=0, description="rate at the end")
    gradient_theory: bool | None = Field(default=None, description="log the gradient's figures")


class DiversityPlugin(BasePlugin):  # type: ignore[misc]
    """UBA in the place of axolotl's scheduler where `uba_phi` is set; warm-up is axolotl's."""

    def get_input_args(self) -> str:
        """Return where the keys are declared."""
        return f"{DiversityArgs.__module__}.{DiversityArgs.__qualname__}"

    def create_lr_scheduler(
        self,
        cfg: Any,
        trainer: Any,
        optimizer: torch.optim.Optimizer | None,
        num_training_steps: int,
    ) -> LRScheduler | None:
        """Return the schedule; None leaves it to axolotl."""
        if cfg.uba_phi is None:
            return None
        return UBALR(
            optimizer or trainer.optimizer,
            num_training_steps,
            phi=cfg.uba_phi,
            warmup=trainer.args.get_warmup_steps(num_training_steps),
            eta_min=cfg.uba_eta_min or 0.0,
        )

    def add_callbacks_pre_trainer(self, cfg: Any, model: Any) -> list[TrainerCallback]:
        """Return the callback that logs the figures, where it is asked for."""
        return [GradientTheory()] if cfg.gradient_theory else []
