"""The suite `heldout`: which records make which figure, and the guards against misreading it.

Three traps are guarded against. On data with the corpus's own mix a random subset is near-optimal
by construction: so the headline is over *transfer* sets. A mean over sources lets three records
decide: so figures pool tokens, and domains of fewer than 50 records are pooled. Training on long
answers lowers the loss on long references without any diversity: so the headline reads only the
first 64 tokens, or only sets of short references, and the rest is shown by reference length.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa

from sft_diversity.core import schema
from sft_diversity.core.numbers import interval
from sft_diversity.scoring.figures import RECORDS, Bools, Figures, pair

LENGTH_EDGES = (0, 100, 400, 1600)  # bytes of the reference; the last bin is open
SMALL_DOMAIN = 50


def summarise(records: pa.Table, draws: int, seed: int) -> dict[str, Any]:
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
    for name, value, under in (
        ("nll", "nll_per_token", "tokens"),
        ("bits", "bits_per_byte", "bytes"),
    ):
        if not rows.any() or (name == "nll" and not same_tokens):
            found |= {value: None, f"{name}_low": None, f"{name}_high": None}
            continue
        unit = 1.0 if name == "nll" else float(np.log(2))
        point, drawn = [], []
        for figures in (a, b):
            nll, size = figures.column(f"nll{part}"), unit * figures.column(f"{under}{part}")
            point.append(float(nll[rows].sum() / size[rows].sum()))
            with np.errstate(invalid="ignore", divide="ignore"):
                drawn.append(figures.draws.sums(nll, rows) / figures.draws.sums(size, rows))
        found[value] = point[1] - point[0]
        found[f"{name}_low"], found[f"{name}_high"] = interval(drawn[1] - drawn[0])
    return found


def _by_length(figures: Figures, rows: Bools) -> list[dict[str, Any]]:
    size = figures.column("reference_bytes")
    bins = []
    for low, high in zip(LENGTH_EDGES, (*LENGTH_EDGES[1:], None), strict=True):
        inside = rows & (size >= low) & (size < (np.inf if high is None else high))
        bins.append({"bytes_from": low, "bytes_below": high, **figures.ratio(inside)})
    return bins


def _domains(figures: Figures) -> dict[str, Any]:
    in_mix = figures.where("kind", "in-mix")
    names = figures.table["domain"].to_pylist()
    counts = Counter(name for name, inside in zip(names, in_mix, strict=True) if inside)
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
    truncated = np.asarray(figures.table["truncated"].to_pylist(), dtype=np.bool_)
    end = figures.column("end_nll")
    for name in dict.fromkeys(records["set"].to_pylist()):
        rows = figures.where("set", name)
        ended = rows & np.isfinite(end)
        found[name] = {
            "whole": figures.ratio(rows),
            "first64": figures.ratio(rows, "_first64"),
            "end_nll": float(end[ended].mean()) if ended.any() else None,
            "truncated": int((rows & truncated).sum()),
            "skipped": _skipped(records.filter(pa.compute.equal(records["set"], name))),
        }
    return found


def _skipped(records: pa.Table) -> dict[str, int]:
    counts = Counter(records["status"].to_pylist())
    return {status: count for status, count in sorted(counts.items()) if status != "scored"}
