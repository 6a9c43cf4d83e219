"""What a kind of score is worth: how often it picked the better of two subsets in public runs."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from importlib import resources
from typing import Any, Literal

from sft_diversity.fitting.reading import NOT_GIVEN

Kind = Literal["loss", "metric", "unknown"]
_LOSS = re.compile(
    r"\b(loss(es)?|nll|nats?|perplexity|ppl|cross.?entropy|log.?(likelihood|prob\w*|lik)|"
    r"likelihood|bits? per byte)\b",
    re.IGNORECASE,
)


@lru_cache
def worth_table() -> dict[str, Any]:
    """Return `score_worth.json`, which benchmarks/score_worth.py counts."""
    place = resources.files("sft_diversity.fitting").joinpath("score_worth.json")
    found: dict[str, Any] = json.loads(place.read_text("utf-8"))
    return found


def score_class(score_kind: str) -> Kind:
    """Return which kind of score words mean; what is given and no likelihood is a metric."""
    if _LOSS.search(score_kind.replace("_", " ")):
        return "loss"
    return "unknown" if score_kind.endswith(NOT_GIVEN) else "metric"


def rests_on(score_kind: str) -> dict[str, Any]:
    """Return the kind of score that a verdict rests on, and how often such scores chose right.

    Parameters
    ----------
    score_kind : str
        What the score is, in words (see `reading.score_kind`).

    Returns
    -------
    dict
        `kind`; `right`, the share of pairs of subsets of which it picked the better one (a list of
        the shares on development and on test references for losses; None where the kind is not
        known); `sentence`.
    """
    kind, table = score_class(score_kind), worth_table()
    name = score_kind.partition(";")[0].removesuffix(f", {NOT_GIVEN}")
    losses = [table[loss]["right"] for loss in ("test_loss", "dev_loss")]
    code = [table[loss]["tasks"]["codex"]["right"] for loss in ("test_loss", "dev_loss")]
    metric, pairs = table["one_seed"], table["dev_loss"]["pairs"]
    by_loss = (
        f"held-out loss picked the better of two subsets in {_percents(losses)} of {pairs:,} pairs"
    )
    if kind == "loss":
        right: Any = losses
        sentence = (
            f"This rests on {name}: in public runs {by_loss}, by the "
            f"task's metric ({_percents(code)} for code; chance: 50 %)."
        )
    elif kind == "metric":
        right = metric["right"]
        sentence = (
            f"This rests on {name}: in public runs a task's metric of one "
            f"seed picked the better of two subsets, by the other seeds, in {100 * right:.0f} % of "
            f"{metric['pairs']:,} pairs."
        )
    else:
        right = None
        sentence = (
            "What kind of score this rests on is not given (--score-kind): in public runs "
            f"{by_loss}, a task's metric of one seed in {100 * metric['right']:.0f} %."
        )
    return {"kind": kind, "right": right, "sentence": sentence}


def _percents(shares: list[float]) -> str:
    return " to ".join(f"{100 * share:.0f}" for share in sorted(shares)) + " %"
