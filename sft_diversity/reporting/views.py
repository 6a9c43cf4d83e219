"""From a page's data to what its tables and sentences are given; no reading, no plots.

Templates call what is named here as `view.NAME`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from sft_diversity.core.corpus import COMPONENTS, Component
from sft_diversity.core.measures import MetricRow, metric_rows, metric_title
from sft_diversity.core.progress import clock
from sft_diversity.reporting.study import BUDGET, KINDS_OF_SCORE

Row = Mapping[str, Any]


# ---- a study


def regimes(page: Row) -> list[str | None]:
    """Return the regimes of a study, that of the verdict first."""
    there = {row["regime"] for row in page["runs"]} - {None}
    return sorted(there, key=lambda r: (r != page["regime"], r)) or [None]


def slopes(page: Row) -> list[dict[str, Any]]:
    """Return one row a strategy and size, with the fit of each regime; strategies as published."""
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    for fit in page["fit"].get("slopes", []):
        key = (fit["strategy"], fit["size"])
        published = fit.get("published") or {}
        row = rows.setdefault(
            key, {"strategy": key[0], "size": key[1], "published": published, "by": {}}
        )
        row["by"][fit.get("regime")] = fit
    return sorted(rows.values(), key=lambda row: (row["size"], as_published(row["strategy"])))


def published_sizes(page: Row) -> list[str]:
    """Return the sizes of the published slopes, ascending."""
    sizes = {size for fit in page["fit"].get("slopes", []) for size in fit.get("published") or {}}
    return sorted(sizes, key=int)


def as_published(strategy: str) -> tuple[int, str]:
    order = [f"{a}-{b}" for b in ("instruction", "response") for a in ("macro", "meso", "micro")]
    return (order.index(strategy) if strategy in order else len(order)), strategy


def reach(page: Row) -> dict[Any, float]:
    """Return, by regime, how far the line of a slope table goes to either side.

    The widest interval counts up to three times the median one: with few levels one can be huge.
    """
    found = {}
    for regime in regimes(page):
        ends = sorted(
            max(abs(fit[end]) for end in ("slope", "ci_low", "ci_high") if fit.get(end) is not None)
            for fit in page["fit"].get("slopes", [])
            if fit.get("regime") == regime and fit.get("slope") is not None
        )
        found[regime] = min(ends[-1], 3 * ends[len(ends) // 2]) if ends else 1.0
    return found


def verdict_parts(page: Row) -> tuple[list[str], list[str]]:
    """Return what pays, a sentence a size of the verdict's regime, on what that rests; the rest."""
    said = list(page["fit"].get("verdict", []))
    answers = page["fit"].get("headlines") or said[:1]  # a fit made before there were headlines
    own = [s for s in answers if page["regime"] and s.startswith(f"Regime {page['regime']}")]
    rests_on = page["fit"].get("rests_on")
    lead = [*(own or answers), *([rests_on["sentence"]] if rests_on else [])]
    return lead, [s for s in said if s not in lead]


def correlations(page: Row) -> list[dict[str, Any]]:
    """Return heat maps of metric × strategy, one a regime and size, those of the verdict first."""
    found: dict[tuple[Any, int], list[Row]] = {}
    for row in page["fit"].get("metrics", []):
        found.setdefault((row.get("regime"), row["size"]), []).append(row)
    told = []
    for (regime, size), rows in sorted(
        found.items(), key=lambda one: (one[0][0] != page["regime"], str(one[0][0]), one[0][1])
    ):
        strategies = sorted({r["strategy"] for r in rows}, key=as_published)
        names = list(dict.fromkeys(r["metric"] for r in rows))
        by = {(r["metric"], r["strategy"]): r for r in rows}
        head = f"Regime {regime}, N = {size:,}" if regime else f"N = {size:,}"
        told.append({
            "title": head, "regime": regime, "size": size, "strategies": strategies,
            "rows": [(metric_title(n), [by.get((n, s)) for s in strategies]) for n in names],
        })  # fmt: skip
    return told


def metric_table(page: Row) -> dict[str, Any] | None:
    """Return metric values by cell, with how far each is from the mean over cells, in its sd."""
    given = page["metric_values"]
    if not given:
        return None
    columns = list(zip(*(cell["values"] for cell in given["cells"]), strict=True))
    rows = []
    for name, values in zip(given["metrics"], columns, strict=True):
        there = [v for v in values if v is not None]
        mean = sum(there) / len(there) if there else 0.0
        sd = math.sqrt(sum((v - mean) ** 2 for v in there) / max(1, len(there) - 1))
        z = [None if v is None else (0.0 if sd == 0 else (v - mean) / sd) for v in values]
        rows.append((metric_title(name), list(zip(values, z, strict=True))))
    return {"cells": given["cells"], "rows": rows}


def baselines(page: Row) -> list[Row]:
    """Return the comparisons with baselines of the verdict's regime."""
    rows = page["fit"].get("baselines", [])
    return [r for r in rows if r.get("regime") in (page["regime"], None)]


def step(value: float | None, reach: float = 1.0, steps: int = 6) -> str:
    """Return the colour class of a heat map's cell: `h-6` ... `h6`, `none` without a value."""
    if value is None:
        return "none"
    share = max(-1.0, min(1.0, value / (reach or 1.0)))
    return f"h{round(share * steps)}"


def on_line(value: float, low: float | None, high: float | None, reach: float) -> dict[str, Any]:
    """Return where a value and its interval are on a line of 120 from −reach to reach.

    `beyond` has the ends that lie outside: where an arrow stands, and which way it points.
    """

    def at(x: float) -> float:
        return round(min(max(60 + x * 54 / (reach or 1.0), 2.0), 118.0), 1)

    if low is None or high is None:
        return {"value": at(value), "beyond": []}
    ends = [(at(end) + way, way) for end, way in ((low, 4), (high, -4)) if abs(end) > reach]
    return {"value": at(value), "low": at(low), "high": at(high), "beyond": ends}


def kinds_of_score(page: Row) -> dict[str, str]:
    """Return the kinds of score that some cell has, with their heads; {} without generated ones."""
    there = {n: head for n, head in KINDS_OF_SCORE.items() if any(n in c for c in page["cells"])}
    return there if any(name in there for name in ("instruction_strict", "exact")) else {}


def hours(seconds: float) -> str:
    """Return seconds as people say them."""
    return clock(seconds)


def budget(page: Row) -> dict[str, str]:
    """Return the columns of the budget that some cell has, with their heads."""
    there = [name for name in BUDGET if any(name in cell for cell in page["cells"])]
    return {name: name.replace("_", " ").replace("mean", "").strip() for name in there}


# ---- a data set, or two


def length_rows(facts: Row) -> list[tuple[str, float, float | None]]:
    """Return the bins of a length distribution: from–to, subset, corpus."""
    edges, whole = facts["edges"], facts.get("corpus")
    return [
        (f"{low:,}–{high - 1:,}", share, None if whole is None else whole[i])
        for i, (low, high, share) in enumerate(zip(edges, edges[1:], facts["subset"], strict=False))
        if share or (whole and whole[i])
    ]


def measures(page: Row) -> list[tuple[Component, list[MetricRow]]]:
    """Return the measures by component."""
    return [(part, metric_rows(page["measures"]["datasets"], part)) for part in COMPONENTS]


def map_data(given: Row) -> dict[str, Any]:
    """Return what the script of the map reads: points of each subset."""
    return {
        "subsets": [
            {"name": s["name"], "points": s["points"], "drawn": s["drawn"], "samples": s["samples"]}
            for s in given["subsets"]
        ]
    }


def longest(rows: Sequence[Row], names: Sequence[str]) -> float:
    """Return the greatest share, for bars."""
    return max((row[name] or 0.0 for row in rows for name in names), default=1.0) or 1.0


def differing(figures: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """Return the figures in which two data sets differ, and the others."""
    told: tuple[list[Row], list[Row]] = [], []
    for row in figures:
        told[row["first"] == row["second"]].append(row)
    return told


def present(sources: Sequence[Row]) -> int:
    """Return how many sources a subset has samples of."""
    return sum(row["picked"] > 0 for row in sources)


def summary(page: Row) -> str:
    """Return what a data set is, in a sentence or two."""
    result, config = page["result"], page["config"]
    if page["kind"] == "corpus":
        return f"A corpus of {page['rows']:,} samples from {present(page['sources'])} sources."
    of = f" of {page['pool']:,}" if page["pool"] else ""
    dialled = "kinds_target" in result or "target_bits" in result
    dial_text = f" at {config['diversity']:g} % diversity" if dialled else ""
    said = [f"{page['rows']:,} samples{of}, chosen by {config['strategy']}{dial_text}."]
    if result.get("random_percent") is not None:
        said.append(
            f"As many random samples stand at {result['random_percent']:.0f} % of that dial."
        )
    moved = [row for row in page["sources"] if row["corpus_share"] is not None]
    if moved:
        far = max(moved, key=lambda row: abs(row["share"] - row["corpus_share"]))
        said.append(
            f"Its mix of sources differs most in {far['source']}: {100 * far['share']:.1f} % "
            f"instead of {100 * far['corpus_share']:.1f} %."
        )
    facts = page["lengths"]["response"]
    if facts.get("corpus_mean"):
        ratio = facts["mean"] / facts["corpus_mean"]
        how = "as long as" if 0.95 <= ratio <= 1.05 else f"{ratio:.2g} times as long as"
        said.append(f"Its responses are on average {how} the corpus's.")
    return " ".join(said)


def difference(page: Row) -> str:
    """Return how two subsets differ, in a sentence or two."""
    one, other = page["names"]
    both, least = page["overlap"]["both"], max(1, min(page["rows"]))
    said = [f"{one} and {other} share {both:,} samples, {100 * both / least:.1f} % of the smaller"]
    if page["by_chance"] is not None:
        said[0] += f"; two random draws of these sizes would share {page['by_chance']:,.0f}"
    said[0] += "."
    first, second = (side["mean"] for side in page["lengths"]["response"])
    unit = page["lengths"]["response"][0]["unit"]
    said.append(f"Responses are {first:,.0f} and {second:,.0f} {unit} long on average.")
    if page["sources"]:
        far = page["sources"][0]
        said.append(
            f"The source that differs most is {far['source']}, {100 * far['first']:.1f} % "
            f"against {100 * far['second']:.1f} %."
        )
    return " ".join(said)
