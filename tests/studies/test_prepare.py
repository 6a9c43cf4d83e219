from __future__ import annotations

import pyarrow as pa

from sft_diversity.core import chat, parquet
from sft_diversity.core.cells import Cell
from sft_diversity.studies.prepare import draws_that_differ
from sft_diversity.studies.stage import study
from tests import tiny
from tests.studies import making

GRID = {"strategy": ["micro-response"], "size": [24], "diversity": [0, 100]}


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


def test_samples_are_whole_under_a_template_that_says_much_itself(tmp_path):
    """Of SmolLM2's kind: a system prompt of its own, so that its samples are longer than texts."""
    training = {
        "model": str(tmp_path / "base"), "epochs": 1, "batch_size": 4, "dtype": "float32",
        "max_length": 120, "on_truncation": "trim",
    }  # fmt: skip
    config = making.write(tmp_path, regimes=["B"], grid=GRID, finetune=training)
    tokenizer = tiny.tokenizer()
    tokenizer.chat_template = "Say what you mean and no more. " * 4 + chat.TEMPLATE
    tokenizer.save_pretrained(tmp_path / "base")
    made = study(config, out=tmp_path / "out", prepare_only=True)
    cut = [cell["truncated_share"] for cell in made["cells"].values()]
    assert cut == [0.0, 0.0]
    left_out = parquet.read(tmp_path / "out" / "common" / "B-long.parquet", ["id"])
    assert 0 < len(left_out) < 120
