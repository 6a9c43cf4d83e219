"""What a model is asked, how it answers, and what of its answers is checked."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from sft_diversity.core.config import Config
from sft_diversity.scoring.model import Device, Precision, TrustCode
from sft_diversity.scoring.sets import PromptSet, distinct

Check = Literal["constraints", "number", "none"]


class CheckedSet(PromptSet):
    """A set of prompts and what makes an answer right."""

    check: Check = Field(
        description="constraints: the rules that a row names in `instruction_id_list`, with their "
        "`kwargs`, as IFEval's do; number: the number that `response` comes to; none: only how an "
        "answer ends, repeats itself and how long it is"
    )


class Answering(Config):
    """Which prompts are answered, and how: all that an answer depends on besides the model."""

    eval_dir: Path | None = Field(
        default=None,
        exclude=True,
        description="folder of the sets' files; default: data/eval here or in the checkout",
    )
    limit: int | None = Field(
        default=None, ge=1, description="take a seeded sample of this many prompts of each set"
    )
    max_new_tokens: int = Field(default=512, ge=1, description="most tokens of an answer")
    temperature: float = Field(default=0.0, ge=0, description="of the answers; 0 is greedy")
    top_p: float | None = Field(default=None, gt=0, le=1, description="of the answers' sampling")
    batch_size: int = Field(
        default=16, ge=1, description="prompts a batch, where the model runs here"
    )
    seed: int = Field(default=0, ge=0, description="of samples of prompts, sampling and bootstrap")
    device: Device = "auto"
    dtype: Precision = "auto"
    trust_remote_code: TrustCode = False


class AnswersConfig(Answering):
    """The answers of one model."""

    model: str = Field(description="model folder or Hub id")
    sets: tuple[PromptSet, ...] = Field(description="prompt sets")


class GenerateConfig(Answering):
    """What to ask a model, and how its answers are summed up."""

    suite: Literal["generate"] = Field(
        default="generate", description="what the model's own answers do, checked by rule"
    )
    sets: tuple[CheckedSet, ...] | None = Field(
        default=None, description="prompt sets; default: those of configs/score/generate.yaml"
    )
    draws: int = Field(default=1000, ge=100, description="bootstrap draws behind the intervals")

    _distinct = field_validator("sets")(distinct)

    def answering(self, model: str) -> AnswersConfig:
        """Return how a model answers: without what is only checked afterwards."""
        shared = {name: getattr(self, name) for name in Answering.model_fields}
        plain = [
            PromptSet(**one.model_dump(exclude={"check", "response"})) for one in self.sets or ()
        ]
        return AnswersConfig(model=model, sets=tuple(plain), **shared)
