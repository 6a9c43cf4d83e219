"""The loss on samples that are not trained on: which they are, when it is measured, what it says.

It is measured by the trainer's own evaluation, over the tokens that training would have trained.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sft_diversity.core import seeding
from sft_diversity.core.errors import DataError
from sft_diversity.training import mixture

if TYPE_CHECKING:
    from sft_diversity.training.config import FinetuneConfig
    from sft_diversity.training.rendering import Rendered

#: The loss of an evaluation, as transformers calls it.
LOSS = "eval_loss"
_TIMES = 10  # a run, where no distance is given


def hold_out(rendered: Rendered, share: float, seed: int) -> tuple[Rendered, Rendered]:
    """Return the samples to train on, and a share of them that is held out, drawn by the seed.

    Equal samples are held out together, so none is trained on under another id.

    Raises
    ------
    DataError
        If one of the two would be empty.
    """
    groups: dict[bytes, list[int]] = {}
    for row, ids in enumerate(rendered.input_ids):
        groups.setdefault(ids.tobytes(), []).append(row)
    several, rows = list(groups.values()), len(rendered.input_ids)
    wanted, drawn = max(round(share * rows), 1), set[int]()
    for group in seeding.generator(seed, "held out").permutation(len(several)):
        if len(drawn) >= wanted:
            break
        drawn.update(several[group])
    if len(drawn) == rows:
        raise DataError(
            f"finetune: eval_share {share:g} of {rows:,} samples leaves none to train on; lower it"
        )
    trained = mixture.take_rows(rendered, [row for row in range(rows) if row not in drawn])
    return trained, mixture.take_rows(replace(rendered, sets=[]), sorted(drawn))


def steps_between(config: FinetuneConfig, steps: int) -> int:
    """Return the optimizer steps from one evaluation to the next."""
    return config.eval_steps or math.ceil(steps / _TIMES)


def times(config: FinetuneConfig, steps: int) -> int:
    """Return how often a run of so many steps is evaluated; the end always is."""
    return math.ceil(steps / steps_between(config, steps)) if config.evaluates else 0


def losses(history: Sequence[dict[str, Any]]) -> list[tuple[int, float]]:
    """Return step and loss of each evaluation in a trainer's history."""
    return [(entry["step"], entry[LOSS]) for entry in history if LOSS in entry]


def waited(history: Sequence[dict[str, Any]]) -> int:
    """Return how many evaluations were made since the best one."""
    found = [loss for _, loss in losses(history)]
    return len(found) - 1 - found.index(min(found)) if found else 0


def stopped_early(history: Sequence[dict[str, Any]], config: FinetuneConfig) -> bool:
    """Whether a run has waited for a better evaluation for as long as it may."""
    return config.early_stopping is not None and waited(history) >= config.early_stopping


def evaluated(
    held_out: Rendered, trained: Rendered, history: Sequence[dict[str, Any]], config: FinetuneConfig
) -> dict[str, Any]:
    """Return what the manifest says of evaluation.

    Returns
    -------
    dict
        `eval_samples`, `eval_tokens` (labelled), `eval_samples_trained` (that training reads too:
        0 of a held-out share), the first, last and best loss, the step of the best, and the step
        whose weights are kept.
    """
    known = {ids.tobytes() for ids in trained.input_ids}
    found = losses(history)
    best = min(found, key=lambda one: one[1])
    return {
        "eval_samples": len(held_out.ids),
        "eval_tokens": int(held_out.response_tokens.sum()),
        "eval_samples_trained": sum(ids.tobytes() in known for ids in held_out.input_ids),
        "first_eval_loss": found[0][1],
        "final_eval_loss": found[-1][1],
        "best_eval_loss": best[1],
        "best_step": best[0],
        "kept_step": best[0] if config.keeps_best else found[-1][0],
        "stopped_early": stopped_early(history, config),
    }
