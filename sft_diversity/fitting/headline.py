"""What pays, by how much, how sure that is, and where it stands against random: one sentence."""

from __future__ import annotations

from collections.abc import Sequence

from sft_diversity.fitting.gaps import place_name
from sft_diversity.fitting.wording import (
    Row,
    are,
    listed,
    over_dial,
    percent_of,
    place,
    side,
    signed,
    sure,
)

_LENGTHS = {"A": "with lengths not held, ", "B": "with lengths held, "}


def headlines(result: Row) -> list[str]:
    """Return the answer of every regime and size in one sentence, regime B's first."""
    return [f"{place_name(*at)}: {_headline(result, at)}" for at in places(result)]


def places(result: Row) -> list[tuple[str, int]]:
    """Return the regimes and sizes that have a slope, regime B first: it holds length."""
    return sorted({place(row) for row in result["slopes"]}, key=lambda at: (at[0] != "B", *at))


def _headline(result: Row, at: tuple[str, int]) -> str:
    """Say what pays, by how much, how sure that is, and where that stands against random."""
    here = [row for row in result["slopes"] if place(row) == at and row["slope"] is not None]
    against = {
        row["strategy"]: row  # the best level where there is one to choose, else the only one
        for chosen in ("highest", "best")
        for row in result["baselines"]
        if (place(row), row["baseline"], row["chosen"]) == (at, "random", chosen)
    }
    order = sorted(here, key=lambda row: -over_dial(row, row["slope"]))
    paying = [row for row in order if row["claimed"] and row["slope"] > 0]
    costing = [row for row in order if row["claimed"] and row["slope"] < 0]
    kind, percent = result["score_kind"].partition(";")[0], percent_of(result)
    opening = _paying(paying, kind, percent) if paying else _none_pays(order, kind, percent)
    parts = [_LENGTHS.get(at[0], "") + opening]
    if costing:
        parts.append(
            f"with the diversity of {listed(costing)} the score falls {_changes(costing, percent)}"
        )
    parts.append(_against_random([*against.values()], paying, percent))
    apart = [] if paying else ends(here, percent)
    return "; ".join(parts) + "." + (f" But {'; '.join(apart)}." if apart else "")


def _paying(rows: Sequence[Row], kind: str, percent: str) -> str:
    more = "; which of them pays more is not tested" if len(rows) > 1 else ""
    return (
        f"the diversity of {listed(rows)} pays: the score ({kind}) rises "
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
