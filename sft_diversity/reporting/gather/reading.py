"""Opens a data set and its corpus: ids, sources, texts, counts of kinds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sft_diversity.core import corpus as corpora
from sft_diversity.core import folder, incidence
from sft_diversity.core.errors import DataError
from sft_diversity.core.incidence import Incidence
from sft_diversity.reporting.locate import Found

Rows = npt.NDArray[np.int64]
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Subset:
    """A finished subset (or a whole corpus): its manifest and its samples' ids and sources."""

    place: Path
    manifest: dict[str, Any]
    ids: pa.Array
    sources: pa.Array

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.place.resolve().name

    @property
    def files(self) -> list[Path]:
        """Its Parquet files in order."""
        return sorted((self.place / "samples").glob("*.parquet"))

    def texts(self, rows: Rows) -> list[dict[str, Any]]:
        """Return the samples numbered `rows` (as in `ids`)."""
        columns = ["id", "source", "instruction", "response"]
        table = pa.concat_tables([pq.read_table(path, columns=columns) for path in self.files])
        found: list[dict[str, Any]] = table.take(pa.array(rows)).to_pylist()
        return found


def open_subset(place: Path) -> Subset:
    """Open an output of `select` or a corpus.

    Raises
    ------
    DataError
        If it has no samples.
    """
    manifest = folder.read_manifest(place)
    files = sorted((place / "samples").glob("*.parquet"))
    tables = [pq.read_table(path, columns=["id", "source"]) for path in files]
    table = pa.concat_tables(tables) if tables else None
    if table is None or not table.num_rows:
        raise DataError(f"report: {place} has no samples; name a finished subset or corpus")
    return Subset(place, manifest, table["id"].combine_chunks(), table["source"].combine_chunks())


class Pool:
    """The corpus that subsets are from, as far as it is at hand."""

    def __init__(self, found: Found) -> None:
        self.found = found

    @cached_property
    def table(self) -> pa.Table | None:
        """Ids and sources, ordered by id."""
        if self.found.corpus is None:
            return None
        return corpora.read(self.found.corpus, ["id", "source"]).combine_chunks()

    @property
    def size(self) -> int:
        """Samples; 0 where the corpus is not at hand."""
        return 0 if self.table is None else self.table.num_rows

    def rows(self, ids: pa.Array) -> Rows:
        """Return where `ids` are in the corpus.

        Raises
        ------
        DataError
            If one is not.
        """
        assert self.table is not None
        return among(ids, self.table["id"].combine_chunks(), "the corpus")

    def texts(self, rows: Rows) -> list[dict[str, Any]]:
        """Return the corpus samples numbered `rows`."""
        assert self.found.corpus is not None
        taken = corpora.take(self.found.corpus, rows)
        found: list[dict[str, Any]] = taken.select(
            ["id", "source", "instruction", "response"]
        ).to_pylist()
        return found

    def lengths(self, component: str) -> Rows | None:
        """Return tokens of every corpus sample, where there is a pass."""
        place = self.found.tokens.get(component)
        if place is None:
            return None
        return np.asarray(np.load(place / "lengths.npy", allow_pickle=False)).astype(np.int64)


def among(ids: pa.Array, known: pa.Array, what: str) -> Rows:
    """Return where `ids` are in `known`."""
    rows = pc.index_in(ids, value_set=known)
    if rows.null_count:
        raise DataError(
            f"report: {rows.null_count:,} of {len(ids):,} samples are not in {what}; "
            "name the work folder they were selected with (--work)"
        )
    return np.asarray(rows.to_numpy(zero_copy_only=False)).astype(np.int64)


@dataclass(frozen=True)
class Kinds:
    """An incidence with the names of its kinds."""

    strategy: str
    made: Incidence
    ids: pa.Array
    table: pa.Table

    @property
    def names(self) -> list[str]:
        """Names of the kinds."""
        found: list[str] = self.table["kind"].to_pylist()
        return found

    def counts(self, rows: Rows | None = None) -> Counts:
        """Return how many samples hold each kind, among `rows` or all, shape (kinds,)."""
        indices = self.made.indices if rows is None else self.made.take(rows).indices
        return np.bincount(indices, minlength=self.made.n_kinds).astype(np.int64)


def open_kinds(strategy: str, place: Path) -> Kinds:
    """Open an incidence; its arrays are memory maps."""
    table = pq.read_table(place / "kinds.parquet")
    return Kinds(strategy, incidence.load(place), incidence.load_ids(place), table)


def shares(counts: Sequence[float] | Counts) -> list[float]:
    """Return counts as shares of their sum, rounded."""
    total = float(np.sum(counts)) or 1.0
    return [round(float(one) / total, 6) for one in counts]
