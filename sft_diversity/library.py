"""Data in memory in, data in memory out: `select` and `Subset` as a notebook or a script uses them.

The command line's verbs stand beside these on the same stages and stores, so that both pick the
same samples. Data in memory is written to the work folder under a hash of its content and read back
as `ingest` reads any file; without a work folder that is a temporary one of this process.
"""

from __future__ import annotations

import hashlib
import itertools
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sft_diversity.core import config as configs
from sft_diversity.core import corpus as corpora
from sft_diversity.core import folder, parquet
from sft_diversity.core.errors import UsageError
from sft_diversity.core.progress import quiet
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


class Samples:
    """Picked samples, in the shapes that people go on with."""

    def to_arrow(self) -> pa.Table:
        """Return the samples as an Arrow table."""
        raise NotImplementedError

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
        return _shape(self._data).arrow(self._data).take(pa.array(self.rows))

    def to_dataset(self) -> datasets.Dataset:
        """Return the picked rows as a `datasets.Dataset`: a view, where one was given."""
        if hasattr(self._data, "select") and _shape(self._data) is _SHAPES["datasets"]:
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

    root = _work() if work is None else Path(work)
    kept = store(root)
    given = {
        "size": size, "strategy": strategy or ("micro-response" if kinds is None else "own"),
        "diversity": diversity, "seed": seed, "objective": objective, "fill": fill,
        "no_kind": no_kind, "max_per_kind": max_per_kind, "match_length": match_length,
        "token_budget": token_budget, "quota": quota, "quality_floor": quality_floor,
        "must_include": _ids_at(must_include, root), "exclude": _ids_at(exclude, root),
        "quality": quality if quality is None or isinstance(quality, str) else _MADE_QUALITY,
        "kinds_column": None if kinds is None else _KINDS,
        "tokenizer": _tokenizer_at(tokenizer, root), "encoder": encoder,
        "ingest": None if ingest is None else dict(ingest), **options,
    }  # fmt: skip
    in_memory = not isinstance(data, str | Path)
    if in_memory and isinstance(quality, str) and quality in _names(data):
        given["quality"] = f"meta.{quality}"
    config = configs.build(SelectConfig, {}, "select", given)
    extra = {_QUALITY: None if isinstance(quality, str) else quality, _KINDS: kinds}
    source = str(_written(data, extra, root) if in_memory else data)
    if out is not None:
        folder.check_out(Path(out), STAGE, [source, *more])
    with quiet(not verbose):
        check(kept, [config])
        corpus = corpus_of(kept, [source, *more], config.ingest, least=size)
        check(kept, [config], corpus)
        made = kept.get(STAGE, config, corpus, out=None if out is None else Path(out)).path
    samples = Subset(made).to_arrow().select(["id", "source_row"])
    ids = samples["id"]
    if in_memory:
        rows = samples["source_row"].to_numpy()
    else:
        rows = pc.index_in(ids, value_set=corpora.ids(corpus.path)).to_numpy()
    figures = folder.figures(folder.read_manifest(made), made)
    return Selection(
        tuple(ids.to_pylist()), rows.astype(np.int64), figures, made, root,
        data if in_memory else None,
    )  # fmt: skip


@cache
def _work() -> Path:
    """Return the work folder of this process, removed with it."""
    held = tempfile.TemporaryDirectory(prefix="sftdiv-")
    _held.append(held)
    return Path(held.name)


_held: list[tempfile.TemporaryDirectory[str]] = []  # each is removed when it is let go


# ---- data to a file that `ingest` reads ---------------------------------------------------------


@dataclass(frozen=True)
class _Shape:
    """How data of some library gives its column names and its Arrow table."""

    names: Callable[[Any], Sequence[str]]
    arrow: Callable[[Any], pa.Table]


#: By the top module of the data's class: no library is imported that the caller does not use.
_SHAPES = {
    "datasets": _Shape(lambda d: d.column_names, lambda d: d.with_format("arrow")[:]),
    "polars": _Shape(lambda d: d.columns, lambda d: d.to_arrow()),
    "pandas": _Shape(
        lambda d: [str(name) for name in d.columns],
        lambda d: pa.Table.from_pandas(d, preserve_index=False),
    ),
    "pyarrow": _Shape(lambda d: d.column_names, lambda d: d),
}


def _shape(data: Any) -> _Shape:
    name = type(data).__module__.partition(".")[0]
    if name not in _SHAPES or not hasattr(data, "__len__"):
        raise UsageError(
            f"select: data is a {type(data).__module__}.{type(data).__name__}; give a "
            "datasets.Dataset, a polars or pandas frame, an Arrow table, a list of dicts or a path"
        )
    return _SHAPES[name]


def _names(data: Any) -> set[str]:
    if isinstance(data, Sequence):
        return {name for row in data for name in row}
    return set(_shape(data).names(data))


def _written(data: Any, extra: Mapping[str, Any], root: Path) -> Path:
    """Write the data to the work folder, named by its content; return the file."""
    columns = {n: _values(n, given, len(data)) for n, given in extra.items() if given is not None}
    if isinstance(data, Sequence):
        rows = [dict(row) | {n: v[i] for n, v in columns.items()} for i, row in enumerate(data)]
        return _jsonl(rows, root)
    table: pa.Table = _shape(data).arrow(data).replace_schema_metadata(None)
    for name, values in columns.items():
        table = table.append_column(name, pa.array(values))
    hashed = _Hashed()
    with pa.ipc.new_stream(hashed, table.schema) as writer:
        writer.write_table(table)
    path = root / "memory" / hashed.key / "rows.parquet"
    if not path.exists():
        with _writing(path) as scratch:
            pq.write_table(table, scratch, compression="lz4")
    return path


def _jsonl(rows: Sequence[Mapping[str, Any]], root: Path) -> Path:
    try:
        text = b"".join(orjson.dumps(row, option=_JSON) for row in rows)
    except TypeError as fault:
        raise UsageError(f"select: a row of data is no JSON: {fault}") from None
    return _kept_as(text, "rows.jsonl", root)


_JSON = orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY


def _kept_as(content: bytes, name: str, root: Path) -> Path:
    path = root / "memory" / hashlib.blake2b(content, digest_size=16).hexdigest() / name
    if not path.exists():
        with _writing(path) as scratch:
            scratch.write_bytes(content)
    return path


def _writing(path: Path) -> Any:
    path.parent.mkdir(parents=True, exist_ok=True)
    return folder.writing(path, STAGE)


class _Hashed:
    """A file that keeps nothing of what is written to it but the hash."""

    closed = False

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=16)

    def write(self, content: Any) -> int:
        self._hash.update(content)
        return len(content)

    @property
    def key(self) -> str:
        """32 hex digits."""
        return self._hash.hexdigest()


def _values(name: str, given: Any, rows: int) -> list[Any]:
    """Return a value a row: numbers, or lists of tags; of a CSR matrix its columns' numbers."""
    if hasattr(given, "indptr"):
        width = len(str(given.shape[1]))
        tags = [f"{column:0{width}}" for column in given.indices.tolist()]
        values = [tags[a:b] for a, b in itertools.pairwise(given.indptr.tolist())]
    else:
        values = given.tolist() if isinstance(given, np.ndarray) else list(given)
    if len(values) != rows:
        what = "kinds" if name == _KINDS else "quality"
        raise UsageError(
            f"select: {what} has {len(values):,} rows and data {rows:,}; give one each"
        )
    return values


def _ids_at(given: str | Sequence[str] | None, root: Path) -> str | None:
    """Return a file of ids; ids in memory are written to one."""
    if given is None or isinstance(given, str | Path):
        return None if given is None else str(given)
    return str(_kept_as("".join(f"{id}\n" for id in given).encode(), "ids.txt", root))


def _tokenizer_at(given: Any, root: Path) -> str | None:
    """Return where a tokenizer is; one in memory is written as `tokenizer.json`."""
    if given is None or isinstance(given, str | Path):
        return None if given is None else str(given)
    fast = getattr(given, "backend_tokenizer", given)
    if not hasattr(fast, "to_str"):
        raise UsageError(
            f"select: tokenizer is a {type(given).__name__}; give a fast tokenizer of "
            "transformers, a tokenizers.Tokenizer, a folder or a Hub id"
        )
    return str(_kept_as(fast.to_str().encode(), "tokenizer.json", root))
