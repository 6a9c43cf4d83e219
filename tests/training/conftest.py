"""A tiny base model and a subset of forty dialogues, made once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sft_diversity.core import drafts, schema
from sft_diversity.training.config import FinetuneConfig
from tests import tiny


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def base(tmp_path_factory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("models") / "base")


def dialogue(i: int) -> list[dict[str, str]]:
    return [
        {"role": "user", "content": f"What is {i}? " * (1 + i % 5)},
        {"role": "assistant", "content": f"Number {i} lies on the Seine. " * (1 + i % 3)},
    ]


def write_subset(out: Path, dialogues: list[list[dict[str, str]]]) -> Path:
    """Write a subset as `select` does: canonical columns, pick order, manifest."""
    rows = [
        {
            "id": f"{i:032x}",
            "source": "test",
            "source_file": "test.jsonl",
            "source_row": i,
            "messages": turns,
            "instruction": turns[0]["content"],
            "response": turns[-1]["content"],
            "meta": "{}",
            "pick": i,
        }
        for i, turns in enumerate(dialogues)
    ]
    draft = drafts.open_draft(out, drafts.Work("select", 1, {}, {}))
    draft.write_table("samples/all.parquet", pa.Table.from_pylist(rows, schema=schema.SUBSET))
    draft.commit()
    return out


@pytest.fixture(scope="session")
def subset(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("subsets") / "subset"
    return write_subset(out, [dialogue(i) for i in range(40)])


@pytest.fixture
def config(base):
    """Return a function that makes a config of ten short steps, with changes."""

    def make(**changes) -> FinetuneConfig:
        options: dict[str, Any] = {
            "model": str(base), "batch_size": 8, "micro_batch_size": 4, "max_length": 256,
            "epochs": 2, "lr": 1e-3, "checkpoint_steps": 3, "dtype": "float32",
        }  # fmt: skip
        return FinetuneConfig(**(options | changes))

    return make


@pytest.fixture
def rows(subset):
    return pq.read_table(subset / "samples").to_pylist()
