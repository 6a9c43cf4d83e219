"""Callbacks: the gradient figures of `theory` in any trainer's log, and the best weights kept."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import EarlyStoppingCallback, TrainerCallback

from sft_diversity.training import evaluation
from sft_diversity.training.theory import GradientFigures, gradient_figures


class GradientTheory(TrainerCallback):
    """Logs what the convergence papers speak of beside the loss: `grad_l1`, `grad_ratio`, …

    Parameters
    ----------
    box : bool, optional
        Whether to log LION's KKT gap and the share of weights in its box; default: where the
        optimizer's class is called LION.

    Attributes
    ----------
    figures : GradientFigures or None
        Of the last step, as it is logged: before clipping.

    Notes
    -----
    The trainer calls back after it has clipped, which multiplies the gradient by one number. What
    is logged is brought back to the norm that the trainer logs as `grad_norm`, that of the gradient
    before; `grad_ratio` needs no scale. Figures are added to the state's `log_history` and to the
    logs that later callbacks see: to have them in a tracker, put this one first,
    `trainer.callback_handler.callbacks.insert(0, GradientTheory())`.

    Reads gradients once a step that is logged, and weights once for LION. DDP, FSDP 1 and 2;
    DeepSpeed keeps gradients out of sight, and nothing is logged there. Source: see `theory`.
    """

    def __init__(self, box: bool | None = None) -> None:
        self.figures: GradientFigures | None = None
        self._box = box

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Measure the gradient of the step."""
        optimizer, model = kwargs["optimizer"], kwargs["model"]
        inner = getattr(optimizer, "optimizer", optimizer)  # accelerate wraps it
        groups = inner.param_groups
        if all(one.grad is None for group in groups for one in group["params"]):
            self.figures = None
            return
        box = "lion" in type(inner).__name__.lower() if self._box is None else self._box
        flat = next(_flat_shards(model), None)
        self.figures = gradient_figures(
            groups, box, shards=flat is not None,
            process_group=None if flat is None else flat.process_group,
        )  # fmt: skip

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        """Add the figures to the log of a step's loss."""
        if self.figures is None or logs is None or "grad_norm" not in logs:
            return
        norm, clipped = float(logs["grad_norm"]), self.figures.grad_l2
        if math.isfinite(norm) and clipped > 0:
            self.figures = self.figures.scaled(norm / clipped)
        told = self.figures.as_log()
        logs |= told
        if state.log_history and state.log_history[-1].get("step") == state.global_step:
            state.log_history[-1] |= told


def _flat_shards(model: torch.nn.Module) -> Iterator[Any]:
    """Yield the modules whose parameters are flat shards of FSDP 1."""
    from torch.distributed.fsdp import FullyShardedDataParallel

    for module in model.modules():
        if isinstance(module, FullyShardedDataParallel):
            yield module


class KeepBest(EarlyStoppingCallback):
    """transformers' early stopping, after `patience` evaluations or never, that resumes.

    transformers restores neither the count nor the place of the best checkpoint where the folder
    was moved: both follow from the history.
    """

    def __init__(self, patience: int | None) -> None:
        super().__init__(patience or sys.maxsize)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Count the evaluations of before, and find the best of them."""
        super().on_train_begin(args, state, control, **kwargs)  # type: ignore[no-untyped-call]
        self.early_stopping_patience_counter = evaluation.waited(state.log_history)
        if state.best_global_step:
            best = Path(args.output_dir) / f"checkpoint-{state.best_global_step}"
            state.best_model_checkpoint = str(best)
