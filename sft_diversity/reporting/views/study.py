"""What the plots and tables of a study are given."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from sft_diversity.core.measures import metric_title
from sft_diversity.reporting.charts import plot, small
from sft_diversity.reporting.charts.plot import Axes, Series
from sft_diversity.reporting.gather import study

Row = Mapping[str, Any]
CURVES = {
    "loss": "training loss", "lr": "learning rate", "grad_ratio": "‖g‖₁ / (√d ‖g‖₂)",
    "kkt_gap": "KKT gap (LION)", "box_share": "share of weights in the box (LION)",
    "grad_norm": "gradient norm",
}  # fmt: skip


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
    return sorted(rows.values(), key=lambda row: (row["size"], _as_published(row["strategy"])))


def failed(page: Row) -> str:
    """Return how many runs failed."""
    n = len(page["failures"])
    return "1 run failed" if n == 1 else f"{n:,} runs failed"


def published_sizes(page: Row) -> list[str]:
    """Return the sizes of the published slopes, ascending."""
    sizes = {size for fit in page["fit"].get("slopes", []) for size in fit.get("published") or {}}
    return sorted(sizes, key=int)


def _as_published(strategy: str) -> tuple[int, str]:
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


def verdict(page: Row) -> tuple[list[str], list[str]]:
    """Return what pays, one sentence a size of the verdict's regime, and all other sentences."""
    said = list(page["fit"].get("verdict", []))
    answers = page["fit"].get("headlines") or said[:1]  # a fit made before there were headlines
    own = [s for s in answers if page["regime"] and s.startswith(f"Regime {page['regime']}")]
    lead = own or answers
    return lead, [s for s in said if s not in lead]


def panels(page: Row, regime: str | None, common: bool) -> list[dict[str, Any]]:
    """Return the score plots of a regime, one a strategy and size, with the rows behind each."""
    told = []
    runs = [r for r in page["runs"] if r.get("score") is not None]
    here = [r for r in runs if r["regime"] == regime and r["diversity"] is not None]
    fits = {
        (f["strategy"], f["size"]): f
        for f in page["fit"].get("slopes", [])
        if f.get("regime") == regime
    }
    groups = sorted(
        {(r["size"], r["strategy"]) for r in here}, key=lambda g: (g[0], _as_published(g[1]))
    )
    for size, strategy in groups:
        own = [r for r in here if (r["size"], r["strategy"]) == (size, strategy)]
        fit = fits.get((strategy, size), {})
        beside = _random(runs, regime, size)
        scores = [r["score"] for r in (here if common else own) if r["size"] == size] + beside
        axes = Axes(
            "diversity, %", "score", x_range=(-4.0, 104.0), y_range=plot.extent(scores),
            levels=[("random, mean of draws", sum(beside) / len(beside), "ref")] if beside else (),
        )  # fmt: skip
        name = f"{strategy}, N = {size:,}"
        svg = plot.plot(f"Score against diversity, {name}", _series(own, fit, beside), axes)
        told.append({"title": name, "svg": svg, "rows": own, "fit": fit})
    return told


def _random(runs: Sequence[Row], regime: str | None, size: int) -> list[float]:
    own = (r for r in runs if r["strategy"] == "random" and r["size"] == size)
    return [r["score"] for r in own if r["regime"] in (regime, None)]


def _series(own: Sequence[Row], fit: Row, beside: Sequence[float]) -> list[Series]:
    levels: dict[float, list[float]] = {}
    for row in own:
        levels.setdefault(row["diversity"], []).append(row["score"])
    means = [(at, sum(scores) / len(scores)) for at, scores in sorted(levels.items())]
    band = (fit.get("bayes") or {}).get("band", [])
    told = []
    if len(beside) > 1:
        low, high = min(beside), max(beside)
        told.append(Series("random", "ref", band=[(0, low, high), (100, low, high)]))
    told.append(
        Series("fit", "s0", line=[(x, y) for x, y, *_ in band],
               band=[(x, low, high) for x, _, low, high in band])
    )  # fmt: skip
    told.append(Series("mean of draws", "s0 thin", line=means))
    told.append(Series("draw", "s0 hollow", dots=[(r["diversity"], r["score"]) for r in own]))
    return told


def correlations(page: Row) -> list[dict[str, Any]]:
    """Return heat maps of metric × strategy, one a regime and size, those of the verdict first."""
    found: dict[tuple[Any, int], list[Row]] = {}
    for row in page["fit"].get("metrics", []):
        found.setdefault((row.get("regime"), row["size"]), []).append(row)
    told = []
    for (regime, size), rows in sorted(
        found.items(), key=lambda one: (one[0][0] != page["regime"], str(one[0][0]), one[0][1])
    ):
        strategies = sorted({r["strategy"] for r in rows}, key=_as_published)
        names = list(dict.fromkeys(r["metric"] for r in rows))
        by = {(r["metric"], r["strategy"]): r for r in rows}
        head = f"Regime {regime}, N = {size:,}" if regime else f"N = {size:,}"
        told.append({
            "title": head, "strategies": strategies,
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


def curves(group: Row) -> list[dict[str, Any]]:
    """Return the training plots of a strategy: each figure that its logs hold."""
    told = []
    for name, title in CURVES.items():
        series = [s for s in group["series"] if name in s]
        if not series:
            continue
        lines = [
            Series(dial(s), f"d{shade(s)}",
                   line=[(x, y) for x, y in zip(s["steps"], s[name], strict=True)
                         if y is not None])
            for s in series
        ]  # fmt: skip
        svg = plot.plot(f"{title}, {group['title']}", lines, Axes("step", title))
        ends = [(dial(s), _first(s[name]), _last(s[name])) for s in series]
        told.append({"title": title, "svg": svg, "ends": ends})
    return told


def dial(series: Row) -> str:
    """Return the name of a training curve."""
    at = series["diversity"]
    return "all draws" if at is None else f"{at:g} %"


def shade(series: Row) -> int:
    """Return the colour of a training curve, 0 to 4 from low to high diversity."""
    at = series["diversity"]
    return 4 if at is None else round(4 * at / 100)


def _first(values: Sequence[float | None]) -> float | None:
    return next((v for v in values if v is not None), None)


def _last(values: Sequence[float | None]) -> float | None:
    return next((v for v in reversed(values) if v is not None), None)


def curve_legend(group: Row) -> list[tuple[str, str]]:
    """Return the legend of the training plots of a strategy."""
    return [(dial(s), f"d{shade(s)}") for s in group["series"]]


def level(value: float) -> str:
    """Return a level as `best_level_share` names it."""
    return f"{value:g}"


def shade_of(z: float | None) -> str:
    """Return the colour class of a distance in standard deviations; 2 is full."""
    return small.step(z, 2.0)


def budget(page: Row) -> list[str]:
    """Return the columns of the budget that some cell has."""
    return [name for name in study.BUDGET if any(name in cell for cell in page["cells"])]
