"""The cells of a study and its runs, and what names them, in tables and as folders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

#: Columns that name a cell.
KEYS = ("regime", "strategy", "size", "diversity", "seed")
RANDOM, RANDOM_COMMON, LONGEST = "random", "random-common", "longest"
#: The model before fine-tuning, which no regime and no size can change.
BASE = "base"
#: Strategies without a dial.
BASELINES = (RANDOM, RANDOM_COMMON, LONGEST, BASE)


@dataclass(frozen=True)
class Cell:
    """One subset: where it stands in the grid. A baseline has no diversity."""

    regime: str | None
    strategy: str
    size: int
    diversity: float | None
    seed: int

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Cell:
        """Return the cell of a row of a table."""
        values: list[Any] = [row.get(name) for name in KEYS]
        return cls(*values)

    @property
    def name(self) -> str:
        """Folder name: `B-micro-response-n10000-d67-s0`."""
        regime = f"{self.regime}-" if self.regime else ""
        dial = "" if self.diversity is None else f"-d{self.diversity:g}"
        return f"{regime}{self.strategy}-n{self.size}{dial}-s{self.seed or 0}"

    @property
    def group(self) -> str:
        """The name without the draw: what several draws share."""
        return self.name.rpartition("-")[0]


@dataclass(frozen=True)
class Run:
    """One model: the subset it is trained on, and the seed of its training; base has neither."""

    cell: Cell | None
    train_seed: int = 0

    @property
    def name(self) -> str:
        """Folder name: `B-micro-response-n10000-d67-s0-t0`, or `base`."""
        return BASE if self.cell is None else f"{self.cell.name}-t{self.train_seed}"
