"""Steps and tokens of every cell before a run begins, and whether cells are comparable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from sft_diversity.core.cells import LONGEST, Cell
from sft_diversity.core.errors import UsageError
from sft_diversity.studies.config import StudyConfig
from sft_diversity.training import batches
from sft_diversity.training.config import FinetuneConfig

TOLERANCE = 0.05


@dataclass(frozen=True)
class Cost:
    """What a run on a cell reads.

    Attributes
    ----------
    steps : int
    epochs : float
    response_tokens, total_tokens : float
        Expected over training seeds: part of an epoch is a random draw of the subset. Of whole
        epochs they are exact.
    truncated_share : float
        Samples longer than `max_length`.
    lost_share : float
        Response tokens that are cut off or left out.
    """

    steps: int
    epochs: float
    response_tokens: float
    total_tokens: float
    truncated_share: float
    lost_share: float


def cost(sizes: pa.Table, training: FinetuneConfig) -> Cost:
    """Return what a run reads of a subset; see `prepare.sizes` for the table."""
    tokens, labels, kept, labels_kept = (
        np.asarray(sizes[name]).astype(np.int64)
        for name in ("tokens", "labels", "tokens_kept", "labels_kept")
    )
    long = tokens > training.max_length
    stays = (labels_kept > 0) & ~(long & (training.on_truncation == "drop"))
    order = batches.reading_order(labels_kept[stays], training.batch_size, 0, **training.budget)
    return Cost(
        steps=-(-len(order) // training.batch_size),
        epochs=len(order) / int(stays.sum()),
        response_tokens=len(order) * float(labels_kept[stays].mean()),
        total_tokens=len(order) * float(kept[stays].mean()),
        truncated_share=float(long.mean()),
        lost_share=1 - float(labels_kept[stays].sum() / labels.sum()),
    )


def by_group(cells: Sequence[Cell], costs: Mapping[str, Cost]) -> dict[str, dict[str, Any]]:
    """Return the mean cost over the draws of every group, by its name."""
    found: dict[str, list[tuple[Cell, Cost]]] = {}
    for cell in cells:
        found.setdefault(cell.group, []).append((cell, costs[cell.name]))
    return {
        group: {
            "regime": pairs[0][0].regime,
            "strategy": pairs[0][0].strategy,
            "size": pairs[0][0].size,
            "diversity": pairs[0][0].diversity,
            "draws": len(pairs),
        }
        | {
            name: float(np.mean([asdict(one)[name] for _, one in pairs]))
            for name in Cost.__dataclass_fields__
        }
        for group, pairs in found.items()
    }


def spread(groups: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return by regime and size how far the cells lie apart: the largest over the smallest, - 1.

    `longest` takes no part: it is there for its length.
    """
    found: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
    for row in groups.values():
        if row["strategy"] != LONGEST:
            found.setdefault((row["regime"], row["size"]), []).append(row)
    apart = []
    for (regime, size), rows in found.items():
        line: dict[str, Any] = {"regime": regime, "size": size}
        for quantity, name in (("steps", "steps"), ("tokens", "response_tokens")):
            values = [row[name] for row in rows]
            line[quantity] = max(values) / min(values) - 1
        apart.append(line)
    return apart


def check_comparable(
    study: StudyConfig, groups: Mapping[str, Mapping[str, Any]], table: str
) -> None:
    """Refuse a study whose cells differ by more than 5 % where that was not asked for.

    Raises
    ------
    UsageError
        With the table of all cells, what differs and the ways out.
    """
    faults = [
        f"regime {line['regime']}, size {line['size']:,}: {quantity} differ by {line[quantity]:.1%}"
        for line in spread(groups)
        for quantity in ("steps", "tokens")
        if line[quantity] > TOLERANCE
        and quantity not in study.allow_unequal.get(line["regime"], ())
    ]
    if faults:
        raise UsageError(
            f"study: cells are not comparable: {'; '.join(faults)} (at most {TOLERANCE:.0%}); "
            "leave out what would be cut off (whole_samples), raise finetune.max_length, or ask "
            "for it with allow_unequal"
            f"\n{table}"
        )
