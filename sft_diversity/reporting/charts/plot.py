"""A plot with two axes: lines, bands, points and level lines, as one SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape

from sft_diversity.reporting.charts.numbers import number, tick, ticks

WIDTH, HEIGHT = 360, 240
LEFT, RIGHT, TOP, BOTTOM = 64, 12, 12, 38
Pairs = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Series:
    """What is drawn in one colour.

    Attributes
    ----------
    name : str
        Told with each point.
    style : str
        Class of the style sheet, `s0` ... `s7`, with `dash` and `hollow` as wanted.
    line : sequence of (x, y)
    dots : sequence of (x, y)
    band : sequence of (x, low, high)
    """

    name: str
    style: str
    line: Pairs = ()
    dots: Pairs = ()
    band: Sequence[tuple[float, float, float]] = ()


@dataclass(frozen=True)
class Axes:
    """What the axes say; `log` is base 2, of x."""

    x: str
    y: str
    log: bool = False
    x_range: tuple[float, float] | None = None
    y_range: tuple[float, float] | None = None
    levels: Sequence[tuple[str, float, str]] = field(default=())  # name, y, style
    zero: bool = False


def plot(title: str, series: Sequence[Series], axes: Axes) -> Markup:
    """Return an SVG that says `title` to those who hear it; dots tell their values when pointed at.

    A table with the same numbers belongs beside it.
    """
    xs, ys = _extent(series, axes)
    sx, sy = _scale(xs, (LEFT, WIDTH - RIGHT), axes.log), _scale(ys, (HEIGHT - BOTTOM, TOP))
    parts = [_grid(xs, ys, sx, sy, axes)]
    for name, y, style in axes.levels:
        if ys[0] <= y <= ys[1]:
            parts.append(Markup(
                '<path class="level {}" d="M{} {:.1f}H{}"><title>{} {}</title></path>'
            ).format(style, LEFT, sy(y), WIDTH - RIGHT, name, number(y, 5)))  # fmt: skip
    for one in series:
        if one.band:
            edge = [(x, high) for x, _, high in one.band]
            edge += [(x, low) for x, low, _ in reversed(one.band)]
            parts.append(_path(edge, sx, sy, f"band {one.style}", "Z"))
    for one in series:
        if len(one.line) > 1:
            parts.append(_path(one.line, sx, sy, f"line {one.style}"))
        for x, y in one.dots:
            parts.append(Markup(
                '<circle class="dot {}" cx="{:.1f}" cy="{:.1f}" r="3.2"><title>{}: {}, {}</title>'
                "</circle>"
            ).format(one.style, sx(x), sy(y), one.name, number(x), number(y, 5)))  # fmt: skip
    return Markup(
        '<svg class="plot" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>'
    ).format(WIDTH, HEIGHT, title, Markup("").join(parts))


def legend(entries: Sequence[tuple[str, str]]) -> Markup:
    """Return a legend of (name, style)."""
    keys = Markup("").join(
        Markup(
            '<li><svg viewBox="0 0 24 10" class="key" aria-hidden="true">'
            '<path class="line {0}" d="M1 5H23"/>'
            '<circle class="dot {0}" cx="12" cy="5" r="3.2"/></svg>{1}</li>'
        ).format(style, name)
        for name, style in entries
    )
    return Markup('<ul class="legend">{}</ul>').format(keys)


def extent(values: Sequence[float], pad: float = 0.06) -> tuple[float, float]:
    """Return the range of values, a little wider."""
    there = [v for v in values if math.isfinite(v)]
    if not there:
        return 0.0, 1.0
    low, high = min(there), max(there)
    space = (high - low) * pad or max(abs(high), 1.0) * 0.05
    return low - space, high + space


def _extent(
    series: Sequence[Series], axes: Axes
) -> tuple[tuple[float, float], tuple[float, float]]:
    xs = [x for one in series for x, *_ in (*one.line, *one.dots, *one.band)]
    ys = [y for one in series for _, *rest in (*one.line, *one.dots, *one.band) for y in rest]
    x_range = axes.x_range or (extent(xs, 0.0 if axes.log else 0.04))
    y_range = axes.y_range or extent(ys)
    if axes.zero:
        y_range = (0.0, y_range[1])
    return x_range, y_range


class _scale:
    """From values to places, linear or by logarithm."""

    def __init__(
        self, values: tuple[float, float], places: tuple[float, float], log: bool = False
    ) -> None:
        self._log = log
        self._low, self._high = (self._of(v) for v in values)
        self._from, self._to = places

    def _of(self, value: float) -> float:
        return math.log2(max(value, 0.7)) if self._log else value

    def __call__(self, value: float) -> float:
        width = (self._high - self._low) or 1.0
        share = (self._of(value) - self._low) / width
        return self._from + min(max(share, -0.02), 1.02) * (self._to - self._from)


def _path(points: Pairs, sx: _scale, sy: _scale, style: str, end: str = "") -> Markup:
    steps = "L".join(f"{sx(x):.1f} {sy(y):.1f}" for x, y in points)
    return Markup('<path class="{}" d="M{}{}"/>').format(style, steps, end)


def _grid(
    xs: tuple[float, float], ys: tuple[float, float], sx: _scale, sy: _scale, axes: Axes
) -> Markup:
    parts = []
    marks = ticks(*ys)
    step = marks[1] - marks[0] if len(marks) > 1 else 1.0
    for y in marks:
        parts.append(Markup(
            '<path class="grid" d="M{} {:.1f}H{}"/><text class="end" x="{}" y="{:.1f}">{}</text>'
        ).format(LEFT, sy(y), WIDTH - RIGHT, LEFT - 6, sy(y) + 4, tick(y, step)))  # fmt: skip
    across = _log_ticks(xs) if axes.log else ticks(*xs, 5)
    step = across[1] - across[0] if len(across) > 1 else 1.0
    for x in across:
        text = f"{int(x):,}" if axes.log else tick(x, step)
        parts.append(Markup(
            '<path class="grid" d="M{0:.1f} {1}v4"/>'
            '<text class="mid" x="{0:.1f}" y="{2}">{3}</text>'
        ).format(sx(x), HEIGHT - BOTTOM, HEIGHT - BOTTOM + 16, text))  # fmt: skip
    centre, floor = (LEFT + WIDTH - RIGHT) / 2, HEIGHT - BOTTOM
    parts.append(Markup(
        '<path class="axis" d="M{} {}H{}"/><text class="mid" x="{}" y="{}">{}</text>'
    ).format(LEFT, floor, WIDTH - RIGHT, centre, HEIGHT - 5, axes.x))  # fmt: skip
    middle = (TOP + HEIGHT - BOTTOM) / 2
    parts.append(Markup(
        '<text class="mid" transform="translate(10 {}) rotate(-90)">{}</text>'
    ).format(middle, escape(axes.y)))  # fmt: skip
    return Markup("").join(parts)


def _log_ticks(xs: tuple[float, float]) -> list[float]:
    powers = range(0, math.ceil(math.log2(max(xs[1], 2))) + 1)
    every = 2 if len(powers) > 7 else 1
    return [2.0**p for p in powers if p % every == 0 and xs[0] <= 2.0**p <= xs[1]]
