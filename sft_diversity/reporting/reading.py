"""Finds and opens what a page is made of: data sets, their corpus, tables and logs of a study.

What is not there, as a run did not write it or it lies elsewhere, is left out.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from sft_diversity.core import corpus as corpora
from sft_diversity.core import folder, incidence, parquet
from sft_diversity.core.corpus import rows_among
from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.core.incidence import Incidence
from sft_diversity.core.lineage import Found, found_among
from sft_diversity.core.numbers import Ints
from sft_diversity.core.spreadsheet import unquoted
from sft_diversity.core.tokens import TokenPass

Row = dict[str, Any]
_POINTS = 80  # of a training curve
_CURVES = ("loss", "eval_loss", "lr", "grad_norm", "grad_ratio", "kkt_gap", "box_share")


def locate(sources: Sequence[Path], work: Path, corpus: Path | None = None) -> Found:
    """Return what studies, subsets or corpora were made from.

    It is looked for in the work folder, beside it, beside the sources and in a study's own folder.

    Raises
    ------
    UsageError
        If `corpus` is another than the one they are from.
    """
    manifests: list[dict[str, Any]] = []
    near = [work.absolute().parent]
    within = [work]
    for source in sources:
        if folder.stage_of(source) == "select":
            manifests.append(folder.read_manifest(source))
        elif corpora.is_corpus(source):
            corpus = corpus or source
        else:
            made = sorted(source.glob("subsets/*/manifest.json"))
            manifests += [folder.read_manifest(path.parent) for path in made]
            within += [source, source / "work"]
        near += [source.absolute().parent, source.absolute().parent.parent]
    pool = next((m["inputs"]["corpus"] for m in manifests if "corpus" in m["inputs"]), None)
    if corpus is not None and pool not in (None, corpora.key(corpus)):
        raise UsageError(f"report: {corpus} is not the corpus that {sources[0]} is from")
    places = [path.parent for root in near for path in sorted(root.glob("*/manifest.json"))]
    places += [p for root in within for p in _folders(root)]
    return found_among(manifests, places, corpus)


def _folders(root: Path) -> list[Path]:
    """Return finished folders in a work folder and right in `root`, in a fixed order."""
    near = [*root.glob("*/manifest.json"), *root.glob("*/*/manifest.json")]
    return sorted(path.parent for path in near)


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
        return parquet.listed(self.place, "samples")

    def texts(self, rows: Ints) -> list[dict[str, Any]]:
        """Return the samples numbered `rows` (as in `ids`)."""
        columns = ["id", "source", "instruction", "response"]
        table = parquet.join(self.files, columns)
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
    files = parquet.listed(place, "samples")
    table = parquet.join(files, ["id", "source"]) if files else None
    if table is None or not table.num_rows:
        raise DataError(f"report: {place} has no samples; name a finished subset or corpus")
    return Subset(place, manifest, table["id"].combine_chunks(), table["source"].combine_chunks())


class SourceCorpus:
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

    def rows(self, ids: pa.Array) -> Ints:
        """Return where `ids` are in the corpus.

        Raises
        ------
        DataError
            If one is not.
        """
        assert self.table is not None
        return rows_among(ids, self.table["id"].combine_chunks(), "report", "the corpus")

    def texts(self, rows: Ints) -> list[dict[str, Any]]:
        """Return the corpus samples numbered `rows`."""
        assert self.found.corpus is not None
        taken = corpora.take(self.found.corpus, rows)
        found: list[dict[str, Any]] = taken.select(
            ["id", "source", "instruction", "response"]
        ).to_pylist()
        return found

    def counted(self, component: str) -> TokenPass | None:
        """Return the token pass over the corpus, where there is one."""
        place = self.found.tokens.get(component)
        return None if place is None else TokenPass(place)


@dataclass(frozen=True)
class Kinds:
    """An incidence with the names of its kinds."""

    strategy: str
    made: Incidence
    ids: pa.Array
    table: pa.Table

    def rows(self, ids: pa.Array) -> Ints:
        """Return where samples are in the incidence; see `rows_among`."""
        return rows_among(ids, self.ids, "report", f"the incidence of {self.strategy}")

    def counts(self, rows: Ints | None = None) -> Ints:
        """Return how many samples hold each kind, among `rows` or all, shape (kinds,)."""
        indices = self.made.indices if rows is None else self.made.take(rows).indices
        return np.bincount(indices, minlength=self.made.n_kinds).astype(np.int64)


def open_kinds(strategy: str, place: Path) -> Kinds:
    """Open an incidence; its arrays are memory maps."""
    table = parquet.read(place / "kinds.parquet")
    return Kinds(strategy, incidence.load(place), incidence.load_ids(place), table)


def shares_of(counts: Sequence[float] | Ints) -> list[float]:
    """Return counts as shares of their sum, rounded."""
    total = float(np.sum(counts)) or 1.0
    return [round(float(one) / total, 6) for one in counts]


# ---- tables and logs of a study


def csv_rows(path: Path) -> list[Row]:
    """Return a CSV's rows; numbers as numbers, empty cells and NaN as None; no file, no rows.

    A study that measures nothing has a table without a column: an empty line.

    Raises
    ------
    DataError
        If it is not a CSV of UTF-8 text.
    """
    import polars as pl

    if not path.is_file():
        return []
    try:
        frame = pl.read_csv(path, infer_schema_length=None, null_values=["", "nan", "null"])
    except pl.exceptions.NoDataError:
        return []
    except pl.exceptions.PolarsError as fault:
        why = str(fault).partition("\n")[0]
        raise DataError(f"report: {path.name} is no table: {why}; make it anew") from None
    finite = pl.when(pl.selectors.float().is_finite()).then(pl.selectors.float())
    rows = frame.with_columns(finite).to_dicts()
    return [
        {unquoted(k): unquoted(v) if isinstance(v, str) else v for k, v in row.items()}
        for row in rows
    ]


def json_of(path: Path) -> Row:
    """Return a JSON object; {} where there is none.

    Raises
    ------
    DataError
        If the file is no JSON object.
    """
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise DataError(f"report: {path.name} is no JSON object; make it anew with `sftdiv fit`")
    return value


def lines_of(path: Path) -> list[Row]:
    """Return the objects of a JSONL file, up to the first line that is not whole."""
    found: list[Row] = []
    if path.is_file():
        for line in path.read_text("utf-8", "replace").splitlines():
            try:
                value = json.loads(line)
            except (ValueError, RecursionError):
                break
            if isinstance(value, dict):
                found.append(value)
    return found


def binned_log(path: Path, points: int = _POINTS) -> Row | None:
    """Return a run's training log in at most `points` bins of steps, each figure its mean there."""
    log = [line for line in lines_of(path) if isinstance(line.get("step"), int)]
    if not log:
        return None
    parts = np.array_split(np.arange(len(log)), min(points, len(log)))
    told: Row = {"steps": [_rounded_mean([log[i]["step"] for i in part]) for part in parts]}
    for name in _CURVES:
        if any(isinstance(line.get(name), int | float) for line in log):
            told[name] = [_rounded_mean([log[i].get(name) for i in part]) for part in parts]
    return told


def _rounded_mean(values: Sequence[Any]) -> float | None:
    there = [v for v in values if isinstance(v, int | float) and np.isfinite(v)]
    return float(f"{np.mean(there):.5g}") if there else None
