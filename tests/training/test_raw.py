"""Fine-tuning on data that nobody ingested."""

from __future__ import annotations

import json

import datasets
import polars as pl
import pytest

from sft_diversity.core.errors import UsageError
from sft_diversity.verbs.training import finetune

ROWS = [
    {"instruction": f"Name {i % 9} birds", "input": "", "output": "wren " * (1 + i % 3)}
    for i in range(12)
]


def jsonl(path):
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))


def of_datasets(path):
    datasets.Dataset.from_list(ROWS).save_to_disk(path)


def parquet_folder(path):
    path.mkdir()
    pl.DataFrame(ROWS).write_parquet(path / "rows.parquet")


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("rows.jsonl", jsonl),
        ("rows.parquet", lambda path: pl.DataFrame(ROWS).write_parquet(path)),
        ("of-datasets", of_datasets),
        ("folder", parquet_folder),
    ],
)
def test_raw_data_is_ingested_whole_and_trained_on(base, tmp_path, name, write):
    write(tmp_path / name)
    options = {"model": str(base), "batch_size": 4, "steps": 1, "work": tmp_path / "work"}
    planned = finetune(tmp_path / name, out=tmp_path / "out", dry_run=True, **options)["plan"]
    assert [step["stage"] for step in planned] == ["ingest", "finetune"]
    assert not (tmp_path / "work").exists()
    made = finetune(tmp_path / name, out=tmp_path / "out", **options)
    assert made["samples"] == len(ROWS)  # those that are there twice too
    (again,) = finetune(tmp_path / name, out=tmp_path / "out", dry_run=True, **options)["plan"][-1:]
    assert again["state"] == "cached"


def test_what_is_not_there_is_no_raw_data(base, tmp_path):
    with pytest.raises(UsageError, match="is not a folder"):
        finetune(tmp_path / "nowhere", out=tmp_path / "out", model=str(base))
