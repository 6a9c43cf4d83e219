from __future__ import annotations

import pyarrow as pa

from sft_diversity.core.cells import Cell
from sft_diversity.studies.prepare import draws_that_differ


def level(diversity, *picks):
    cells = [Cell("A", "micro-response", 20, diversity, seed) for seed in range(1, len(picks) + 1)]
    ids = {
        cell.name: pa.chunked_array([[f"{i:03}" for i in rows]])
        for cell, rows in zip(cells, picks, strict=True)
    }
    return cells, ids


def test_a_level_whose_seeds_share_more_than_nine_tenths_is_one_draw():
    near, near_ids = level(0, range(20), range(1, 21), range(20))
    free, free_ids = level(100, range(20), range(2, 22), range(20, 40))
    alone, alone_ids = level(50, range(20))
    draws = draws_that_differ([*near, *free, *alone], near_ids | free_ids | alone_ids)
    assert [draws[cell.name] for cell in near] == [1, 1, 1]
    assert [draws[cell.name] for cell in free] == [1, 2, 3]
    assert [draws[cell.name] for cell in alone] == [1]


def test_nine_tenths_exactly_are_draws_of_their_own():
    cells, ids = level(33, range(20), range(2, 22))
    assert set(draws_that_differ(cells, ids).values()) == {1, 2}
