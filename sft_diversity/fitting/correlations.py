"""How the metrics of subsets go with their scores, within a strategy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sft_diversity.core.errors import DataError
from sft_diversity.core.numbers import Floats
from sft_diversity.fitting.config import FitConfig
from sft_diversity.fitting.lines import fisher, pearson, r_p_value
from sft_diversity.fitting.reading import NEEDED, Draw, Group, keys, need, numeric

if TYPE_CHECKING:
    import polars as pl

POOLED = "pooled"
_KEYS = {"regime", "train_seed", "draw", *NEEDED}
Key = tuple[Group, float | None, str]


@dataclass(frozen=True)
class Metrics:
    """Metrics of subsets by what names the draw, and the columns that are no numbers."""

    names: list[str]
    values: Mapping[Key, Mapping[str, float]]
    left_out: list[str]


def metrics_of(frame: pl.DataFrame) -> Metrics:
    """Return the metrics of a table: every column of numbers besides those that name the subset.

    Raises
    ------
    DataError
        If a column that names the subset is missing, no column is a metric, or two rows of the
        same subset differ.
    """
    need(frame, NEEDED, "the table of metrics")
    columns, left_out = {}, []
    for name in frame.columns:
        if name not in _KEYS:
            try:
                cells = enumerate(frame[name].to_list(), start=1)
                columns[name] = [numeric(cell, name, number) for number, cell in cells]
            except DataError:
                left_out.append(name)
    if not columns:
        raise DataError("fit: the table of metrics has no column of numbers besides its keys")
    found: dict[Key, dict[str, float]] = {}
    for row, key in enumerate(keys(frame)):
        own = {
            name: value
            for name, cells in columns.items()
            if (value := cells[row]) is not None and math.isfinite(value)
        }
        if found.setdefault(key, own) != own:
            raise DataError(
                f"fit: the table of metrics has two rows of {key[0].strategy}, "
                f"diversity {key[1]}, seed {key[2]} that differ; keep one (row {row + 1:,})"
            )
    return Metrics(list(columns), found, left_out)


def correlate(
    draws: Sequence[Draw], metrics: Metrics, config: FitConfig
) -> tuple[list[dict[str, Any]], int]:
    """Return Pearson's r of every metric with the score, and how many draws have no metrics.

    Within a strategy r is over level means, as draws of one level are no independent evidence
    for what follows the dial. `pooled` takes the strategies of a regime and size together, each
    about its own mean: strategy as a fixed effect. `p_adjusted` is left to the caller.
    """
    groups: dict[Group, list[Draw]] = {}
    unknown = 0
    for draw in draws:
        if draw.diversity is None:
            continue
        if _values(draw, metrics) is None:
            unknown += 1
        else:
            groups.setdefault(draw.group, []).append(draw)
    found = []
    for name in metrics.names:
        points = {group: _points(own, name, metrics) for group, own in sorted(groups.items())}
        for group, (x, y) in points.items():
            found.append(_row(group, group.strategy, name, [(x, y)], config))
        places = sorted({group.place for group in points})
        for place in places:
            parts = [xy for group, xy in points.items() if group.place == place]
            if len(parts) > 1:
                found.append(_row(Group(*place, POOLED), POOLED, name, parts, config))
    return found, unknown


def _values(draw: Draw, metrics: Metrics) -> Mapping[str, float] | None:
    """Return the metrics of a draw; a table without regimes holds for all of them."""
    own = metrics.values.get(draw.key)
    if own is None and draw.group.regime:
        anywhere = Group("", draw.group.size, draw.group.strategy)
        own = metrics.values.get((anywhere, draw.diversity, draw.seed))
    return own


def _points(draws: Sequence[Draw], name: str, metrics: Metrics) -> tuple[Floats, Floats]:
    """Return metric and score by level, each the mean over the draws that have both."""
    at: dict[float, list[tuple[float, float]]] = {}
    for draw in draws:
        values = _values(draw, metrics) or {}
        if draw.diversity is not None and name in values:
            at.setdefault(draw.diversity, []).append((values[name], draw.mean))
    means = [np.array(pairs).mean(axis=0) for _, pairs in sorted(at.items())]
    table = np.array(means).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def _row(
    group: Group,
    strategy: str,
    metric: str,
    parts: Sequence[tuple[Floats, Floats]],
    config: FitConfig,
) -> dict[str, Any]:
    used = [(x, y) for x, y in parts if len(x) > 1]
    n = sum(len(x) for x, _ in used)
    df = n - len(used) - 1
    r = None
    if df >= 1:
        x = np.concatenate([x - x.mean() for x, _ in used])
        y = np.concatenate([y - y.mean() for _, y in used])
        flat = all(np.ptp(x) <= 1e-12 * np.abs(x).max() for x, _ in used)
        r = None if flat else pearson(x, y)
    low, high = fisher(r, df, config.confidence)
    return {
        "regime": group.regime or None,
        "size": group.size,
        "strategy": strategy,
        "metric": metric,
        "n": n,
        "r": r,
        "low": low,
        "high": high,
        "df": df,
        "p": r_p_value(r, df),
    }
