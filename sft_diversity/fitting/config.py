"""How a table of scores is fitted."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from sft_diversity.core.config import Config


class FitConfig(Config):
    """How a table of scores is fitted."""

    score: str = Field(default="score", min_length=1, description="column to fit, higher is better")
    score_kind: str = Field(
        default="", description="what the score is, and its unit; that of a study is known"
    )
    lower_is_better: bool = Field(default=False, description="fit minus that column")
    confidence: float = Field(
        default=0.95, ge=0.5, le=0.999, description="of every interval; p below its rest counts"
    )
    draws: int = Field(default=10_000, ge=200, le=1_000_000, description="bootstrap resamples")
    correction: Literal["holm", "bh"] = Field(
        default="holm",
        description="of p-values: holm bounds the chance of any false finding, bh their share",
    )
    seed: int = Field(default=0, ge=0, description="of the bootstrap")
    metrics: Path | None = Field(
        default=None, description="CSV of metrics, a row a subset; that of a study is known"
    )

    @property
    def alpha(self) -> float:
        """The chance of error that the confidence leaves."""
        return 1 - self.confidence
