"""Data in memory in, data in memory out: `select` and `Subset` as a notebook or a script uses them.

The command line's verbs stand beside these on the same stages and stores, so that both pick the
same samples. Data in memory is written to the work folder under a hash of its content and read back
as `ingest` reads any file; without a work folder that is a temporary one of this process.
"""

from __future__ import annotations

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sft_diversity.core import config as configs
from sft_diversity.core import corpus as corpora
from sft_diversity.core import drafts, folder, parquet
from sft_diversity.core.progress import quiet
from sft_diversity.ingestion import memory
from sft_diversity.selection.config import Fill, SelectConfig, Strategy
from sft_diversity.selection.stage import STAGE
from sft_diversity.stages import store

if TYPE_CHECKING:
    import datasets
    import pandas as pd
    import polars as pl
    import scipy.sparse as sp

    #: Rows in any of the usual shapes, or where they are.
    Data: TypeAlias = (
        str | Path | Sequence[Mapping[str, Any]] | datasets.Dataset | pl.DataFrame | pd.DataFrame
        | pa.Table
    )  # fmt: skip

Rows: TypeAlias = npt.NDArray[np.int64]
_KINDS, _QUALITY = "sftdiv_kinds", "sftdiv_quality"  # columns that stand for arguments
_MADE_QUALITY = f"meta.{_QUALITY}"


class Samples(ABC):
    """Picked samples, in the shapes that people go on with."""

    @abstractmethod
    def to_arrow(self) -> pa.Table:
        """Return the samples as an Arrow table."""

    def to_dataset(self) -> datasets.Dataset:
        """Return the samples as a `datasets.Dataset`."""
        import datasets

        return datasets.Dataset(datasets.table.InMemoryTable(self.to_arrow()))

    def to_polars(self) -> pl.DataFrame:
        """Return the samples as a polars frame."""
        import polars as pl

        frame = pl.from_arrow(self.to_arrow())
        assert isinstance(frame, pl.DataFrame)
        return frame

    def to_pandas(self) -> pd.DataFrame:
        """Return the samples as a pandas frame."""
        return self.to_arrow().to_pandas()


@dataclass(frozen=True)
class Subset(Samples):
    """A subset's folder, as `sftdiv select` writes it."""

    folder: str | Path

    @property
    def figures(self) -> dict[str, Any]:
        """What `sftdiv select --json` printed."""
        place = Path(self.folder)
        return folder.figures(folder.read_manifest(place, STAGE), place)

    def to_arrow(self) -> pa.Table:
        """Return the samples in pick order, schema SUBSET."""
        folder.read_input(Path(self.folder), STAGE)
        return parquet.join(parquet.listed(Path(self.folder), "samples"))


@dataclass(frozen=True)
class Selection(Samples):
    """Samples that were picked, in pick order.

    Attributes
    ----------
    ids : tuple of str
        The samples' content hashes.
    rows : int64 array, shape (n,)
        Their rows in the data that was given; of a path, in the corpus made of it, which is ordered
        by id.
    figures : mapping
        What `sftdiv select --json` prints.
    folder : Path
        The subset's folder, for `finetune`, `export`, `measure`.
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
        """Return the picked rows as they were given; of a path, its samples (schema SUBSET)."""
        if self._data is None:
            return Subset(self.folder).to_arrow()
        if isinstance(self._data, Sequence):
            rows = [self._data[row] for row in self.rows.tolist()]
            names = dict.fromkeys(name for row in rows for name in row)
            return pa.table({name: [row.get(name) for row in rows] for name in names})
        return memory.shape(self._data).arrow(self._data).take(pa.array(self.rows))

    def to_dataset(self) -> datasets.Dataset:
        """Return the picked rows as a `datasets.Dataset`: a view, where one was given."""
        if hasattr(self._data, "select") and memory.shape(self._data) is memory.SHAPES["datasets"]:
            found: datasets.Dataset = self._data.select(self.rows)
            return found
        return super().to_dataset()

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


def select(
    data: Data,
    *more: str | Path,
    size: int,
    strategy: Strategy | None = None,
    diversity: float = 100.0,
    seed: int = 0,
    objective: Literal["kinds", "entropy"] = "kinds",
    fill: Fill = "draws",
    no_kind: Literal["out", "fill"] = "out",
    max_per_kind: int | None = None,
    match_length: str | None = None,
    token_budget: int | None = None,
    quota: str | None = None,
    must_include: str | Sequence[str] | None = None,
    exclude: str | Sequence[str] | None = None,
    quality: str | Sequence[float] | npt.NDArray[Any] | None = None,
    quality_floor: float = 25.0,
    kinds: Sequence[Sequence[str]] | sp.csr_matrix | sp.csr_array | None = None,
    embeddings: str | Path | npt.NDArray[Any] | None = None,
    tokenizer: Any = None,
    encoder: str | None = None,
    ingest: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    work: str | Path | None = None,
    verbose: bool = False,
    **options: Any,
) -> Selection:
    """Select exactly `size` samples at a chosen diversity.

    Parameters
    ----------
    data : Dataset, frame, table, list of dicts, or path
        Rows in any format that `ingest` knows, a path to some, a corpus, or `hub:ID`; paths may be
        several.
    strategy : str
        Level and component, `own`, or a baseline; default `micro-response`, with `kinds` `own`.
    diversity : float
        Percent of the dial's range.
    must_include, exclude : ids, or a subset, a Parquet or text file of ids
    quality : column of the data, or a score a row; length, perplexity, ifd
        Higher is better; the worst `quality_floor` percent are not picked.
    kinds : list of tags a row, or CSR matrix, shape (rows, kinds)
        Kinds of your own, for strategy `own`.
    embeddings : array, shape (rows, d), or a .npy or .parquet file
        Vectors of your own, for macro strategies, `k-center`, `facility-location` and `deita`: a
        row each of the data (of a path: of the one file that it is), or in Parquet columns `id` and
        `embedding`. They are made unit vectors, kept as float16.
    tokenizer : str, Path, or a tokenizer of transformers or tokenizers
        Of the model to be trained; default: that of the packaged base model.
    ingest : mapping
        Options of `ingest`, such as `mapping` of a format it does not know.
    out : path, optional
        Where the subset's folder is to be; default: in the work folder.
    work : path, optional
        What is made on the way is kept there and found again; default: a temporary folder, gone
        with this process.
    options
        The others of `SelectConfig`.

    Returns
    -------
    Selection

    Raises
    ------
    UsageError, DataError
        As the command line says them, in one line.

    Notes
    -----
    Of identical rows the first counts: `ingest` drops exact duplicates. Memory holds what the
    verbs hold, see docs/scale.md, and of a list of dicts its JSON.
    """
    from sft_diversity.verbs.selecting import check
    from sft_diversity.verbs.sources import corpus_of

    root = Path(_scratch().name if work is None else work)
    kept = store(root)
    given = {
        "size": size, "strategy": strategy or ("micro-response" if kinds is None else "own"),
        "diversity": diversity, "seed": seed, "objective": objective, "fill": fill,
        "no_kind": no_kind, "max_per_kind": max_per_kind, "match_length": match_length,
        "token_budget": token_budget, "quota": quota, "quality_floor": quality_floor,
        "must_include": memory.ids_at(must_include, root), "exclude": memory.ids_at(exclude, root),
        "quality": quality if quality is None or isinstance(quality, str) else _MADE_QUALITY,
        "kinds_column": None if kinds is None else _KINDS,
        "tokenizer": memory.tokenizer_at(tokenizer, root), "encoder": encoder,
        "embeddings": memory.vectors_at(embeddings, data, root),
        "ingest": None if ingest is None else dict(ingest), **options,
    }  # fmt: skip
    in_memory = not isinstance(data, str | Path)
    if in_memory and isinstance(quality, str) and quality in memory.names(data):
        given["quality"] = f"meta.{quality}"
    config = configs.build(SelectConfig, {}, "select", given)
    extra = {_QUALITY: None if isinstance(quality, str) else quality, _KINDS: kinds}
    source = str(memory.written(data, extra, root) if in_memory else data)
    if out is not None:
        drafts.check_out(Path(out), STAGE, [source, *more])
    with quiet(not verbose):
        check(kept, [config])
        corpus = corpus_of(kept, [source, *more], config.ingest, least=size)
        array = embeddings is not None and not isinstance(embeddings, str | Path)
        if array and in_memory and "id" in memory.names(data):  # samples, of other files' rows
            places = corpora.read(corpus.path, ["id", "source_row"])
            at = memory.vectors_by_id(str(config.embeddings), places, data, root)
            config = config.model_copy(update={"embeddings": at})
        check(kept, [config], corpus)
        made = kept.get(STAGE, config, corpus, out=None if out is None else Path(out)).path
    samples = Subset(made).to_arrow().select(["id", "source_row"])
    ids = samples["id"]
    if in_memory:
        rows = memory.rows_of(samples, data)
    else:
        rows = pc.index_in(ids, value_set=corpora.ids(corpus.path)).to_numpy()
    figures = folder.figures(folder.read_manifest(made), made)
    return Selection(
        tuple(ids.to_pylist()), rows.astype(np.int64), figures, made, root,
        data if in_memory else None,
    )  # fmt: skip


@cache
def _scratch() -> tempfile.TemporaryDirectory[str]:
    """Return the work folder of this process, removed with it."""
    return tempfile.TemporaryDirectory(prefix="sftdiv-")
