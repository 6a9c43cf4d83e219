"""What pays, by how much, how sure that is, and where it stands against random: one sentence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]
_LENGTHS = {"A": "with lengths not held, ", "B": "with lengths held, "}


def headlines(result: Row) -> list[str]:
    """Return the answer of every regime and size in one sentence, regime B's first."""
    return [f"{place_name(*at)}: {_headline(result, at)}" for at in places_of(result)]


def places_of(result: Row) -> list[tuple[str, int]]:
    """Return the regimes and sizes that have a slope, regime B first: it holds length."""
    return sorted({place_of(row) for row in result["slopes"]}, key=lambda at: (at[0] != "B", *at))


def _headline(result: Row, at: tuple[str, int]) -> str:
    """Say what pays, by how much, how sure that is, and where that stands against random."""
    here = [row for row in result["slopes"] if place_of(row) == at and row["slope"] is not None]
    against = {
        row["strategy"]: row  # the best level where there is one to choose, else the only one
        for chosen in ("highest", "best")
        for row in result["baselines"]
        if (place_of(row), row["baseline"], row["chosen"]) == (at, "random", chosen)
    }
    order = sorted(here, key=lambda row: -over_dial(row, row["slope"]))
    paying = [row for row in order if row["claimed"] and row["slope"] > 0]
    costing = [row for row in order if row["claimed"] and row["slope"] < 0]
    kind, percent = result["score_kind"].partition(";")[0], percent_of(result)
    opening = _paying(paying, kind, percent) if paying else _none_pays(order, kind, percent)
    parts = [_LENGTHS.get(at[0], "") + opening]
    if costing:
        falls = _changes(costing, percent)
        parts.append(f"with the diversity of {names_of(costing)} the score falls {falls}")
    parts.append(_against_random([*against.values()], paying, percent))
    apart = [] if paying else ends(here, percent)
    return "; ".join(parts) + "." + (f" But {'; '.join(apart)}." if apart else "")


def _paying(rows: Sequence[Row], kind: str, percent: str) -> str:
    more = "; which of them pays more is not tested" if len(rows) > 1 else ""
    return (
        f"the diversity of {names_of(rows)} pays: the score ({kind}) rises "
        f"{_changes(rows, percent)}{more}"
    )


def _none_pays(order: Sequence[Row], kind: str, percent: str) -> str:
    first = f"no strategy's diversity is shown to pay (score: {kind})"
    if not order:
        return first
    return (
        f"{first}: the largest slope, that of {order[0]['strategy']}, is "
        f"{_change(order[0], percent)}"
    )


def _changes(rows: Sequence[Row], percent: str) -> str:
    if len(rows) == 1:
        return f"by {_change(rows[0], percent)}"
    return ", ".join(f"by {_change(row, percent)} for {row['strategy']}" for row in rows)


def _change(row: Row, percent: str) -> str:
    """Return the change of a line over the dial."""
    return (
        f"{signed(over_dial(row, row['slope']))} from {row['levels'][0]:g} to "
        f"{row['levels'][-1]:g} % "
        f"({sure(_scaled(row, 'ci_low'), _scaled(row, 'ci_high'), row, percent)})"
    )


def ends(here: Sequence[Row], percent: str) -> list[str]:
    """Say which strategies' highest level is above or below their lowest."""
    found = [(row["strategy"], row["ends"]) for row in here if row["ends"]]
    return [
        f"{name} at {own['level']:g} % is {side(own['difference'])} its own {own['other']:g} % "
        f"by {signed(own['difference'])} ({sure(own['low'], own['high'], own, percent)})"
        for name, own in found
        if own["claimed"]
    ]


def _against_random(rows: Sequence[Row], paying: Sequence[Row], percent: str) -> str:
    """Say which strategies' best level differs from random, and what of those that pay."""
    if not any(row["p"] is not None for row in rows):
        return "whether any level is above random cannot be said"
    named = {
        id(row): f"{row['strategy']} at {row['level']:g} % ({signed(row['difference'])}, "
        f"{sure(row['low'], row['high'], row, percent)})"
        for row in rows
    }
    parts = []
    for where in ("above", "below"):
        own = [row for row in rows if row["claimed"] and side(row["difference"]) == where]
        if own:
            names = ", ".join(named[id(row)] for row in own)
            parts.append(f"{names} {are(own)} {where} random")
    open_ = [row for row in rows if not row["claimed"]]
    wanted = {row["strategy"] for row in paying}
    level = [row for row in open_ if row["strategy"] in wanted]
    if level:
        names = ", ".join(named[id(row)] for row in level)
        parts.append(f"{names} {are(level)} not distinguishable from random")
    elif not parts:
        parts.append("no strategy's best level is distinguishable from random")
    return "; ".join(parts)


def _scaled(row: Row, name: str) -> float | None:
    return None if row[name] is None else over_dial(row, row[name])


# ---- figures as a sentence has them


def place_name(regime: str | None, size: int) -> str:
    """Return regime and size as a sentence begins with them."""
    return f"Regime {regime}, N = {size:,}" if regime else f"N = {size:,}"


def place_of(row: Row) -> tuple[str, int]:
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


def names_of(rows: Iterable[Row], last: str = "and") -> str:
    """Return the names of strategies, joined."""
    names = [str(row["strategy"]) for row in rows]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {last} {names[-1]}"
