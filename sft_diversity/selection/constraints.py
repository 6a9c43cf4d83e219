"""From options to limits: what they name, who is eligible, what every subset keeps to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sft_diversity.core import corpus as corpora
from sft_diversity.core import folder, parquet
from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.core.hashing import file_sha256
from sft_diversity.core.kernels import NO_ROWS, Floats, Mask, Rows
from sft_diversity.core.quality import JUDGED
from sft_diversity.selection.config import CORPUS, ELIGIBLE, LimitOptions, check_size
from sft_diversity.selection.problem import NO_CAP, PickLimits, Total
from sft_diversity.selection.quotas import (
    column_factor,
    length_factor,
    make_quotas,
    parse_quota,
)

_NAMED = 3  # ids that an error names
_IDS = "a subset folder, a Parquet file with a column `id`, or a text file with an id a line"
_MADE_LATER = ("length", *JUDGED)  # qualities that are no columns of the corpus
_MEAN_WITHIN = 0.01  # of the reference's mean length, under a length match
_BUDGET_WITHIN = 0.0025  # of a token budget


@dataclass(frozen=True)
class CorpusColumns:
    """What constraints are read from.

    Attributes
    ----------
    corpus : Path
    ids : string array, shape (n,)
        Ascending.
    lengths : int array, shape (n,)
        Tokens of every response.
    scores : mapping
        Quality scores made before, by name; float array, shape (n,).
    """

    corpus: Path
    ids: pa.Array
    lengths: npt.NDArray[np.integer]
    scores: Mapping[str, Floats]

    def texts(self, column: str) -> pa.ChunkedArray:
        """Return a column of the samples, or `meta.KEY`: what the source had under that key.

        Raises
        ------
        UsageError
            If there is no such column, or no sample has the key.
        """
        if not column.startswith("meta."):
            names = pq.read_schema(corpora.shards(self.corpus)[0]).names
            if column not in names or column in ("messages", "meta"):
                known = ", ".join(name for name in names if name not in ("messages", "meta"))
                raise UsageError(f"select: no column {column!r}; known: {known}, meta.KEY")
            return corpora.read(self.corpus, [column])[column]
        key = column.removeprefix("meta.")
        metas = corpora.read(self.corpus, ["meta"])["meta"].to_pylist()
        values = [json.loads(meta).get(key) for meta in metas]
        if all(value is None for value in values):
            raise UsageError(f"select: no sample has {key!r} in its meta")
        texts = [v if v is None or isinstance(v, str) else json.dumps(v) for v in values]
        return pa.chunked_array([pa.array(texts, pa.string())])

    def quality(self, name: str) -> Floats:
        """Return every sample's score, higher is better; not finite where it has none."""
        if name in self.scores:
            return np.asarray(self.scores[name], np.float64)
        if name == "length":
            return np.asarray(self.lengths, np.float64)
        try:
            numbers = self.texts(name).cast(pa.float64()).fill_null(np.nan)
        except pa.ArrowInvalid as fault:
            raise DataError(f"select: quality: {name} is no number everywhere: {fault}") from None
        return np.asarray(numbers.to_numpy(), np.float64)


@dataclass(frozen=True)
class Eligible:
    """Which samples may be picked.

    Attributes
    ----------
    mask : bool array, shape (n,)
        Those kept always are among them.
    kept : int64 array
        Rows that every subset holds, in the order they were named.
    quality : float64 array, shape (n,), or None
    dropped : dict
        Samples that are not eligible, by reason.
    """

    mask: Mask
    kept: Rows
    quality: Floats | None
    dropped: dict[str, int]


def ids_named(named: str, option: str) -> pa.Array | pa.ChunkedArray:
    """Return the ids that a subset folder, a Parquet file or a text file names, in its order."""
    place = Path(named)
    if place.is_dir():
        files = parquet.listed(place, "samples")
        if not files:
            stage = folder.stage_of(place)
            raise UsageError(f"select: {option}: {place} ({stage}) holds no samples")
        return parquet.join(files, ["id"])["id"]
    try:
        if place.suffix == ".parquet" and place.is_file():
            return pq.read_table(place, columns=["id"])["id"].cast(pa.string())
        if place.is_file():
            lines = place.read_text("utf-8").split("\n")
            ids = pa.array([line.strip() for line in lines if line.strip()], pa.string())
            if not len(ids):
                raise UsageError(f"select: {option}: {place} is empty; give {_IDS}")
            return ids
    except (KeyError, UnicodeDecodeError, pa.ArrowException):
        raise UsageError(f"select: {option}: {place} holds no ids; give {_IDS}") from None
    raise UsageError(f"select: {option}: {place} is not there; give {_IDS}")


def rows_named(named: str, ids: pa.Array, option: str) -> Rows:
    """Return the rows of `ids` that are named, each once.

    Raises
    ------
    DataError
        If an id is not there. What is not to be picked may lack some, where it is a subset: the
        corpus may have been cleaned since.
    """
    wanted = ids_named(named, option)
    places = pc.index_in(wanted, value_set=ids)
    some_lack = option == "exclude" and Path(named).is_dir() and places.null_count < len(places)
    if places.null_count and not some_lack:
        unknown = wanted.filter(places.is_null()).slice(0, _NAMED).to_pylist()
        raise DataError(
            f"select: {option}: {named} has {places.null_count:,} ids that are not in this corpus "
            f"({', '.join(f'{one!r:.80}' for one in unknown)}); use ids of the same corpus"
        )
    rows = places.drop_null().to_numpy().astype(np.int64)
    _, first = np.unique(rows, return_index=True)
    distinct: Rows = rows[np.sort(first)]
    return distinct


def content_of(named: str) -> str:
    """Return a key of the ids that a folder or file names."""
    place = Path(named)
    if place.is_dir():
        return folder.contents_key(folder.read_manifest(place))
    return file_sha256(place) if place.is_file() else ""


def check_constraints(asked: LimitOptions, corpus: Path | None = None) -> None:
    """Refuse what no subset could keep to, before any token is counted.

    Without a corpus, which is then not made yet, only the files that options name are looked at.

    Raises
    ------
    UsageError, DataError
        If a file, a column or a value is not there, ids are of another corpus, or fewer samples may
        be picked than `size`. What depends on lengths and kinds shows later.

    Notes
    -----
    Reads the ids of the corpus, and the columns that options name, where any do.
    """
    files = asked.named
    for name in files:
        ids_named(getattr(asked, name), name.replace("_", "-"))
    quotas = parse_quota(asked.quota)
    if corpus is None:
        return
    check_size(asked.size, corpora.rows(corpus))
    if not files and not quotas and asked.quality is None:
        return
    ids = corpora.ids(corpus)
    columns = CorpusColumns(corpus, ids, np.zeros(len(ids), np.int32), {})
    early = asked.quality not in (None, *_MADE_LATER)
    found = make_eligible(columns, asked if early else asked.model_copy(update={"quality": None}))
    rows = np.flatnonzero(found.mask)
    if asked.size > len(rows):
        why = ", ".join(f"{n:,} {reason}" for reason, n in found.dropped.items() if n)
        raise DataError(
            f"select: size is {asked.size:,} but only {len(rows):,} of {len(ids):,} samples may be "
            f"picked ({why}); lower --size or exclude fewer"
        )
    if len(found.kept) > asked.size:
        raise UsageError(
            f"select: size is {asked.size:,} but {len(found.kept):,} samples must be included; "
            "raise the size"
        )
    if "match_length" in files:
        rows_named(str(asked.match_length), ids, "match-length")
    for column, shares in quotas:
        column_factor(column, columns.texts(column), shares, rows)


def make_eligible(columns: CorpusColumns, asked: LimitOptions) -> Eligible:
    """Apply `exclude`, `must_include` and the quality floor.

    Raises
    ------
    UsageError, DataError
        If an id is named twice over, is not in the corpus, or a column is not there.
    """
    n = len(columns.ids)
    mask, out, kept = np.ones(n, np.bool_), NO_ROWS, NO_ROWS
    dropped: dict[str, int] = {}
    if asked.exclude is not None:
        out = rows_named(asked.exclude, columns.ids, "exclude")
        mask[out] = False
        dropped["excluded"] = len(out)
    quality = None
    if asked.quality is not None:
        quality = columns.quality(asked.quality)
        usable = mask & np.isfinite(quality)
        floor = np.quantile(quality[usable], asked.quality_floor / 100) if usable.any() else 0.0
        good = usable & (quality >= floor)
        dropped["below_quality"] = int((mask & ~good).sum())
        mask = good
    if asked.must_include is not None:
        kept = rows_named(asked.must_include, columns.ids, "must-include")
        both = np.isin(kept, out).sum()
        if both:
            raise UsageError(
                f"select: {both:,} samples are both in must-include and in exclude; "
                "take them out of one"
            )
        mask[kept] = True
    return Eligible(mask, kept, quality, dropped)


def make_limits(
    columns: CorpusColumns, asked: LimitOptions, rows: Rows, kept: Rows
) -> tuple[PickLimits, dict[str, Any]]:
    """Return what a subset keeps to, and its description for the manifest.

    Parameters
    ----------
    rows : int64 array
        Eligible rows, those kept among them.
    kept : int64 array

    Notes
    -----
    `match_length` divides lengths at the deciles of its reference, the corpus, the eligible
    samples or a subset, and holds the mean within 1 %; `token_budget` is held within 0.25 %,
    together with the bins where both are asked for.
    """
    factors, said = [], dict[str, Any]()
    target, tolerance = 0.0, 0.0
    if asked.match_length is not None:
        of = _reference(columns, asked.match_length, rows)
        reference = np.asarray(columns.lengths[of])
        factor, edges = length_factor(columns.lengths, reference, asked.match_length)
        factors.append(factor)
        target, tolerance = float(reference.mean()) * asked.size, _MEAN_WITHIN
        said["length_bins"] = {"up_to": edges, "wanted": factor.numbers(asked.size).tolist()}
    for column, shares in parse_quota(asked.quota):
        factor = column_factor(column, columns.texts(column), shares, rows)
        factors.append(factor)
        numbers = factor.numbers(asked.size).tolist()
        said.setdefault("quota", {})[column] = dict(zip(factor.labels, numbers, strict=True))
    if asked.token_budget is not None:
        target, tolerance = float(asked.token_budget), _BUDGET_WITHIN
    total = None
    if tolerance:
        least, most = int(np.ceil(target * (1 - tolerance))), int(target * (1 + tolerance))
        total = Total(columns.lengths, least, max(least, most))
        said["tokens_wanted"] = round(target)
    quotas = make_quotas(factors, rows, asked.size, kept) if factors else None
    cap = NO_CAP if asked.max_per_kind is None else asked.max_per_kind
    return PickLimits(cap, kept, quotas, total), said


def _reference(columns: CorpusColumns, named: str, rows: Rows) -> Rows:
    """Return the rows whose lengths a subset is to have."""
    if named == CORPUS:
        return np.arange(len(columns.ids))
    if named == ELIGIBLE:
        return rows
    return rows_named(named, columns.ids, "match-length")


def achieved(
    limits: PickLimits, rows: Rows, eligible: Eligible | None, pickable: Rows
) -> dict[str, Any]:
    """Return what the picks `rows` came to: not eligible, kept, total, quality."""
    got: dict[str, Any] = {}
    if eligible is not None:
        got |= {"not_eligible": eligible.dropped, "included": len(eligible.kept)}
    if limits.total is not None:
        got |= {"tokens": limits.total.of(rows), "tokens_met": limits.total.met(rows)}
    if eligible is not None and eligible.quality is not None:
        finite = np.isfinite(eligible.quality)
        for name, of in (("subset", rows), ("eligible", pickable), ("corpus", slice(None))):
            scores = eligible.quality[of][finite[of]]
            got.setdefault("quality_mean", {})[name] = round(float(scores.mean()), 6)
    return got
