"""Grids: many subsets of one corpus, and how much they have in common."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sft_diversity.core.corpus import COMPONENTS
from sft_diversity.core.errors import UsageError
from sft_diversity.core.messages import DERIVED

if TYPE_CHECKING:
    from sft_diversity.core.kernels import Rows

_LEVELS = ("macro", "meso", "micro")
#: The six that `all` stands for, and those of components that not every sample has.
STRATEGIES = tuple(f"{level}-{component}" for level in _LEVELS for component in COMPONENTS)
FURTHER = tuple(f"{level}-{component}" for level in _LEVELS for component in DERIVED)
AXES = ("strategy", "size", "diversity", "seed", "fill", "objective")
_EXAMPLE = '"diversity=0,50,100 seed=0,1"'
_SHORT = {"size": "n", "diversity": "d", "seed": "s"}

Cell = dict[str, Any]


def parse_grid(grid: str | Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return the values of every axis of a grid, in the order of `AXES`.

    Parameters
    ----------
    grid : str or mapping
        `strategy=all size=2000,10000 diversity=0,50,100 seed=0,1`, or axes with lists of values.
        `all` are the six strategies.

    Raises
    ------
    UsageError
        If an axis is unknown, twice there or empty, or a value is twice there.
    """
    axes: dict[str, list[Any]] = {}
    if isinstance(grid, str):
        pieces = [piece.partition("=") for piece in grid.replace(";", " ").split()]
        given = [(name, values.split(",")) for name, _, values in pieces]
    elif isinstance(grid, Mapping):
        given = [(k, v if isinstance(v, list) else [v]) for k, v in grid.items()]
    else:
        raise UsageError(f"select: grid is {grid!r:.80}: name axes with values, as {_EXAMPLE}")
    if not given:
        raise UsageError(f"select: grid is empty: name axes with values, as {_EXAMPLE}")
    for name, values in given:
        if name not in AXES:
            raise UsageError(f"select: grid axis {name!r} is unknown; known: {', '.join(AXES)}")
        if name == "strategy":
            values = [s for v in values for s in (STRATEGIES if v == "all" else (v,))]
        if not all(isinstance(value, str | int | float) for value in values):
            raise UsageError(f"select: grid axis {name} takes numbers and words alone")
        values = [number_or_text(value) for value in values if value != ""]
        if name in axes or not values or len(set(values)) < len(values):
            raise UsageError(
                f"select: grid axis {name} must be given once, with values that differ"
            )
        axes[name] = values
    return {name: axes[name] for name in AXES if name in axes}


def number_or_text(value: Any) -> Any:
    """Return a text that is a whole number as int, of another number as float."""
    if not isinstance(value, str):
        return value
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value


def grid_cells(axes: Mapping[str, Sequence[Any]]) -> dict[str, Cell]:
    """Return every combination of the axes' values by its name; without axes one, named ""."""
    if not axes:
        return {"": {}}
    combined = [
        dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())
    ]
    return {name_of_cell(cell): cell for cell in combined}


def name_of_cell(cell: Mapping[str, Any]) -> str:
    """Return the folder name of a cell: `micro-response-n10000-d67-s0`."""
    return "-".join(f"{_SHORT.get(axis, '')}{value}" for axis, value in cell.items()) or "subset"


def grid_overlaps(picks: Mapping[str, Rows], grid: Mapping[str, Cell]) -> dict[str, Any]:
    """Return how much of the smaller of two subsets is in both, on average over pairs.

    Parameters
    ----------
    picks : mapping
        Rows of each subset, by name.
    grid : mapping
        Its cell.

    Returns
    -------
    dict
        `seeds`: for each cell apart from its seed, the mean over pairs of seeds. `strategies`: for
        each size and diversity (at the first seed), the share of each pair of strategies.
    """
    seeds: dict[str, list[str]] = {}
    strategies: dict[str, list[str]] = {}
    firsts: dict[str, Any] = {}
    for name, cell in grid.items():
        seeds.setdefault(name_of_cell({k: v for k, v in cell.items() if k != "seed"}), []).append(
            name
        )
        key = name_of_cell({k: v for k, v in cell.items() if k not in ("seed", "strategy")})
        if cell.get("seed") == firsts.setdefault(key, cell.get("seed")):
            strategies.setdefault(key, []).append(name)
    sets = {name: np.sort(rows) for name, rows in picks.items()}

    def share(one: str, other: str) -> float:
        both = len(np.intersect1d(sets[one], sets[other], assume_unique=True))
        return round(both / min(len(sets[one]), len(sets[other])), 4)

    between_seeds = {
        key: round(float(np.mean([share(*pair) for pair in itertools.combinations(names, 2)])), 4)
        for key, names in seeds.items()
        if len(names) > 1
    }
    between_strategies = {
        key: {
            f"{grid[one].get('strategy')} / {grid[other].get('strategy')}": share(one, other)
            for one, other in itertools.combinations(names, 2)
        }
        for key, names in strategies.items()
        if len(names) > 1
    }
    return {"seeds": between_seeds, "strategies": between_strategies}
