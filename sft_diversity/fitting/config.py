"""How a table of scores is fitted, and what advice is asked of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from sft_diversity.core.config import Config


class ScoresConfig(Config):
    """Which scores of a table are read."""

    score: str = Field(default="score", min_length=1, description="column to fit, higher is better")
    score_kind: str = Field(
        default="", description="what the score is, and its unit; that of a study is known"
    )
    lower_is_better: bool = Field(default=False, description="fit minus that column")


class FitConfig(ScoresConfig):
    """How a table of scores is fitted."""

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


class AdviseConfig(ScoresConfig):
    """What advice is asked of a table of scores."""

    at: tuple[int, ...] = Field(
        default=(), description="sizes to predict at; default: four times the largest measured"
    )
    scale: Literal["auto", "share", "points", "other"] = Field(
        default="auto",
        description="of scores: share is 0 to 1, points 0 to 100, other has no bounds; auto looks",
    )
    delta: float | None = Field(
        default=None,
        gt=0,
        description="what a doubling must gain to pay, in units of the score; default: a point, "
        "0.01 of a share, as much as that is among scores of another scale",
    )
    price: float | None = Field(
        default=None, ge=0, description="what one more sample costs, in any money"
    )
    worth: float | None = Field(
        default=None,
        gt=0,
        description="what a gain of delta is worth in that money; with it the price decides how "
        "far to go",
    )

    @field_validator("at", mode="before")
    @classmethod
    def _one_or_several(cls, given: Any) -> Any:
        return (given,) if isinstance(given, int | str) else given

    @field_validator("at")
    @classmethod
    def _of_samples(cls, given: tuple[int, ...]) -> tuple[int, ...]:
        if any(not 1 <= size <= 1_000_000_000 for size in given):
            raise ValueError("a size is a number of samples, from 1 to 1,000,000,000")
        return tuple(sorted(set(given)))

    @model_validator(mode="after")
    def _worth_of_what(self) -> AdviseConfig:
        if self.worth is not None and self.price is None:
            raise ValueError("`worth` needs `price`, what one more sample costs")
        return self
