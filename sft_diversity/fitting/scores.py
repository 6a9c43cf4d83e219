"""Which kind of score a fit rests on: a verdict is worth what its score is worth."""

from __future__ import annotations

import math

import polars as pl

from sft_diversity.core.errors import DataError
from sft_diversity.fitting.config import FitConfig
from sft_diversity.fitting.runs import numeric

#: Losses that a study writes beside its score, in nats a token, each over other references.
_HELD_OUT = {
    "transfer_first64": "first 64 response tokens, prompts of other origin",
    "short_references": "short references, prompts of other origin",
    "in_mix": "the corpus's own mix",
    "domain_mean": "mean over domains",
}


def score_kind(frame: pl.DataFrame, config: FitConfig) -> str:
    """Return the kind of score in words, its unit among them, as `score_kind` gives or names tell.

    A column that is minus a known loss in every row is that loss, whatever its name.
    """
    if config.score_kind:
        return config.score_kind
    for name, over in _HELD_OUT.items():
        turned = _negates(frame, config.score, name)
        if turned or config.score == name:
            minus = "minus " * (turned or config.lower_is_better)
            return f"{minus}held-out loss, nats a token; {over}"
    return f"column {config.score}, of a kind not given"


def _negates(frame: pl.DataFrame, score: str, loss: str) -> bool:
    if loss not in frame.columns:
        return False
    try:
        columns = [[numeric(cell, name, 0) for cell in frame[name]] for name in (score, loss)]
    except DataError:  # a column of that name that is no loss
        return False
    known = [(a, b) for a, b in zip(*columns, strict=True) if a is not None and b is not None]
    return bool(known) and all(math.isclose(a, -b, rel_tol=1e-9) for a, b in known)
