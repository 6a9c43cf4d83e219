"""Scores measured and predicted over the size, a panel a group, as a PNG."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_diversity.fitting.advice_words import place_of_group, series_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PANELS, _SERIES = 12, 10  # drawn at most; the rest is in the tables
_LIGHT = 0.45


def draw_advice(result: Mapping[str, Any], path: Path) -> None:
    """Draw what was measured (dots), and what is expected (dashes, bars of 80 % intervals)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    places = list(dict.fromkeys(map(place_of_group, result["advice"])))[:_PANELS]
    columns = min(len(places), 4)
    lines = math.ceil(len(places) / columns)
    figure = Figure(figsize=(1.2 + 3.6 * columns, 3.4 * lines), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    for number, place in enumerate(places, start=1):
        axes = figure.add_subplot(lines, columns, number)
        own = {
            what: [row for row in result[what] if place_of_group(row) == place]
            for what in ("measured", "predictions")
        }
        _panel(axes, own)
        axes.set_title(place, fontsize=9, parse_math=False)
        axes.set_xlabel("samples", fontsize=8)
        axes.set_ylabel(
            result["score"] if number % columns == 1 or columns == 1 else "", fontsize=8
        )
    figure.savefig(path, format="png", metadata={"Software": None})


def _panel(axes: Axes, own: Mapping[str, Any]) -> None:
    names = list(dict.fromkeys(map(series_name, own["measured"])))
    for number, name in enumerate(names[:_SERIES]):
        seen = sorted((r["size"], r["mean"]) for r in own["measured"] if series_name(r) == name)
        ahead = [
            row
            for row in own["predictions"]
            if series_name(row) == name and row["size"] > seen[-1][0]
        ]
        colour = "black" if name.lower() == "random" else f"C{number}"
        axes.plot(*zip(*seen, strict=True), "o-", color=colour, markersize=3, label=name)
        if ahead:
            path = [seen[-1], *((row["size"], row["mean"]) for row in ahead)]
            axes.plot(*zip(*path, strict=True), "--", color=colour, alpha=_LIGHT)
            # side by side, so that bars of one size do not hide each other
            at = [row["size"] * 1.03 ** (number - len(names) / 2) for row in ahead]
            ends = [
                [row["mean"] - row["low_80"] for row in ahead],
                [row["high_80"] - row["mean"] for row in ahead],
            ]
            means = [row["mean"] for row in ahead]
            axes.errorbar(at, means, yerr=ends, fmt="none", color=colour, alpha=_LIGHT)
    axes.set_xscale("log")
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.legend(fontsize=6, frameon=False)
