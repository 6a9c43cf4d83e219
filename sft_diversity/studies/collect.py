"""From finished runs to tables: results, metrics, failures."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sft_diversity.core import folder
from sft_diversity.core.cells import BASE, KEYS, Cell, Run
from sft_diversity.core.spreadsheet import quoted
from sft_diversity.studies import runs
from sft_diversity.studies.config import STAGE

SCORES = ("score", "transfer_first64", "short_references", "in_mix", "domain_mean")
TRAINING = (
    "epochs", "steps", "response_tokens", "total_tokens", "truncated_share",
    "response_tokens_lost_share", "first_loss", "final_loss",
)  # fmt: skip
SUBSET = (
    "instruction_tokens_mean", "response_tokens_mean", "kinds", "evenness", "entropy_bits", "pool",
    "random_percent", "free_picks", "draw",
)  # fmt: skip
_SUBSET_NAMES = {
    "instruction_tokens": "instruction_tokens_mean",
    "response_tokens": "response_tokens_mean",
    "kinds_covered": "kinds",
}
Row = dict[str, Any]


def cell_columns(cell: Cell | None) -> Row:
    """Return the columns that name a cell; those of base are empty but for its strategy."""
    if cell is None:
        return dict.fromkeys(KEYS) | {"strategy": BASE}
    return {name: getattr(cell, name) for name in KEYS}


def result_rows(
    asked: Sequence[Run], records: Mapping[str, Row], subsets: Mapping[str, Row]
) -> list[Row]:
    """Return one row a finished run, in the order of the plan.

    Parameters
    ----------
    records : mapping
        Of finished runs, by name.
    subsets : mapping
        Figures of the cells, by name.
    """
    rows = []
    for run in asked:
        if run.name not in records:
            continue
        made = records[run.name]
        chosen = subsets[run.cell.name] if run.cell else {}
        known = {_SUBSET_NAMES.get(name, name): value for name, value in chosen.items()}
        rows.append(
            cell_columns(run.cell)
            | {"train_seed": run.train_seed if run.cell else None}
            | {name: made["scores"].get(name) for name in SCORES}
            | {n: made["scores"][n] for n in runs.GENERATED if n in made["scores"]}
            | {name: made["training"].get(name) for name in TRAINING}
            | {name: known.get(name) for name in SUBSET}
        )
    return rows


def metric_rows(cells: Sequence[Cell], place: Path) -> list[Row]:
    """Return one row a measured subset: every metric of both components."""
    rows = []
    for cell in cells:
        at = place / "measures" / cell.name
        if folder.stage_of(at) != "measure":
            continue
        found = folder.read_manifest(at)["result"]["datasets"][0]
        flat = {
            f"{component}_{name}": value
            for component in ("instruction", "response")
            for name, value in found[component].items()
        }
        rows.append(cell_columns(cell) | flat)
    return rows


def failure_rows(names: Iterable[str], place: Path) -> list[Row]:
    """Return why each run failed whose last attempt did."""
    return [found for name in names if (found := runs.failure(place, name))]


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """Write rows with the union of their columns; nothing is an empty cell."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    with (
        folder.writing(path, STAGE) as scratch,
        scratch.open("w", newline="", encoding="utf-8") as handle,
    ):
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(map(quoted, names))
        writer.writerows([quoted(row.get(name)) for name in names] for row in rows)


def write_lines(path: Path, rows: Sequence[Row]) -> None:
    """Write rows as JSON lines."""
    with folder.writing(path, STAGE) as scratch:
        scratch.write_text("".join(json.dumps(row, sort_keys=True) + "\n" for row in rows), "utf-8")
