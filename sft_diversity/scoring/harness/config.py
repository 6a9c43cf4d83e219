"""Which tasks, and how they are run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator

from sft_diversity.core import machine
from sft_diversity.core.config import Config


def _split(value: Any) -> Any:
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


class HarnessConfig(Config):
    """What lm-evaluation-harness is to run."""

    suite: Literal["harness"] = Field(
        default="harness", description="tasks of lm-evaluation-harness"
    )
    tasks: Annotated[tuple[str, ...], BeforeValidator(_split)] = Field(
        default=(), description="tasks, groups or patterns such as mmlu_*; with commas between"
    )
    include_path: Path | None = Field(
        default=None,
        exclude=True,
        description="folder of own task files; their data_files count from it",
    )
    batch_size: int = Field(default=8, ge=1, description="requests a batch, always the same")
    num_fewshot: int | None = Field(
        default=None, ge=0, description="examples before each question; default: the task's"
    )
    limit: int | None = Field(default=None, ge=1, description="only a task's first documents")
    chat_template: bool = Field(
        default=False, description="ask through the chat template, as the model was fine-tuned"
    )
    model_name: str | None = Field(
        default=None, description="the model's name where MODEL is an endpoint's URL"
    )
    model_key_env: str | None = Field(
        default=None,
        exclude=True,
        description="environment variable that holds its key; none sends no key",
    )
    api: Literal["completions", "chat"] = Field(
        default="completions",
        description="how an endpoint is asked; chat can run only tasks that generate",
    )
    tokenizer: str | None = Field(
        default=None,
        exclude=True,
        description="the endpoint's tokenizer (folder or Hub id); tasks of likelihood need it",
    )
    concurrency: int = Field(
        default=8, ge=1, le=1_024, exclude=True, description="requests under way at a time"
    )
    seed: int = Field(default=0, ge=0, description="of few-shot examples and sampling")
    device: machine.Device = Field(default="auto", description="auto: CUDA where there is one")
    dtype: machine.Precision = Field(
        default="auto", description="auto: float32 on CPU, bfloat16 on a GPU that multiplies it"
    )
    trust_remote_code: bool = Field(
        default=False,
        exclude=True,
        description="run code that a model repository or own task files bring",
    )

    @field_validator("tasks")
    @classmethod
    def _names(cls, tasks: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(tasks)) != len(tasks) or not all(tasks):
            raise ValueError("name tasks, each once")
        if any("/" in name or "\\" in name or name.startswith(".") for name in tasks):
            raise ValueError("name tasks, not files; the folder of own files is include_path")
        return tasks
