"""Data in memory in, data in memory out: verbs as a notebook or a script uses them.

The command line's verbs stand beside these on the same stages and stores, so that both pick the
same samples. Data in memory is written to the work folder under a hash of its content and read back
as `ingest` reads any file; without a work folder that is a temporary one of this process.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sft_diversity.core import arrow, drafts, folder, parquet
from sft_diversity.core import config as configs
from sft_diversity.core import corpus as corpora
from sft_diversity.core.errors import UsageError
from sft_diversity.core.progress import quiet
from sft_diversity.ingestion import memory
from sft_diversity.results import (
    Advice,
    Chosen,
    Cleaned,
    Corpus,
    Fit,
    Folder,
    Measures,
    Rows,
    Selection,
)
from sft_diversity.selection.config import Fill, SelectConfig, Strategy
from sft_diversity.selection.stage import STAGE
from sft_diversity.stages import store
from sft_diversity.verbs.results import options_from

if TYPE_CHECKING:
    import datasets
    import pandas as pd
    import polars as pl
    import scipy.sparse as sp

    from sft_diversity.ingestion.config import Format

    #: Rows in any of the usual shapes, or where they are; results of these functions among them.
    Data: TypeAlias = (
        str | Path | Sequence[Mapping[str, Any]] | datasets.Dataset | pl.DataFrame | pd.DataFrame
        | pa.Table | Folder | Chosen
    )  # fmt: skip

_KINDS, _QUALITY = "sftdiv_kinds", "sftdiv_quality"  # columns that stand for arguments
_MADE_QUALITY = f"meta.{_QUALITY}"


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
        row each of the data (of a raw file: of its rows, dropped ones included), or a file, see
        docs/python.md. They are made unit vectors, kept as float16.
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

    root = _root(work)
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
        "embeddings": memory.vectors_at(embeddings, *_rows_of_vectors(data), root),
        "ingest": None if ingest is None else dict(ingest), **options,
    }  # fmt: skip
    in_memory = _in_memory(data)
    if in_memory and isinstance(quality, str) and quality in memory.names(data):
        given["quality"] = f"meta.{quality}"
    config = configs.build(SelectConfig, {}, "select", given)
    extra = {_QUALITY: None if isinstance(quality, str) else quality, _KINDS: kinds}
    sources = [_source(data, root, extra), *more]
    if out is not None:
        drafts.check_out(Path(out), STAGE, sources)
    with quiet(not verbose):
        check(kept, [config])
        corpus = corpus_of(kept, sources, config.ingest, least=size)
        array = embeddings is not None and not isinstance(embeddings, str | Path)
        if array and in_memory and "id" in memory.names(data):  # samples, of other files' rows
            places = corpora.read(corpus.path, ["id", "source_row"])
            at = memory.vectors_by_id(str(config.embeddings), places, data, root)
            config = config.model_copy(update={"embeddings": at})
        check(kept, [config], corpus)
        made = kept.get(STAGE, config, corpus, out=None if out is None else Path(out)).path
    samples = parquet.join(parquet.listed(made, "samples"), ["id", "source_row"])
    return Selection(*_chosen(samples, data, corpus.path), _figures(made), made, root, _given(data))


def ingest(
    *data: Data,
    format: Format = "auto",
    out: str | Path | None = None,
    work: str | Path | None = None,
    config: str | Path | None = None,
    verbose: bool = False,
    **options: Any,
) -> Corpus:
    """Make a corpus: rows in any known format become samples, exact duplicates dropped.

    Parameters
    ----------
    data : Dataset, frame, table, list of dicts, or path
        As in `select`; none where `sources` or `config` name them.
    format : str
        Of the rows; `auto` recognises it.
    out, work, verbose
        As in `select`.
    config : path, optional
        YAML file of options.
    options
        Those of `IngestConfig`, such as `size`, `dedup`.
    """
    from sft_diversity.ingestion import stage as ingesting
    from sft_diversity.ingestion.config import IngestConfig, IngestOptions

    root = _root(work)
    asked = options_from(IngestOptions, config, options | {"format": format})
    sources = [_source(one, root) for one in data]
    plain = ingesting.resolve(sources, configs.part_of(IngestConfig, asked), asked.format)
    place = None if out is None else Path(out)
    if place is not None:
        ingesting.check_out(place, plain)
    with quiet(not verbose):
        return Corpus(store(root).get("ingest", plain, out=place).path)


def clean(
    data: Data,
    *,
    against: Data | Sequence[str | Path] | None = None,
    out: str | Path | None = None,
    work: str | Path | None = None,
    config: str | Path | None = None,
    verbose: bool = False,
    **options: Any,
) -> Cleaned:
    """Take near-duplicates and overlap with evaluation sets out of data.

    Parameters
    ----------
    data : Dataset, frame, table, list of dicts, or path
        As in `select`.
    against : data or paths, optional
        Evaluation rows that no sample may share an n-gram with.
    out, work, verbose
        As in `select`.
    config : path, optional
        YAML file of options.
    options
        Those of `CleanConfig`, such as `jaccard`, `cosine`, `ngram`, `keep`.

    Returns
    -------
    Cleaned
        `rows` and `to_dataset()` are what stays, `removed` what went and why.
    """
    from sft_diversity.cleaning import stage as cleaning
    from sft_diversity.cleaning.config import CleanConfig
    from sft_diversity.verbs.sources import corpus_of

    root = _root(work)
    evals: Sequence[Any] = [] if against is None else [against]
    if isinstance(against, list | tuple) and all(isinstance(one, str | Path) for one in against):
        evals = against
    given = {"against": [str(_source(one, root)) for one in evals] or None}
    asked = options_from(CleanConfig, config, options | given)
    source, place = _source(data, root), None if out is None else Path(out)
    stage = cleaning.REPORT if asked.report_only else cleaning.STAGE
    if place is not None:
        cleaning.check(Path(source), place, asked)
    with quiet(not verbose):
        kept = store(root)
        corpus = corpus_of(kept, [source], asked.ingest)
        made = kept.get(stage, asked, corpus, out=place).path
    samples = corpora.read(corpus.path, ["id", "source_row"])
    gone = parquet.read(made / "removed.parquet", ["id"])["id"]
    samples = samples.filter(pc.invert(pc.is_in(samples["id"], value_set=gone)))
    ids, rows = _chosen(samples, data, corpus.path)
    order = np.argsort(rows, kind="stable")
    ids = tuple(ids[row] for row in order)
    return Cleaned(ids, rows[order], _figures(made), made, root, _given(data))


def measure(
    *data: Data,
    names: Sequence[str] | None = None,
    out: str | Path | None = None,
    work: str | Path | None = None,
    config: str | Path | None = None,
    verbose: bool = False,
    **options: Any,
) -> Measures:
    """Measure the diversity of data sets, side by side and by component.

    Parameters
    ----------
    data : Dataset, frame, table, list of dicts, path, or a `Selection`
        A selection or subset is described by what its corpus was described by, as far as that is in
        the work folder.
    names : sequence of str, optional
        Of the data sets; default: file names, `data 1`, … in memory.
    out, work, verbose
        As in `select`.
    config : path, optional
        YAML file of options.
    options
        Those of `MeasureOptions`, such as `tokenizer`, `encoder`, `reference`.
    """
    from dataclasses import replace

    from sft_diversity.metrics.stage import Measurement
    from sft_diversity.verbs.measuring import MeasureOptions, describe

    works = [one._work for one in data if isinstance(one, Chosen)]
    root = _root(works[0] if work is None and works else work)
    asked = options_from(
        MeasureOptions, config,
        options | {"tokenizer": memory.tokenizer_at(options.get("tokenizer"), root)},
    )  # fmt: skip
    if names is not None and len(names) != len(data):
        raise UsageError(f"measure: {len(names)} names for {len(data)} data sets; give one each")
    place = None if out is None else Path(out)
    if place is not None:
        drafts.check_out(place, "measure")
    with quiet(not verbose):
        kept = store(root)
        described = describe(kept, asked, [_source(one, root) for one in data])
        for number, one in enumerate(data):
            if names is not None or not isinstance(one, str | Path | Folder):
                name = names[number] if names is not None else f"data {number + 1}"
                described = (
                    *described[:number], replace(described[number], name=name),
                    *described[number + 1 :],
                )  # fmt: skip
        wanted = configs.part_of(Measurement, asked, datasets=described)
        return Measures(_figures(kept.get("measure", wanted, out=place).path))


def fit(
    results: Data,
    *,
    metrics: Data | None = None,
    out: str | Path | None = None,
    config: str | Path | None = None,
    **options: Any,
) -> Fit:
    """Fit a table of scores: what diversity pays, how much, and how sure that is.

    Parameters
    ----------
    results : frame, table, list of dicts, or path of a CSV or a study's folder
        Columns `strategy, size, diversity, seed, score`, maybe `regime`, `train_seed`; a row a run.
    metrics : the same, optional
        A row a subset: the first four columns, and one a metric.
    out : path, optional
        Folder to write; default: none.
    config : path, optional
        YAML file of options.
    options
        Those of `FitConfig`, such as `score`, `lower_is_better`, `draws`.

    Notes
    -----
    About 0.1 s a strategy at 10,000 resamples of 12 draws.
    """
    from sft_diversity.verbs.training import fit as fit_files

    def table(given: Any, name: str) -> Any:
        return memory.csv_at(given, _root(None), name) if _in_memory(given) else given

    at, beside = table(results, "results"), table(metrics, "metrics")
    return Fit(fit_files(at, metrics=beside, out=out, config=config, **options))


def advise(
    scores: Data,
    *,
    at: int | Sequence[int] | None = None,
    delta: float | None = None,
    price: float | None = None,
    worth: float | None = None,
    out: str | Path | None = None,
    config: str | Path | None = None,
    **options: Any,
) -> Advice:
    """Say how many samples, which strategy and when to stop, from scores at two or more sizes.

    Parameters
    ----------
    scores : frame, table, list of dicts, or path of a CSV or a study's folder
        Columns `size, score`, maybe `seed`, and `model, task, strategy, …`; a row a run.
    at : int or several, optional
        Sizes to predict at; default: four times the largest measured.
    delta : float, optional
        What a doubling must gain to pay, in units of the score; default: a point of a benchmark.
    price, worth : float, optional
        What one more sample costs, and what a gain of `delta` is worth, in the same money.
    out : path, optional
        Folder to write, with a plot; default: none.
    config : path, optional
        YAML file of options.
    options
        Those of `AdviseConfig`, such as `score`, `lower_is_better`, `scale`.

    Notes
    -----
    About 0.3 s a model and task with eight strategies.
    """
    from sft_diversity.verbs.training import advise as advise_files

    table = memory.csv_at(scores, _root(None), "scores") if _in_memory(scores) else scores
    given = {"at": at, "delta": delta, "price": price, "worth": worth}
    asked = {name: value for name, value in given.items() if value is not None}
    return Advice(advise_files(table, out=out, config=config, **asked, **options))  # type: ignore[arg-type]


def _root(work: str | Path | None) -> Path:
    return Path(_scratch().name if work is None else work)


def _in_memory(data: Any) -> bool:
    return data is not None and not isinstance(data, str | Path | Folder | Chosen)


def _given(data: Data) -> Any:
    """Return what rows are taken of: the data, where it is in memory."""
    return data if _in_memory(data) else None


def _rows_of_vectors(data: Data) -> tuple[int | None, Sequence[str] | None]:
    """Return how many rows an array must have and, of samples that have some, their ids in order.

    Of a raw file neither: its rows are counted when it is read.
    """
    if _in_memory(data):
        return memory.length(data), None
    ids: Sequence[str] | None = None
    if isinstance(data, Folder | Chosen):
        ids = data.ids
    elif corpora.is_corpus(Path(data)):  # type: ignore[arg-type]
        ids = corpora.ids(Path(data)).to_pylist()  # type: ignore[arg-type]
    return (None if ids is None else len(ids)), ids


def _source(data: Data, root: Path, extra: Mapping[str, Any] | None = None) -> str | Path:
    """Return where data is; written first, where it is in memory."""
    if isinstance(data, Folder | Chosen):
        return data.folder
    return memory.written(data, extra or {}, root) if _in_memory(data) else str(data)


def _chosen(samples: pa.Table, data: Data, corpus: Path) -> tuple[tuple[str, ...], Rows]:
    """Return ids of samples, and their rows in the data; of a path, in the corpus made of it."""
    if _in_memory(data):
        rows = memory.rows_of(samples, data)
    else:
        places = pc.index_in(samples["id"], value_set=corpora.ids(corpus))
        rows = arrow.joined([places], np.int32)
    return tuple(samples["id"].to_pylist()), rows.astype(np.int64)


def _figures(made: Path) -> dict[str, Any]:
    return folder.figures(folder.read_manifest(made), made)


@cache
def _scratch() -> tempfile.TemporaryDirectory[str]:
    """Return the work folder of this process, removed with it."""
    return tempfile.TemporaryDirectory(prefix="sftdiv-")
