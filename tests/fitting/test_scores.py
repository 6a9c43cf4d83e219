from __future__ import annotations

import polars as pl

from sft_diversity.fitting.config import FitConfig
from sft_diversity.fitting.scores import score_kind

FRAME = pl.DataFrame({"score": ["-6.5", None, "-6.25"], "transfer_first64": ["6.5", "6", "6.25"],
                      "in_mix": ["6.1", "6.2", "6.3"], "acc": ["0.1", "0.2", "0.3"]})  # fmt: skip


def kind(frame=FRAME, **options):
    return score_kind(frame, FitConfig(**options))


def test_a_studys_score_is_known_by_the_loss_that_it_negates():
    first = "held-out loss, nats a token; first 64 response tokens, prompts of other origin"
    assert kind() == f"minus {first}"
    other = FRAME.with_columns(transfer_first64=pl.Series(["6.5", "6", "6.26"]))
    assert kind(other) == "column score, of a kind not given"
    assert kind(other.with_columns(transfer_first64=pl.lit("none given"))).startswith("column")


def test_a_loss_that_is_fitted_says_whether_it_was_turned():
    assert kind(score="in_mix") == "held-out loss, nats a token; the corpus's own mix"
    assert kind(score="in_mix", lower_is_better=True).startswith("minus held-out loss")


def test_a_kind_that_is_given_stands():
    assert kind(score="acc") == "column acc, of a kind not given"
    assert kind(score="acc", score_kind="GSM8K, share right") == "GSM8K, share right"
