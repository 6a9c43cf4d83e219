"""The word pass: every sample's words as numbers, from which the phrases of the meso level come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import Field

from sft_diversity.core import folder, parquet, parts
from sft_diversity.core.config import Config
from sft_diversity.core.corpus import Component
from sft_diversity.core.stage import Ask, Job, Made, Result, Stage, Unit

STAGE = "words"
_ROWS_PER_S = 2_500  # a guess for plans: one core, texts of some 300 characters
_BYTES_A_ROW = 300


class WordsConfig(Config):
    """Which component to read."""

    component: Component = Field(default="instruction", description="whose text")


@dataclass(frozen=True)
class Shard:
    """A word stream on disk: `codes` (a list a sample), and the words they number."""

    codes: Path
    words: Path


def needs(config: WordsConfig, ask: Ask) -> None:
    """Read the corpus."""
    ask.corpus()


def units(config: WordsConfig, inputs: Mapping[str, Made]) -> Sequence[Unit]:
    """Return the slices of the corpus."""
    found = parts.slices(inputs["corpus"].path)
    return [Unit(f"codes/{one.name}.parquet", one.rows, one) for one in found]


def read(job: Job[WordsConfig]) -> None:
    """Write the word stream of each slice: first its words, then their numbers."""
    if not job.left():
        return
    from sft_diversity.levels.stream import read_stream  # numba takes its time to load

    for unit in job.todo():
        table = unit.what.read(["id", job.config.component])
        stream = read_stream(table[job.config.component].to_pylist())
        lists = pa.LargeListArray.from_arrays(stream.starts, pa.array(stream.codes))
        words = pa.table({"word": pa.array(stream.words, pa.string())})
        job.write_table(unit.name.replace("codes/", "words/"), words)
        job.write_table(unit.name, pa.table({"id": table["id"], "codes": lists}))


def join(job: Job[WordsConfig]) -> Result:
    """Count the rows; the slices stay as they are."""
    rows = sum(unit.rows for unit in job.units)
    return Result(rows=folder.rows_account(rows, rows, {}), figures={"rows": rows})


def shards_of(place: Path) -> tuple[list[Shard], pa.Array]:
    """Return the word streams of a finished pass, in order, and the sample ids."""
    codes = parquet.listed(place, "codes", STAGE)
    shards = [Shard(path, place / "words" / path.name) for path in codes]
    ids = [parquet.read(path, ["id"])["id"].combine_chunks() for path in codes]
    return shards, pa.concat_arrays(ids) if ids else pa.array([], pa.string())


def _cost(config: WordsConfig, ask: Ask) -> dict[str, Any]:
    rows = ask.inputs["corpus"].rows
    return {"seconds": round(rows / _ROWS_PER_S, 1), "bytes": rows * _BYTES_A_ROW}


WORDS = Stage(
    STAGE, version=1, config=WordsConfig, needs=needs, units=units, each=read, join=join,
    cost=_cost, label=lambda config: f"words {config.component}",
)  # fmt: skip
