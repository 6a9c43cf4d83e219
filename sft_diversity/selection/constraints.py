"""From options to limits: which samples are eligible, and what every subset keeps to."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from sft_diversity.core import corpus as corpora
from sft_diversity.core.config import Config
from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.core.kernels import NO_ROWS, Floats, Rows
from sft_diversity.selection.named import column_of, ids_of, rows_of
from sft_diversity.selection.problem import NO_CAP, Limits, Total
from sft_diversity.selection.quotas import Factor, make_quotas

BINS = 10
#: In the place of a subset or of shares: as in the whole corpus, as in what may be picked.
CORPUS, ELIGIBLE = "corpus", "eligible"
_ID_FILES = ("match_length", "must_include", "exclude")
_MADE_LATER = ("length", "perplexity", "ifd")  # qualities that are no columns of the corpus
_MEAN_WITHIN = 0.01  # of the reference's mean length, under a length match
_BUDGET_WITHIN = 0.0025  # of a token budget
#: Where the corpus's own shares cannot be met.
_WAY_OUT = "{} holds to what may be picked, --no-kind fill picks more; or lower the size"

Lengths = npt.NDArray[np.integer]
Mask = npt.NDArray[np.bool_]


class LimitOptions(Config):
    """Options that constrain a subset, all together; each moves the range of the dial."""

    size: int = Field(gt=0, description="samples to keep, exactly")
    max_per_kind: int | None = Field(
        default=None, ge=1, description="no kind in more picks than this; 1 on meso deduplicates"
    )
    match_length: str | None = Field(
        default=None,
        description="hold response lengths, in ten quantile bins and in the mean, to those of the "
        "corpus (`corpus`), of the samples that may be picked (`eligible`), or of another subset "
        "(its folder)",
    )
    token_budget: int | None = Field(
        default=None, gt=0, description="response tokens of the whole subset, within 0.25 %"
    )
    quota: str | None = Field(
        default=None,
        description="hold the mix of a column, exactly: source=corpus, source=eligible (as in what "
        "may be picked) or source=VALUE:SHARE,...; any column or meta.KEY; several joined by ;",
    )
    must_include: str | None = Field(
        default=None, description="ids that every subset holds: a subset, .parquet or text file"
    )
    exclude: str | None = Field(
        default=None, description="ids never picked: a subset, .parquet or text file"
    )
    quality: str | None = Field(
        default=None,
        description="score of a sample, higher is better: a column, meta.KEY, length, or under a "
        "local model perplexity (low is good) or ifd",
    )
    quality_floor: float = Field(
        default=25.0, ge=0, lt=100, description="percent of the samples, worst first, not eligible"
    )


@dataclass(frozen=True)
class Source:
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
    lengths: Lengths
    scores: Mapping[str, Floats]


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


def check(asked: LimitOptions, corpus: Path | None = None) -> None:
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
    files = [name for name in _ID_FILES if getattr(asked, name) not in (None, CORPUS, ELIGIBLE)]
    for name in files:
        ids_of(getattr(asked, name), name.replace("_", "-"))
    quotas = _parsed_quota(asked.quota)
    if corpus is None:
        return
    check_size(asked.size, corpora.rows(corpus))
    if not files and not quotas and asked.quality is None:
        return
    ids = corpora.read(corpus, ["id"])["id"].combine_chunks()
    source = Source(corpus, ids, np.zeros(len(ids), np.int32), {})
    early = asked.quality not in (None, *_MADE_LATER)
    found = eligible(source, asked if early else asked.model_copy(update={"quality": None}))
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
        rows_of(str(asked.match_length), ids, "match-length", strict=True)
    for column, shares in quotas:
        _column_factor(source, column, shares, rows)


def check_size(size: int, rows: int) -> None:
    """Refuse a size above the samples of a corpus."""
    if size > rows:
        raise DataError(
            f"select: size is {size:,} but the corpus has {rows:,} samples; "
            "lower --size or ingest more"
        )


def eligible(source: Source, asked: LimitOptions) -> Eligible:
    """Apply `exclude`, `must_include` and the quality floor.

    Raises
    ------
    UsageError, DataError
        If an id is named twice over, is not in the corpus, or a column is not there.
    """
    n = len(source.ids)
    mask = np.ones(n, np.bool_)
    dropped: dict[str, int] = {}
    if asked.exclude is not None:
        mask[rows_of(asked.exclude, source.ids, "exclude", strict=False)] = False
        dropped["excluded"] = n - int(mask.sum())
    quality = None
    if asked.quality is not None:
        quality = quality_of(source, asked.quality)
        usable = mask & np.isfinite(quality)
        floor = np.quantile(quality[usable], asked.quality_floor / 100) if usable.any() else 0.0
        good = usable & (quality >= floor)
        dropped["below_quality"] = int((mask & ~good).sum())
        mask = good
    kept = NO_ROWS
    if asked.must_include is not None:
        kept = rows_of(asked.must_include, source.ids, "must-include", strict=True)
        if asked.exclude is not None:
            both = np.isin(kept, rows_of(asked.exclude, source.ids, "exclude", strict=False))
            if both.any():
                raise UsageError(
                    f"select: {both.sum():,} samples are both in must-include and in exclude; "
                    "take them out of one"
                )
        mask[kept] = True
    return Eligible(mask, kept, quality, dropped)


def limits(
    source: Source, asked: LimitOptions, rows: Rows, kept: Rows
) -> tuple[Limits, dict[str, Any]]:
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
    factors: list[Factor] = []
    said: dict[str, Any] = {}
    target, tolerance = 0.0, 0.0
    if asked.match_length is not None:
        reference = np.asarray(source.lengths[_reference(source, asked.match_length, rows)])
        factor, edges = _length_bins(source.lengths, reference)
        if asked.match_length == CORPUS:
            factor = replace(factor, way_out=_WAY_OUT.format("--match-length eligible"))
        factors.append(factor)
        target, tolerance = float(reference.mean()) * asked.size, _MEAN_WITHIN
        said["length_bins"] = {"up_to": edges, "wanted": factor.numbers(asked.size).tolist()}
    for column, shares in _parsed_quota(asked.quota):
        factor = _column_factor(source, column, shares, rows)
        factors.append(factor)
        numbers = factor.numbers(asked.size).tolist()
        said.setdefault("quota", {})[column] = dict(zip(factor.labels, numbers, strict=True))
    if asked.token_budget is not None:
        target, tolerance = float(asked.token_budget), _BUDGET_WITHIN
    total = None
    if tolerance:
        least, most = int(np.ceil(target * (1 - tolerance))), int(target * (1 + tolerance))
        total = Total(source.lengths, least, max(least, most))
        said["tokens_wanted"] = round(target)
    quotas = make_quotas(factors, rows, asked.size, kept) if factors else None
    cap = NO_CAP if asked.max_per_kind is None else asked.max_per_kind
    return Limits(cap, kept, quotas, total), said


def _reference(source: Source, named: str, rows: Rows) -> Rows:
    """Return the rows whose lengths a subset is to have."""
    if named == CORPUS:
        return np.arange(len(source.ids))
    if named == ELIGIBLE:
        return rows
    return rows_of(named, source.ids, "match-length", strict=True)


def achieved(
    limits: Limits, rows: Rows, eligible: Eligible | None, pickable: Rows
) -> dict[str, Any]:
    """Return what the picks `rows` came to: not eligible, kept, total, quality."""
    got: dict[str, Any] = {}
    if eligible is not None:
        got |= {"not_eligible": eligible.dropped, "included": len(eligible.kept)}
    if limits.total is not None:
        tokens = limits.total.of(rows)
        got["tokens"] = tokens
        got["tokens_met"] = limits.total.least <= tokens <= limits.total.most
    if eligible is not None and eligible.quality is not None:
        finite = np.isfinite(eligible.quality)
        for name, of in (("subset", rows), ("eligible", pickable), ("corpus", slice(None))):
            scores = eligible.quality[of][finite[of]]
            got.setdefault("quality_mean", {})[name] = round(float(scores.mean()), 6)
    return got


def _length_bins(lengths: Lengths, reference: Lengths) -> tuple[Factor, list[float]]:
    if len(reference) == 0:
        raise DataError("select: match-length has an empty reference; give a subset with samples")
    edges = np.quantile(reference, np.arange(1, BINS) / BINS)
    ends = ["0", *(f"{edge:g}" for edge in edges), "∞"]
    labels = [f"{low}–{high}" for low, high in itertools.pairwise(ends)]
    group = np.searchsorted(edges, lengths).astype(np.int32)
    shares = np.bincount(np.searchsorted(edges, reference), minlength=BINS).astype(np.float64)
    return Factor("response length", labels, group, shares), edges.tolist()


def _parsed_quota(quota: str | None) -> list[tuple[str, str | dict[str, float]]]:
    """Return each column of `quota` with `corpus`, `eligible` or the shares of its values."""
    parsed: list[tuple[str, str | dict[str, float]]] = []
    for part in (quota or "").split(";"):
        if not part.strip():
            continue
        column, equals, given = (piece.strip() for piece in part.partition("="))
        if not (column and equals and given):
            raise _bad_quota(part)
        if given in (CORPUS, ELIGIBLE):
            parsed.append((column, given))
            continue
        shares = {}
        for pair in given.split(","):
            value, colon, share = (piece.strip() for piece in pair.rpartition(":"))
            try:
                shares[value] = float(share)
            except ValueError:
                raise _bad_quota(part) from None
            if not (colon and value and 0 <= shares[value] < np.inf):
                raise _bad_quota(part)
        if not sum(shares.values()) > 0:
            raise _bad_quota(part)
        parsed.append((column, shares))
    return parsed


def _bad_quota(part: str) -> UsageError:
    return UsageError(
        f"select: quota is {part.strip()!r} but must be COLUMN=corpus, COLUMN=eligible or "
        "COLUMN=VALUE:SHARE,...; several are joined by `;`"
    )


def _column_factor(
    source: Source, column: str, shares: str | dict[str, float], rows: Rows
) -> Factor:
    values = pc.dictionary_encode(column_of(source.corpus, column).combine_chunks().cast("string"))
    names = values.dictionary.to_pylist()
    codes = values.indices.fill_null(-1).to_numpy().astype(np.int32)
    if isinstance(shares, str):
        of = codes if shares == CORPUS else codes[rows]
        counts = np.bincount(of[of >= 0], minlength=len(names)).astype(np.float64)
        if shares == ELIGIBLE:
            return Factor(column, names, codes, counts)
        return Factor(column, names, codes, counts, _WAY_OUT.format(f"--quota {column}=eligible"))
    unknown = [name for name in shares if name not in names]
    if unknown:
        raise DataError(
            f"select: quota: {column} is never {unknown[0]!r}; "
            f"it is {', '.join(map(str, sorted(names)[:12]))}"
        )
    place = {name: i for i, name in enumerate(shares)}
    lookup = np.array([*(place.get(name, -1) for name in names), -1], np.int32)
    return Factor(column, list(shares), lookup[codes], np.array(list(shares.values())))


def quality_of(source: Source, name: str) -> Floats:
    """Return every sample's score, higher is better; not finite where it has none."""
    if name in source.scores:
        return np.asarray(source.scores[name], np.float64)
    if name == "length":
        return np.asarray(source.lengths, np.float64)
    texts = column_of(source.corpus, name)
    try:
        numbers = texts.cast(pa.float64()).fill_null(np.nan)
    except pa.ArrowInvalid as fault:
        raise DataError(f"select: quality: {name} is no number everywhere: {fault}") from None
    return np.asarray(numbers.to_numpy(), np.float64)
