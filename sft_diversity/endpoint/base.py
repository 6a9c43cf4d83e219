"""What goes to an endpoint and what comes back."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from sft_diversity.core.hashing import content_key
from sft_diversity.endpoint.config import CallOptions

Messages: TypeAlias = Sequence[Mapping[str, str]]

#: Reason codes of a `Failure`.
FAILURES = {
    "refused": "the endpoint does not take this request (HTTP 4xx)",
    "gave-up": "no answer came in all the tries",
    "empty": "the answer holds no text",
}


@dataclass(frozen=True)
class Request:
    """A dialogue that a model is to go on with; `id` is the caller's, and need not be unique."""

    id: str
    messages: Messages


@dataclass(frozen=True)
class Answer:
    """What the model said.

    Attributes
    ----------
    text : str
    finish : str
        Why it ended: `stop`, `length` where it was cut at `max_tokens`, or the endpoint's word.
    tokens_in, tokens_out : int
        As the endpoint counted them, 0 where it does not say.
    """

    text: str
    finish: str
    tokens_in: int
    tokens_out: int


@dataclass(frozen=True)
class Failure:
    """Why there is no answer: `reason` is a key of `FAILURES`, `detail` says more."""

    reason: str
    detail: str


Outcome: TypeAlias = Answer | Failure


@dataclass
class Tally:
    """What asking has taken so far. Tokens are those of new answers, not of kept ones."""

    kept: int = 0
    answered: int = 0
    calls: int = 0
    retries: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    failures: Counter[str] = field(default_factory=Counter)

    def as_json(self, config: CallOptions) -> dict[str, Any]:
        """Return the figures for the `run` block of a manifest."""
        return {
            "answers_kept_from_before": self.kept,
            "answers_new": self.answered,
            "calls": self.calls,
            "retries": self.retries,
            "tokens_in_new": self.tokens_in,
            "tokens_out_new": self.tokens_out,
            "cost_new": round(config.cost(self.tokens_in, self.tokens_out), 6),
        }

    def line(self, config: CallOptions) -> str:
        """Say the figures, for the end of a progress line."""
        said = f"{self.tokens_in:,} tokens in, {self.tokens_out:,} out"
        if config.price_in or config.price_out:
            said += f", cost {config.cost(self.tokens_in, self.tokens_out):,.2f}"
        failed = sum(self.failures.values())
        for number, what in (
            (self.kept, "kept"),
            (self.retries, "tried again"),
            (failed, "failed"),
        ):
            said += f", {number:,} {what}" if number else ""
        return said


def without_thoughts(text: str) -> str:
    """Return an answer without the thinking that some models write before it."""
    return re.sub(r"<think>.*?(</think>|$)", "", text, flags=re.DOTALL).strip()


def request_key(messages: Messages, version: str, config: CallOptions) -> str:
    """Return the key of an answer: model, prompt version, messages and parameters."""
    return content_key(
        {
            "model": config.model,
            "version": version,
            "messages": [dict(message) for message in messages],
            "parameters": config.parameters(),
        }
    )
