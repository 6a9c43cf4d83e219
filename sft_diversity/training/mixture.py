"""Several sets of samples in one run: joined, read by weight, counted one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from sft_diversity.core.errors import DataError

if TYPE_CHECKING:
    from sft_diversity.training.course import Course
    from sft_diversity.training.rendering import Rendered


def join_sets(several: Sequence[Rendered]) -> Rendered:
    """Return the samples of all sets, those of the first one first, with the number of each's."""
    if len(several) == 1:
        return several[0]
    every = {f.name: [getattr(one, f.name) for one in several] for f in fields(several[0])}
    summed = {name: sum(values[1:], values[0]) for name, values in every.items()}
    numbers = [number for number, one in enumerate(several) for _ in one.ids]
    return replace(several[0], **summed | {"sets": numbers})


def take_rows(rendered: Rendered, rows: Sequence[int]) -> Rendered:
    """Return some of the samples; what was read and left out stays as it was counted.

    Raises
    ------
    DataError
        If a set has none among them.
    """
    each = {f.name: getattr(rendered, f.name) for f in fields(rendered) if f.name != "unusable"}
    lists = {name: values for name, values in each.items() if isinstance(values, list) and values}
    some: dict[str, Any] = {n: [values[row] for row in rows] for n, values in lists.items()}
    taken = replace(rendered, **some)
    lost = set(rendered.sets) - set(taken.sets)
    if lost:
        raise DataError(f"finetune: set {min(lost) + 1} would have no sample left to train on")
    return taken


def reads_of(run: Course, weights: Sequence[float]) -> dict[str, Any]:
    """Return how often samples are read.

    Returns
    -------
    dict
        `samples_unread` and `samples_reread`, those read never and more than once; of several sets
        also `sets`, of each its weight (None where all are read as one), its samples, and what the
        run reads of it: samples, epochs, tokens.
    """
    rendered = run.rendered
    times = np.bincount(run.order, minlength=len(rendered.ids))
    told: dict[str, Any] = _reads(times)
    if not rendered.sets:
        return told
    sets, lengths, trained = np.array(rendered.sets), rendered.lengths, rendered.response_tokens
    told["sets"] = []
    for number in range(max(rendered.sets) + 1):
        rows = np.flatnonzero(sets == number)
        reads = times[rows]
        told["sets"].append(
            {
                "weight": weights[number] if weights else None,
                "samples": len(rows),
                "samples_read": int(reads.sum()),
                "epochs": round(float(reads.mean()), 6),
                **_reads(reads),
                "response_tokens": int(reads @ trained[rows]),
                "total_tokens": int(reads @ lengths[rows]),
            }
        )
    return told


def _reads(times: Any) -> dict[str, int]:
    return {"samples_unread": int((times == 0).sum()), "samples_reread": int((times > 1).sum())}
