"""The plain facts of a study: scores, fits, what the dial changed, training, lineage."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sft_diversity.core import folder
from sft_diversity.core.cells import BASE, BASELINES, KEYS, Cell, Run
from sft_diversity.core.errors import DataError
from sft_diversity.reporting import portrait, reading, samples
from sft_diversity.reporting.config import ReportConfig
from sft_diversity.reporting.reading import Row, SourceCorpus, Subset, open_kinds, open_subset

#: Columns of results.csv that say what a run read, as they are shown.
BUDGET = (
    "epochs", "steps", "response_tokens", "truncated_share", "instruction_tokens_mean",
    "response_tokens_mean", "kinds", "evenness", "entropy_bits",
)  # fmt: skip
#: Columns of results.csv that say what a model answers and how likely it finds references.
KINDS_OF_SCORE = {
    "instruction_strict": "instructions kept, %", "prompt_strict": "prompts kept, %",
    "exact": "right numbers, %", "ended": "ended by itself, %", "looping": "looping, %",
    "tokens_mean": "tokens an answer", "transfer_first64": "NLL, first 64", "short_references":
    "NLL, short references", "in_mix": "NLL, in mix",
}  # fmt: skip


def is_study(place: Path) -> bool:
    """Whether a folder is a study: its results are there, whether or not it has finished."""
    return (place / "results.csv").is_file()


def study_results(place: Path) -> list[Row]:
    """Return the rows of results.csv; what names a run is there in each, None where it is not.

    Raises
    ------
    DataError
        If a row has no strategy: it is another sort of table.
    """
    names = ("regime", "size", "diversity", "seed", "train_seed", "score")
    rows = [dict.fromkeys(names) | row for row in reading.csv_rows(place / "results.csv")]
    if any(not row.get("strategy") for row in rows):
        raise DataError("report: results.csv has rows without a strategy; is it of `sftdiv study`?")
    return [row | {"strategy": str(row["strategy"])} for row in rows]


def main_regime(rows: Sequence[Row]) -> str | None:
    """Return the regime that verdicts rest on: B, which holds length, if there is one."""
    there = sorted({row["regime"] for row in rows if row.get("regime")})
    return "B" if "B" in there else (there[0] if there else None)


def firsts(rows: Sequence[Row], regime: str | None) -> list[Row]:
    """Return one row a cell apart from its seeds: the lowest draw, then the lowest training seed.

    Only cells of `regime` that have a subset; base has none.
    """
    found: dict[tuple[Any, ...], Row] = {}
    order = sorted(rows, key=lambda r: (r.get("seed") or 0, r.get("train_seed") or 0))
    for row in order:
        if row.get("regime") in (regime, None) and row["strategy"] != BASE:
            found.setdefault((row["strategy"], row["size"], row.get("diversity")), row)
    return sorted(found.values(), key=_order)


def _order(row: Row) -> tuple[Any, ...]:
    place = BASELINES.index(row["strategy"]) + 1 if row["strategy"] in BASELINES else 0
    dial = row.get("diversity")
    return place, str(row["strategy"]), row.get("size") or 0, -1.0 if dial is None else dial


def cell_figures(rows: Sequence[Row]) -> list[Row]:
    """Return one row a cell: its runs, mean score and spread over draws, means of the budget."""
    import polars as pl

    if not rows:
        return []
    frame, score = pl.DataFrame(rows, infer_schema_length=None), pl.col("score")
    means = [
        n for n in (*BUDGET, *KINDS_OF_SCORE) if n in frame.columns and frame[n].dtype.is_numeric()
    ]
    draw = pl.coalesce([name for name in ("draw", "seed") if name in frame.columns])
    cell = ["regime", "strategy", "size", "diversity"]
    runs, of_each = pl.col("runs").sum(), (score.mean(), pl.col(means).mean())
    trained = frame.with_columns(draw.alias("draw"), pl.lit(1).alias("runs"))
    for by in ([*cell, "draw", "train_seed"], [*cell, "draw"]):  # as `fit` counts them
        trained = trained.group_by(by).agg(runs, *of_each)
    cells = trained.group_by(*cell).agg(runs, score.std().alias("sd"), *of_each)
    return sorted(cells.to_dicts(), key=lambda row: (row["regime"] or "", *_order(row)))


def metric_values(rows: Sequence[Row], regime: str | None) -> dict[str, Any] | None:
    """Return the mean of every metric by strategy, size and diversity, of one regime."""
    import polars as pl

    own = [row for row in rows if row.get("regime") in (regime, None)]
    frame = pl.DataFrame(own, infer_schema_length=None)
    names = [c.name for c in frame if c.name not in KEYS and c.dtype.is_numeric() and c.count()]
    if not names:
        return None
    cells = frame.group_by("strategy", "size", "diversity").agg(pl.col(names).mean())
    ordered = sorted(cells.to_dicts(), key=_order)
    values = [{"values": [row.pop(name) for name in names]} for row in ordered]
    return {"metrics": names, "cells": [a | b for a, b in zip(ordered, values, strict=True)]}


def subsets_of(place: Path, rows: Sequence[Row]) -> dict[str, Subset]:
    """Return the subsets of rows that are there and finished, by the name a reader knows."""
    found = {}
    for row in rows:
        at = place / "subsets" / Cell.of(row).name
        if folder.stage_of(at) == "select":
            found[cell_label(row)] = open_subset(at)
    return found


def cell_label(row: Row) -> str:
    """Return a cell to read: `micro-response 67 %, N = 10,000`."""
    dial = "" if row.get("diversity") is None else f" {row['diversity']:g} %"
    return f"{row['strategy']}{dial}, N = {row['size']:,}"


def dial_changes(
    rows: Sequence[Row], opened: dict[str, Subset], pool: SourceCorpus, config: ReportConfig
) -> list[dict[str, Any]]:
    """Return, by strategy and size, what the highest diversity gains and loses over the lowest."""
    groups: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        if row.get("diversity") is not None and cell_label(row) in opened:
            groups.setdefault((row["strategy"], row["size"]), []).append(row)
    told = []
    for (strategy, size), own in groups.items():
        ends = [min(own, key=lambda r: r["diversity"]), max(own, key=lambda r: r["diversity"])]
        if ends[0]["diversity"] == ends[1]["diversity"]:
            continue
        low, high = (opened[cell_label(row)] for row in ends)
        one: dict[str, Any] = {
            "title": f"{strategy}, N = {size:,}",
            "ends": [f"{row['diversity']:g} %" for row in ends],
            "sources": source_shift(*(portrait.source_facts(one, pool) for one in (low, high))),
            "overlap": samples.overlap(low, high),
        }
        index = pool.found.indexes.get(strategy)
        if index is not None:
            one["kinds"] = samples.kinds_of_two(open_kinds(strategy, index), low, high, pool)
        one["samples"] = _to_read(low, high, ends, config)
        told.append(one)
    return told


def source_shift(low: list[Row], high: list[Row]) -> list[Row]:
    shares = {row["source"]: row for row in low}
    rows = [
        {"source": row["source"], "first": shares.get(row["source"], {}).get("share", 0.0),
         "second": row["share"], "corpus": row["corpus_share"]}
        for row in high
    ]  # fmt: skip
    named = {row["source"] for row in high}
    rows += [
        {"source": r["source"], "first": r["share"], "second": 0.0, "corpus": r["corpus_share"]}
        for r in low
        if r["source"] not in named
    ]
    return sorted(rows, key=lambda r: (-abs(r["second"] - r["first"]), str(r["source"])))


def _to_read(
    low: Subset, high: Subset, ends: Sequence[Row], config: ReportConfig
) -> list[dict[str, Any]]:
    told = samples.pair_groups(low, high, config)
    names = [f"{row['diversity']:g} %" for row in ends]
    titles = {f"Only in {low.name}": f"Only at {names[0]}",
              f"Only in {high.name}": f"Only at {names[1]}",
              "In both": f"At {names[0]} and at {names[1]}"}  # fmt: skip
    return [group | {"title": titles[group["title"]]} for group in told]


def training_curves(place: Path, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return training curves by strategy and size; a series a level of diversity."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        run = Run(Cell.of(row), row.get("train_seed") or 0)
        log = reading.binned_log(place / "models" / run.name / "training.jsonl")
        if log is not None:
            group = f"{row['strategy']}, N = {row['size']:,}"
            groups.setdefault(group, []).append({"diversity": row.get("diversity"), **log})
    return [{"title": title, "series": series} for title, series in groups.items()]


def answering(rows: Sequence[Row], shown: Sequence[Row]) -> tuple[list[Row], list[str]]:
    """Return the rows whose answers stand side by side, and their names: base, ends of the dials,
    and baselines, each the first draw and training.
    """
    base = [row for row in rows if row["strategy"] == BASE][:1]
    dials: dict[tuple[str, int], list[Row]] = {}
    for row in shown:  # by rising diversity
        dials.setdefault((row["strategy"], row["size"]), []).append(row)
    ends = [row for own in dials.values() for row in (own[:1] + own[1:][-1:])]
    return base + ends, [BASE] * len(base) + [cell_label(row) for row in ends]


def gather_samples(
    rows: Sequence[Row], opened: dict[str, Subset], pool: SourceCorpus, config: ReportConfig
) -> list[dict[str, Any]]:
    """Return samples to read: of each strategy at its highest diversity, and of random."""
    last: dict[tuple[str, int], Row] = {}
    for row in rows:  # by rising diversity
        if cell_label(row) in opened:
            last[row["strategy"], row["size"]] = row
    told = []
    for row in last.values():
        index = pool.found.indexes.get(row["strategy"])
        kinds = None if index is None else open_kinds(row["strategy"], index)
        groups = samples.sample_groups(opened[cell_label(row)], pool, kinds, config)
        if groups:
            told.append({"title": cell_label(row), "groups": groups})
    return told
