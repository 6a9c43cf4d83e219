"""What the functions of `library` return: frozen, and in the shapes that people go on with."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sft_diversity.core import corpus as corpora
from sft_diversity.core import folder, messages, parquet, schema
from sft_diversity.core.measures import METRICS
from sft_diversity.ingestion import memory
from sft_diversity.selection.stage import STAGE

if TYPE_CHECKING:
    import datasets
    import pandas as pd
    import polars as pl

Rows: TypeAlias = npt.NDArray[np.int64]


class Tabular(ABC):
    """A result with rows."""

    @abstractmethod
    def to_arrow(self) -> pa.Table:
        """Return the rows as an Arrow table."""

    def to_dataset(self) -> datasets.Dataset:
        """Return the rows as a `datasets.Dataset`; turns that hold calls or thoughts as objects."""
        import datasets

        table = self.to_arrow()
        if "messages" in table.column_names and table["messages"].type == schema.STRUCTURED:
            place, turns = table.column_names.index("messages"), table["messages"].to_pylist()
            table = table.set_column(place, "messages", messages.objects(turns))
        return datasets.Dataset(datasets.table.InMemoryTable(table))

    def to_polars(self) -> pl.DataFrame:
        """Return the rows as a polars frame."""
        import polars as pl

        frame = pl.from_arrow(self.to_arrow())
        assert isinstance(frame, pl.DataFrame)
        return frame

    def to_pandas(self) -> pd.DataFrame:
        """Return the rows as a pandas frame."""
        return self.to_arrow().to_pandas()


@dataclass(frozen=True)
class Folder(Tabular):
    """A finished folder of samples."""

    folder: str | Path

    @property
    def figures(self) -> dict[str, Any]:
        """What the command that made it printed with `--json`."""
        place = Path(self.folder)
        return folder.figures(folder.read_manifest(place), place)

    @property
    def ids(self) -> tuple[str, ...]:
        """The samples' content hashes, in the folder's order."""
        return tuple(self.to_arrow()["id"].to_pylist())

    def as_dict(self) -> dict[str, Any]:
        """Return the figures."""
        return self.figures


@dataclass(frozen=True)
class Corpus(Folder):
    """A corpus: samples in the canonical schema, ordered by id."""

    def to_arrow(self) -> pa.Table:
        """Return the samples, schema SAMPLES."""
        return corpora.read(Path(self.folder))


@dataclass(frozen=True)
class Subset(Folder):
    """A subset's folder, as `sftdiv select` writes it."""

    def to_arrow(self) -> pa.Table:
        """Return the samples in pick order, schema SUBSET."""
        folder.read_input(Path(self.folder), STAGE)
        return parquet.join(parquet.listed(Path(self.folder), "samples"))


@dataclass(frozen=True)
class Chosen(Tabular):
    """Rows of what was given.

    Attributes
    ----------
    ids : tuple of str
        The samples' content hashes.
    rows : int64 array, shape (n,)
        Their rows in the data that was given; of a path, in the corpus made of it, which is ordered
        by id.
    figures : mapping
        What the command prints with `--json`.
    folder : Path
        The folder, for the other functions and commands.
    """

    ids: tuple[str, ...]
    rows: Rows
    figures: Mapping[str, Any] = field(repr=False)
    folder: Path
    _work: Path = field(repr=False)
    _data: Any = field(repr=False, default=None)

    def __len__(self) -> int:
        return len(self.ids)

    def as_dict(self) -> dict[str, Any]:
        """Return the figures."""
        return dict(self.figures)

    def to_arrow(self) -> pa.Table:
        """Return the rows as they were given; of a path, its samples (schema SAMPLES or SUBSET)."""
        if self._data is None:
            return parquet.join(parquet.listed(self.folder, "samples"))
        if isinstance(self._data, Sequence):
            return pa.table({name: _column(values) for name, values in self._listed().items()})
        return memory.shape(self._data).arrow(self._data).take(pa.array(self.rows))

    def to_dataset(self) -> datasets.Dataset:
        """Return the rows as a `datasets.Dataset`: a view, where one was given."""
        if hasattr(self._data, "select") and memory.shape(self._data) is memory.SHAPES["datasets"]:
            found: datasets.Dataset = self._data.select(self.rows)
            return found
        if isinstance(self._data, Sequence):
            from datasets import Dataset

            return Dataset.from_dict(self._listed(), on_mixed_types="use_json")
        return super().to_dataset()

    def _listed(self) -> dict[str, list[Any]]:
        """Return the rows of a list by column."""
        rows = [self._data[row] for row in self.rows.tolist()]
        names = dict.fromkeys(name for row in rows for name in row)
        return {name: [row.get(name) for row in rows] for name in names}


def _column(values: list[Any]) -> pa.Array:
    """Return values as a column; as JSON where they are of several types (arguments of calls)."""
    try:
        return pa.array(values)
    except pa.ArrowException:
        return pa.array([None if one is None else json.dumps(one) for one in values])


@dataclass(frozen=True)
class Selection(Chosen):
    """Samples that were picked, in pick order."""

    def explain(self, which: int | str) -> dict[str, Any]:
        """Return why a sample was picked, or was not.

        Parameters
        ----------
        which : int or str
            A pick's number, or the id of any sample.
        """
        from sft_diversity.selection.explain import explain_sample
        from sft_diversity.verbs.sources import made_from

        id = which if isinstance(which, str) else self.ids[which]
        return explain_sample(self.folder, id, made_from(self.folder, self._work))


@dataclass(frozen=True)
class Cleaned(Chosen):
    """Samples that stay, in the order of what was given."""

    @property
    def removed(self) -> pl.DataFrame:
        """Samples that went, each with its reason and its twin or the text that it overlaps with.

        Exact duplicates are not among them: they are one sample.
        """
        import polars as pl

        return pl.read_parquet(self.folder / "removed.parquet")


@dataclass(frozen=True)
class Measures(Tabular):
    """Diversity metrics of data sets.

    Attributes
    ----------
    figures : mapping
        What `sftdiv measure --json` prints.
    """

    figures: Mapping[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Return the figures."""
        return dict(self.figures)

    def to_arrow(self) -> pa.Table:
        """Return a row a data set and component: `name`, `component`, `rows`, then the metrics."""
        rows = [
            {"name": one["name"], "component": component, "rows": one["rows"], **one[component]}
            for one in self.figures["datasets"]
            for component in self.figures["components"]
        ]
        names = dict.fromkeys(name for row in rows for name in row)
        order = dict.fromkeys(
            [*list(names)[:3], *(name for name in METRICS if name in names), *names]
        )
        return pa.table({name: [row.get(name) for row in rows] for name in order})


@dataclass(frozen=True)
class Fit(Tabular):
    """What a table of scores says.

    Attributes
    ----------
    figures : mapping
        What `sftdiv fit --json` prints: `slopes`, `baselines`, `claims`, `verdict`, …
    """

    figures: Mapping[str, Any]

    @property
    def verdict(self) -> tuple[str, ...]:
        """What pays, how much and how sure, in sentences."""
        return tuple(self.figures["verdict"])

    def as_dict(self) -> dict[str, Any]:
        """Return the figures."""
        return dict(self.figures)

    def to_arrow(self) -> pa.Table:
        """Return a row a slope: strategy, size, slope, its interval, …; no lists."""
        flat = [
            {name: value for name, value in row.items() if not isinstance(value, list | dict)}
            for row in self.figures["slopes"]
        ]
        return pa.Table.from_pylist(flat)


@dataclass(frozen=True)
class Advice(Tabular):
    """What scores at some sizes say of larger ones.

    Attributes
    ----------
    figures : mapping
        What `sftdiv advise --json` prints: `predictions`, `doublings`, `advice`, `verdict`, …
    """

    figures: Mapping[str, Any]

    @property
    def verdict(self) -> tuple[str, ...]:
        """How far to go with what, and what is expected, in sentences."""
        return tuple(self.figures["verdict"])

    @property
    def predictions(self) -> tuple[Mapping[str, Any], ...]:
        """A row a series and size: its mean and intervals, and whether it beats random."""
        return tuple(self.figures["predictions"])

    def as_dict(self) -> dict[str, Any]:
        """Return the figures."""
        return dict(self.figures)

    def to_arrow(self) -> pa.Table:
        """Return the predictions."""
        return pa.Table.from_pylist(self.figures["predictions"])
