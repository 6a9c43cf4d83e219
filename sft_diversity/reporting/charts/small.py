"""Small drawings within tables: bars, intervals, and the map."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

_BAR = 120


def bar(share: float | None, longest: float, mark: float | None = None) -> Markup:
    """Return a bar of `share` with a mark at another share, both of the longest."""
    unit = _BAR / (longest or 1.0)
    width = max(0.0, (share or 0.0) * unit)
    line = Markup("")
    if mark is not None:
        line = Markup('<path class="mark" d="M{:.1f} 0v12"/>').format(min(mark * unit, _BAR))
    return Markup(
        '<svg class="bar" viewBox="0 0 {} 12" aria-hidden="true">'
        '<rect class="fill s0" y="2" width="{:.1f}" height="8"/>{}</svg>'
    ).format(_BAR + 1, min(width, _BAR), line)


def shift(first: float, second: float, longest: float) -> Markup:
    """Return an arrow from one share to another, of the longest."""
    unit = (_BAR - 6) / (longest or 1.0)
    a, b = 3 + first * unit, 3 + second * unit
    way = "gain" if second >= first else "loss"
    return Markup(
        '<svg class="bar" viewBox="0 0 {0} 12" aria-hidden="true">'
        '<path class="shift {1}" d="M{2:.1f} 6H{3:.1f}"/><circle class="from" cx="{2:.1f}" cy="6" '
        'r="2.5"/><circle class="to {1}" cx="{3:.1f}" cy="6" r="3"/></svg>'
    ).format(_BAR, way, a, b)


def interval(
    value: float | None, low: float | None, high: float | None, reach: float, claimed: bool
) -> Markup:
    """Return a dot with its interval on a line from −reach to reach, 0 in the middle.

    An interval that goes on beyond the line ends in an arrow. Only what is `claimed` has a colour.
    """
    width = 120
    middle, unit = width / 2, (width / 2 - 6) / (reach or 1.0)

    def at(x: float) -> float:
        return min(max(middle + x * unit, 2.0), width - 2.0)

    parts = [Markup('<path class="zero" d="M{} 0v16"/>').format(middle)]
    if value is not None:
        style = ("up" if value > 0 else "down") if claimed else "open"
        if low is not None and high is not None:
            parts.append(
                Markup('<path class="reach {}" d="M{:.1f} 8H{:.1f}"/>').format(
                    style, at(low), at(high)
                )
            )
            for end, way in ((low, 1), (high, -1)):
                if abs(end) > reach:
                    parts.append(
                        Markup('<path class="reach {}" d="M{:.1f} 4l{} 4l{} 4"/>').format(
                            style, at(end) + 4 * way, -4 * way, 4 * way
                        )
                    )
        parts.append(
            Markup('<circle class="value {}" cx="{:.1f}" cy="8" r="4"/>').format(style, at(value))
        )
    return Markup('<svg class="interval" viewBox="0 0 {} 16" aria-hidden="true">{}</svg>').format(
        width, Markup("").join(parts)
    )


def dots(points: Sequence[int], style: str) -> Markup:
    """Return points x, y, x, y, ... as one path of round strokes: a few bytes a point."""
    steps = "".join(f"M{x} {y}h0" for x, y in zip(points[::2], points[1::2], strict=True))
    return Markup('<path class="points {}" d="{}"/>').format(style, steps)


def step(value: float | None, reach: float = 1.0, steps: int = 6) -> str:
    """Return the colour class of a heat map's cell: `h-6` ... `h6`, `none` without a value."""
    if value is None:
        return "none"
    share = max(-1.0, min(1.0, value / (reach or 1.0)))
    return f"h{round(share * steps)}"


def cell(r: float | None, sure: bool = False) -> Markup:
    """Return a heat map's table cell of a correlation; one that stands after correction is bold."""
    text = "–" if r is None else f"{r:+.2f}".replace("-", "−")
    style = f"{step(r)} sure" if sure else step(r)
    return Markup('<td class="heat {}">{}</td>').format(style, text)
