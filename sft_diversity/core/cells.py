"""What names the cells of a study and their runs, in tables and as folders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Columns that name a cell; `regime` may be missing.
KEYS = ("regime", "strategy", "size", "diversity", "seed")
RANDOM, RANDOM_COMMON, LONGEST = "random", "random-common", "longest"
#: The model before fine-tuning, which no regime and no size can change.
BASE = "base"
#: Strategies without a dial.
BASELINES = (RANDOM, RANDOM_COMMON, LONGEST, BASE)


def cell_name(cell: Mapping[str, Any]) -> str:
    """Return the folder name of a cell's subset: `B-micro-response-n10000-d67-s0`."""
    regime = f"{cell['regime']}-" if cell.get("regime") else ""
    dial = "" if cell.get("diversity") is None else f"-d{cell['diversity']:g}"
    return f"{regime}{cell['strategy']}-n{cell['size']}{dial}-s{cell.get('seed') or 0}"


def run_name(cell: Mapping[str, Any]) -> str:
    """Return the folder name of a run on a cell's subset, by its `train_seed`."""
    return f"{cell_name(cell)}-t{cell.get('train_seed') or 0}"
