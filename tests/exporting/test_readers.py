"""What `datasets`, polars and DuckDB read is what was exported, in every format and file type."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import duckdb
import polars as pl
import pyarrow as pa
import pytest

from sft_diversity.core.errors import DataError
from sft_diversity.exporting import formats, stage
from sft_diversity.exporting.formats import exported
from tests import making
from tests.exporting import fixtures

datasets.disable_progress_bars()
FILE_TYPES = ("parquet", "jsonl")
Rows = list[dict[str, Any]]


def by_datasets(out: Path, cache: Path) -> Rows:
    return datasets.load_dataset(str(out), split="train", cache_dir=str(cache)).to_list()


def by_datasets_file(out: Path, cache: Path) -> Rows:
    """As LLaMA-Factory and others do it: the files alone, without the card."""
    files = sorted(map(str, (out / "data").iterdir()))
    kind = "parquet" if files[0].endswith("parquet") else "json"
    return datasets.load_dataset(
        kind, data_files=files, split="train", cache_dir=str(cache)
    ).to_list()


def by_polars(out: Path, _cache: Path) -> Rows:
    if list(out.glob("data/*.parquet")):
        return pl.read_parquet(out / "data/*.parquet").to_dicts()
    return pl.scan_ndjson(out / "data/*.jsonl").collect().to_dicts()


def by_duckdb(out: Path, _cache: Path) -> Rows:
    kind = next((out / "data").iterdir()).suffix
    with duckdb.connect() as database:
        return database.sql(f"SELECT * FROM '{out}/data/*{kind}'").to_arrow_table().to_pylist()


READERS: dict[str, Callable[[Path, Path], Rows]] = {
    "datasets": by_datasets, "datasets-file": by_datasets_file, "polars": by_polars,
    "duckdb": by_duckdb,
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """An export of each format and file type, in two shards."""
    root = tmp_path_factory.mktemp("readers")
    long = [("user", "x" * 600_000), ("assistant", "y" * 600_000)]
    source = fixtures.subset(root / "subset", fixtures.samples([*fixtures.DIALOGUES, long]))
    for name in formats.FORMATS:
        for file_type in FILE_TYPES:
            config = stage.ExportConfig.model_validate(
                {"format": name, "file_type": file_type, "leave_out_unfit": True}
                | {"max_shard_mb": 1}
            )
            making.export(source, str(root / f"{name}-{file_type}"), config)
    return root


def expected(made: Path, name: str, file_type: str) -> Rows:
    files = sorted((made / "subset" / "samples").glob("*.parquet"))
    samples = pa.concat_tables(pa.parquet.read_table(file) for file in files)
    unfit = {one["id"] for one in formats.survey_rows([samples], name, file_type).unfit}
    rows: Rows = formats.formatted(exported(samples), name).to_pylist()
    return [row for row in rows if row["id"] not in unfit]


def test_alpaca_as_jsonl_refuses_a_history(tmp_path):
    """`datasets` and polars fail where `history` is empty in the first rows and not later."""
    exchange = [("user", "why"), ("assistant", "so")]
    source = fixtures.corpus(
        tmp_path / "corpus", fixtures.samples([exchange, [*exchange, *exchange]])
    )
    config = stage.ExportConfig(format="alpaca", file_type="jsonl")
    with pytest.raises(DataError, match=r"1 of 2 samples do not fit format alpaca.*Parquet"):
        making.export(source, str(tmp_path / "out"), config)


@pytest.mark.parametrize("file_type", FILE_TYPES)
@pytest.mark.parametrize("name", formats.FORMATS)
@pytest.mark.parametrize("reader", READERS)
def test_every_row_and_turn_is_read(made, tmp_path, reader, name, file_type):
    found = READERS[reader](made / f"{name}-{file_type}", tmp_path)
    assert sorted(found, key=lambda row: row["pick"]) == expected(made, name, file_type)
