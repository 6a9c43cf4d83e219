import numpy as np
import pytest

from sft_diversity.core.errors import UsageError
from sft_diversity.selection.grid import (
    STRATEGIES,
    grid_cells,
    grid_overlaps,
    name_of_cell,
    parse_grid,
)


def test_a_grid_is_every_combination_of_its_axes():
    axes = parse_grid("strategy=all;size=10,20 diversity=0,33.5 seed=0")
    assert axes["strategy"] == list(STRATEGIES)
    made = grid_cells(axes)
    assert len(made) == 6 * 2 * 2
    assert made["micro-response-n20-d33.5-s0"] == {
        "strategy": "micro-response", "size": 20, "diversity": 33.5, "seed": 0,
    }  # fmt: skip
    assert parse_grid({"seed": [1, 2], "size": 5}) == {"size": [5], "seed": [1, 2]}
    assert grid_cells({}) == {"": {}}


@pytest.mark.parametrize("grid", ["sed=1", "seed=", "seed=1,1", "seed=1 seed=2"])
def test_axes_that_are_unknown_empty_or_repeated_are_wrong_usage(grid):
    with pytest.raises(UsageError, match="grid axis"):
        parse_grid(grid)


@pytest.mark.parametrize(
    "grid", [5, True, [1], "", " ", {}, {"seed": {}}, {"seed": [[1]]}, {"seed": None}]
)
def test_a_grid_that_is_none_is_wrong_usage(grid):
    with pytest.raises(UsageError, match="grid") as caught:
        parse_grid(grid)
    assert "\n" not in str(caught.value)


def test_overlaps_are_shares_of_the_smaller_subset():
    made = grid_cells(parse_grid("strategy=random,longest seed=0,1,2"))
    rows = dict(
        zip(
            made,
            [[0, 1, 2, 3], [0, 1, 2, 9], [0, 7, 8, 9], [0, 1], [1, 2], [2, 3]],
            strict=True,
        )
    )
    shared = grid_overlaps({name: np.array(picks) for name, picks in rows.items()}, made)
    pairs = {"random": (3 + 1 + 2) / 4 / 3, "longest": (1 + 0 + 1) / 2 / 3}
    assert shared["seeds"] == {name: round(mean, 4) for name, mean in pairs.items()}
    assert shared["strategies"] == {"subset": {"random / longest": 1.0}}


def test_names_say_the_axes_that_vary():
    assert name_of_cell({"size": 5, "seed": 1}) == "n5-s1"
