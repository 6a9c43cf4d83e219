"""The figures of the suite `heldout`, and the guards against misreading them.

Three traps are guarded against. On data with the corpus's own mix a random subset is near-optimal
by construction: so the headline is over *transfer* sets. A mean over sources lets three records
decide: so figures pool tokens, and domains of fewer than 50 records are pooled. Training on long
answers lowers the loss on long references without any diversity: so the headline reads only the
first 64 tokens, or only sets of short references, and the rest is shown by reference length.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sft_diversity.core import parquet, schema, seeding
from sft_diversity.core.errors import DataError
from sft_diversity.core.numbers import Floats, draw, interval

Bools = npt.NDArray[np.bool_]

#: One record a row. `nll*` in nats, null where the record was skipped; `end_nll` is that of the
#: end-of-turn token, which no other figure counts; `prompt` is a hash, equal in all sets that share
#: the prompt.
RECORDS = pa.schema(
    {
        **dict.fromkeys(("set", "record", "kind", "reference", "domain", "prompt"), pa.string()),
        "status": pa.string(),
        "truncated": pa.bool_(),
        "prompt_tokens": pa.int32(),
        "reference_bytes": pa.int64(),
        "tokens": pa.int32(),
        "bytes": pa.int64(),
        "nll": pa.float64(),
        "tokens_first64": pa.int32(),
        "bytes_first64": pa.int64(),
        "nll_first64": pa.float64(),
        "end_nll": pa.float64(),
    }
)
SCORED = "scored"
LENGTH_EDGES = (0, 100, 400, 1600)  # bytes of the reference; the last bin is open
SMALL_DOMAIN = 50


class _Measure(NamedTuple):
    """A loss by size: Σ nll / (unit · Σ size), tokens or bytes weighing alike in every record."""

    value: str
    name: str
    size: str
    unit: float


_MEASURES = (
    _Measure("nll_per_token", "nll", "tokens", 1.0),
    _Measure("bits_per_byte", "bits", "bytes", math.log(2)),
)


class Figures:
    """Figures over the scored rows of a records table; skipped rows take no part."""

    def __init__(self, records: pa.Table, draws: int, seed: int) -> None:
        self.table = records.filter(pc.equal(records["status"], SCORED))
        rng = seeding.generator(seed, "score", "bootstrap")
        self.draws = draw(self.table["prompt"].to_pylist(), draws, rng)

    def column(self, name: str) -> Floats:
        """Return a numeric column as float64."""
        return np.asarray(self.table[name].to_numpy(), dtype=np.float64)

    def where(self, column: str, *values: str) -> Bools:
        """Return which rows hold one of `values`."""
        held: Bools = pc.is_in(self.table[column], pa.array(values, pa.string())).to_numpy()
        return held

    def rate(self, measure: _Measure, rows: Bools, part: str = "") -> tuple[float, Floats]:
        """Return a measure of `rows`, and the same of every bootstrap draw of their prompts."""
        nll = self.column(f"nll{part}")[rows]
        size = self.column(f"{measure.size}{part}")[rows]
        point = nll.sum() / (measure.unit * size.sum())
        return float(point), self.draws.of(rows).ratios(nll, size, measure.unit)

    def ratio(self, rows: Bools, part: str = "") -> dict[str, Any]:
        """Return the figures of `rows`: of whole references, or of `part` `_first64`.

        `nll_record_mean` weighs records alike, the others tokens or bytes.
        """
        nll, tokens, size = (
            self.column(f"{name}{part}")[rows] for name in ("nll", "tokens", "bytes")
        )
        found: dict[str, Any] = {
            "records": int(rows.sum()),
            "tokens": int(tokens.sum()),
            "bytes": int(size.sum()),
        }
        for measure in _MEASURES:
            found |= _stated(measure, *(self.rate(measure, rows, part) if rows.any() else ()))
        return found | {"nll_record_mean": float((nll / tokens).mean()) if rows.any() else None}

    def group_mean(self, groups: Mapping[str, Bools]) -> dict[str, Any]:
        """Return the plain mean over groups of their figures: every group weighs alike."""
        found: dict[str, Any] = {"groups": len(groups)}
        for measure in _MEASURES:
            rates = [self.rate(measure, rows) for rows in groups.values()]
            mean = [np.mean(part, axis=0) for part in zip(*rates, strict=True)]
            found |= _stated(measure, *mean)
        return found


def _stated(
    measure: _Measure, point: float | None = None, drawn: Floats | None = None
) -> dict[str, Any]:
    """Return a figure with the ends of its interval, all None where there is none."""
    low, high = (None, None) if drawn is None else interval(drawn)
    value = None if point is None else float(point)
    return {measure.value: value, f"{measure.name}_low": low, f"{measure.name}_high": high}


def summarise_records(records: pa.Table, draws: int, seed: int) -> dict[str, Any]:
    """Return all figures of the suite.

    Parameters
    ----------
    records : table of RECORDS
    draws : int
        Bootstrap draws over prompts; intervals are 95 % percentiles.

    Returns
    -------
    dict
        `headline` (`transfer_first64`, `short_references`), `transfer_by_length`, `domains`
        (`mean`, `each`, `pooled`), `in_mix`, `sets`, `skipped`.
    """
    figures = Figures(schema.check(records, RECORDS, "score"), draws, seed)
    transfer = figures.where("kind", "transfer")
    return {
        "headline": {
            "transfer_first64": figures.ratio(transfer, "_first64"),
            "short_references": figures.ratio(transfer & figures.where("reference", "short")),
        },
        "transfer_by_length": _by_length(figures, transfer),
        "domains": _domains(figures),
        "in_mix": figures.ratio(figures.where("kind", "in-mix")),
        "sets": _sets(figures, records),
        "skipped": _skipped(records),
    }


def _by_length(figures: Figures, rows: Bools) -> list[dict[str, Any]]:
    size = figures.column("reference_bytes")
    bins = []
    for low, high in zip(LENGTH_EDGES, (*LENGTH_EDGES[1:], None), strict=True):
        inside = rows & (size >= low) & (size < (np.inf if high is None else high))
        bins.append({"bytes_from": low, "bytes_below": high, **figures.ratio(inside)})
    return bins


def _domains(figures: Figures) -> dict[str, Any]:
    in_mix = figures.where("kind", "in-mix")
    counts = parquet.counts(figures.table.filter(pa.array(in_mix)), "domain")
    small = sorted(name for name, count in counts.items() if count < SMALL_DOMAIN)
    groups = {
        name: in_mix & figures.where("domain", name) for name in sorted(counts.keys() - set(small))
    }
    if small:
        groups["pooled"] = in_mix & figures.where("domain", *small)
    return {
        "mean": figures.group_mean(groups),
        "each": {name: figures.ratio(rows) for name, rows in groups.items()},
        "pooled": small,
    }


def _sets(figures: Figures, records: pa.Table) -> dict[str, Any]:
    found = {}
    truncated = figures.table["truncated"].to_numpy()
    end = figures.column("end_nll")
    for name in records["set"].unique().to_pylist():
        rows = figures.where("set", name)
        ended = rows & np.isfinite(end)
        found[name] = {
            "whole": figures.ratio(rows),
            "first64": figures.ratio(rows, "_first64"),
            "end_nll": float(end[ended].mean()) if ended.any() else None,
            "truncated": int((rows & truncated).sum()),
            "skipped": _skipped(records.filter(pc.equal(records["set"], name))),
        }
    return found


def _skipped(records: pa.Table) -> dict[str, int]:
    counts = parquet.counts(records, "status")
    return {status: count for status, count in sorted(counts.items()) if status != SCORED}


def compare(
    records_a: pa.Table, records_b: pa.Table, draws: int = 1000, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """Return how B differs from A, paired by record: below zero, B predicts better.

    Both results are cut to the records that both scored, and each prompt is drawn for both, so
    what the two models share cancels. NLL per token compares only where both cut text into the
    same tokens, and is None otherwise; bits per byte always compares.

    Returns
    -------
    dict
        For `transfer_first64`, `short_references` and `in_mix`: `records, nll_per_token, nll_low,
        nll_high, bits_per_byte, bits_low, bits_high`, all differences B − A with 95 % intervals.

    Raises
    ------
    DataError
        If no record is in both, or a shared record has another reference.
    """
    a, b = (Figures(table, draws, seed) for table in pair(records_a, records_b))
    transfer = a.where("kind", "transfer")
    return {
        "transfer_first64": _difference(a, b, transfer, "_first64"),
        "short_references": _difference(a, b, transfer & a.where("reference", "short"), ""),
        "in_mix": _difference(a, b, a.where("kind", "in-mix"), ""),
    }


def _difference(a: Figures, b: Figures, rows: Bools, part: str) -> dict[str, Any]:
    found: dict[str, Any] = {"records": int(rows.sum())}
    same_tokens = bool((a.column(f"tokens{part}") == b.column(f"tokens{part}"))[rows].all())
    for measure in _MEASURES:
        if not rows.any() or (measure.name == "nll" and not same_tokens):
            found |= _stated(measure)
            continue
        (one, one_drawn), (two, two_drawn) = (x.rate(measure, rows, part) for x in (a, b))
        found |= _stated(measure, two - one, two_drawn - one_drawn)
    return found


def pair(records_a: pa.Table, records_b: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Return both tables cut to the records that both scored, in the same order."""
    one, two = (t.filter(pc.equal(t["status"], SCORED)) for t in (records_a, records_b))
    key = ["set", "record"]
    a, b = (
        x.join(y.select(key), key, join_type="left semi").sort_by([(k, "ascending") for k in key])
        for x, y in ((one, two), (two, one))
    )
    if not len(a):
        raise DataError("score: the two results share no scored record; score the same sets")
    for column in ("prompt", "reference_bytes"):
        if not a[column].equals(b[column]):
            raise DataError(
                f"score: the two results differ in {column} of a shared record; score the same sets"
            )
    return a, b
