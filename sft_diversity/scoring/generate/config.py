"""What a model is asked, how it answers, and what of its answers is checked."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from sft_diversity.scoring.model import Answering
from sft_diversity.scoring.sets import PromptSet, distinct

Check = Literal["constraints", "number", "none"]


class CheckedSet(PromptSet):
    """A set of prompts and what makes an answer right."""

    check: Check = Field(
        description="constraints: the rules that a row names in `instruction_id_list`, with their "
        "`kwargs`, as IFEval's do; number: the number that `response` comes to; none: only how an "
        "answer ends, repeats itself and how long it is"
    )


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
