"""Dashboards that a run can report to, beside its own `training.jsonl`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from sft_diversity.core import extras

PROJECT = "sftdiv"
Name = Literal["trackio", "tensorboard", "wandb"]


def check_reporters(names: Sequence[Name]) -> None:
    """Refuse a dashboard whose package is not installed.

    Raises
    ------
    UsageError
        Naming the extra that brings it.
    """
    for name in names:
        extras.require(name, f"finetune: report_to {name}", f"pip install {name} alone")


def aim(names: Sequence[Name], run_name: str) -> None:
    """Say where reports go that the user has given no place: the project, and `runs/RUN`.

    TensorBoard's events hold times, so they stay out of the output folder, whose bytes are the same
    in equal runs.
    """
    os.environ.setdefault("WANDB_PROJECT", PROJECT)
    if "tensorboard" in names:
        os.environ.setdefault("TENSORBOARD_LOGGING_DIR", str(Path("runs", run_name)))
