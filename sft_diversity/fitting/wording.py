"""Figures as a sentence has them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]


def place(row: Row) -> tuple[str, int]:
    """Return the regime and size of a row."""
    return row["regime"] or "", row["size"]


def over_dial(row: Row, slope: float) -> float:
    """Return what a slope comes to from the lowest to the highest level."""
    return slope * float(row["levels"][-1] - row["levels"][0])


def percent_of(result: Row) -> str:
    """Return the confidence of a result: `95 %`."""
    return f"{100 * result['confidence']:g} %"


def side(difference: float) -> str:
    """Return on which side of a rival a difference lies."""
    return "above" if difference > 0 else "below"


def are(rows: Sequence[Row]) -> str:
    """Return the verb of some strategies."""
    return "is" if len(rows) == 1 else "are"


def sure(low: float | None, high: float | None, tested: Row, percent: str) -> str:
    """Return an interval and the corrected p of what it is of."""
    if low is None or high is None or tested["p_adjusted"] is None:
        return "no interval"
    return (
        f"{percent} interval {signed(low)} to {signed(high)}, "
        f"corrected p {p_value(tested['p_adjusted'])}"
    )


def p_value(p: float) -> str:
    """Return a p-value."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def share(share: float) -> str:
    """Return a share of resamples."""
    return "over 99 %" if 0.99 < share < 1 else f"{share:.0%}".replace("%", " %")


def signed(value: float) -> str:
    """Return a figure with its sign."""
    return f"{value:+.3g}".replace("-", "−")


def listed(rows: Iterable[Row], last: str = "and") -> str:
    """Return the names of strategies, joined."""
    names = [str(row["strategy"]) for row in rows]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {last} {names[-1]}"
