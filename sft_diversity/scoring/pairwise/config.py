"""What is judged against what, by whom."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from sft_diversity.core import config as configs
from sft_diversity.core.errors import UsageError
from sft_diversity.endpoint.config import EndpointConfig, is_url
from sft_diversity.scoring.model import Answering, KeyEnv, ModelName
from sft_diversity.scoring.sets import PromptSet, distinct


class PairwiseConfig(Answering):
    """What to judge a model's answers on, and against what."""

    suite: Literal["pairwise"] = Field(
        default="pairwise", description="answers judged against a baseline's, in both orders"
    )
    judge_url: str | None = Field(
        default=None,
        exclude=True,
        description="base URL of the judge's OpenAI-compatible endpoint",
    )
    judge_model: str | None = Field(default=None, description="the judge's name there")
    judge_key_env: str | None = Field(
        default=None,
        exclude=True,
        description="environment variable that holds the judge's key; none sends no key",
    )
    judge: dict[str, Any] = Field(
        default={},
        exclude=True,
        description="further options of asking the judge: temperature, max_tokens, concurrency ...",
    )
    judge_prompt: Path | None = Field(
        default=None,
        exclude=True,
        description="file of the judge's prompt; default: configs/score/judge-prompt.txt",
    )
    against: str = Field(
        default="reference",
        exclude=True,
        description="the baseline: reference (the sets' own answers), a file of answers, the "
        "output of an earlier pairwise score, a model folder, a Hub id or an endpoint's URL",
    )
    against_model: str | None = Field(
        default=None, description="the baseline's name where it is an endpoint"
    )
    against_key_env: KeyEnv = None
    model_name: ModelName = None
    model_key_env: KeyEnv = None
    calls: dict[str, Any] = Field(
        default={},
        exclude=True,
        description="further options of asking MODEL or the baseline at an endpoint: concurrency, "
        "timeout_s, extra, ...",
    )
    sets: tuple[PromptSet, ...] | None = Field(
        default=None, description="prompt sets; default: those of configs/score/pairwise.yaml"
    )
    prompts: Path | None = Field(
        default=None,
        exclude=True,
        description="own prompts instead: JSON lines with `prompt` and, for against reference, "
        "`response`",
    )
    max_bad_fraction: float = Field(
        default=0.1, ge=0, le=1, exclude=True, description="largest share of calls with no verdict"
    )
    draws: int = Field(default=1000, ge=100, description="bootstrap draws behind the intervals")

    _distinct = field_validator("sets")(distinct)

    @model_validator(mode="after")
    def _one_source(self) -> PairwiseConfig:
        if self.sets is not None and self.prompts is not None:
            raise ValueError("name either `sets` or `prompts`")
        if (self.against_model is not None) != is_url(self.against):
            raise ValueError("`against_model` names the model of an endpoint in `against`")
        return self

    def judge_endpoint(self) -> EndpointConfig:
        """Return how the judge is asked.

        Raises
        ------
        UsageError
            If none is named.
        """
        if self.judge_url is None or self.judge_model is None:
            raise UsageError(
                "score: pairwise needs a judge; name it with --judge-url and --judge-model"
            )
        named = {
            "url": self.judge_url,
            "model": self.judge_model,
            "api_key_env": self.judge_key_env,
        }
        return configs.build(EndpointConfig, self.judge, "score, key `judge`", named)

    def answer_endpoint(self, url: str, model: str, key_env: str | None) -> EndpointConfig:
        """Return how a model behind an endpoint is asked for its answers."""
        for name in ("temperature", "top_p", "max_tokens", "seed"):
            if name in self.calls:
                raise UsageError(
                    f"score, key `calls`: {name} does not belong there; set temperature, top_p, "
                    "max_new_tokens and seed beside it, so that they hold for every model"
                )
        named = {
            "url": url,
            "model": model,
            "api_key_env": key_env,
            "temperature": self.temperature,
            "top_p": self.top_p if self.temperature else None,
            "max_tokens": self.max_new_tokens,
            "seed": self.seed if self.temperature else None,
        }
        return configs.build(EndpointConfig, self.calls, "score, key `calls`", named)
