"""Advice in sentences and as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sft_diversity.core.show import numbers
from sft_diversity.fitting.advice import GROUPS, SERIES
from sft_diversity.fitting.show import wrapped

Row = Mapping[str, Any]
_TOLD = 8  # groups, or series of one, that sentences name
_ROWS = 40  # of a table
_SURE = 0.9
_WIDEST = 34  # characters of a name


def advice_sentences(result: Row) -> list[str]:
    """Return how far to go with what, and what is expected where, in plain sentences."""
    rows = result["advice"]
    going = [row for row in rows if row["next_size"] != "stop"]
    said = [_opening(rows, going), _measure(result)]
    places = list(dict.fromkeys(place_of_group(row) for row in rows))
    for place in places[:_TOLD]:
        own = [row for row in result["predictions"] if place_of_group(row) == place]
        for text in _expected(own, result["lower_is_better"]):
            said.append(f"{place}: {text}" if place else f"{text[0].upper()}{text[1:]}")
    if len(places) > _TOLD:
        said.append(f"{len(places) - _TOLD:,} more groups: see `predictions` in the JSON.")
    return said


def _opening(rows: Sequence[Row], going: Sequence[Row]) -> str:
    if len(rows) == 1:
        row = rows[0]
        doubling = (
            f"a doubling gains {row['doubling']:.2g} in expectation, and enough with a probability "
            f"of {chance_text(row['pays'])}"
        )
        if not going:
            return f"Stop at {row['measured']:,}: {doubling}."
        return f"Go on to {row['next_size']:,} samples: {doubling}."
    if not going:
        return f"Stop with all {len(rows):,}: another doubling is not expected to pay for any."
    stopped = f"stop with the other {len(rows) - len(going):,}"
    named = "; ".join(
        f"{_name(row)} to {row['next_size']:,} (a doubling pays with {chance_text(row['pays'])})"
        for row in sorted(going, key=lambda row: -row["pays"])[:_TOLD]
    )
    more = f"; and {len(going) - _TOLD:,} more" if len(going) > _TOLD else ""
    rest = f"; {stopped}" if len(going) < len(rows) else ""
    return f"Go on with {len(going):,} of {len(rows):,}: {named}{more}{rest}."


def _measure(result: Row) -> str:
    if result["worth"] is not None:
        return (
            f"A step pays where its expected gain is worth more than it costs: {result['price']:g} "
            f"a sample, {result['worth']:g} for a gain of {result['delta']:.3g}."
        )
    return f"A doubling pays where it gains {result['delta']:.3g} or more."


def _expected(rows: Sequence[Row], lower: bool) -> list[str]:
    """Say which series is expected first at each size, and which differ from random."""
    said = []
    for size in dict.fromkeys(row["size"] for row in rows):
        here = sorted((row for row in rows if row["size"] == size), key=lambda row: row["mean"])
        first = here[0] if lower else here[-1]
        name = (
            f"{series_name(first)}, the first of {len(here)}, " if len(here) > 1 else "the score "
        )
        text = f"at {size:,} samples {name}is expected at {_interval(first)}"
        random = [row for row in here if str(row.get("strategy")).lower() == "random"]
        text += f"; random at {_interval(random[0])}" if random and random[0] is not first else ""
        said.append(f"{text}.")
        last = size == rows[-1]["size"]
        known = [row for row in here if last and row["beats_random"] is not None]
        above = [row for row in known if row["beats_random"] >= _SURE]
        below = [row for row in known if row["beats_random"] <= 1 - _SURE]
        if known:
            parts = [f"above random {_chances(above)}"] * bool(above)
            parts += [f"below random {_chances(below, True)}"] * bool(below)
            rest = len(known) - len(above) - len(below)
            parts += [f"undecided {rest} of {len(known)}"] * bool(rest)
            said.append(f"at {size:,} samples, where 90 % counts as decided: {'; '.join(parts)}.")
    return said


def _chances(rows: Sequence[Row], below: bool = False) -> str:
    """Name series by how sure it is, those of one probability together."""
    by: dict[str, list[str]] = {}
    for row in sorted(rows, key=lambda row: row["beats_random"], reverse=not below):
        share = row["beats_random"]
        by.setdefault(chance_text(1 - share if below else share), []).append(series_name(row))
    return "; ".join(f"{', '.join(names)} ({share})" for share, names in by.items())


def _interval(row: Row) -> str:
    mean, low, high = (score_text(row[name]) for name in ("mean", "low_80", "high_80"))
    return f"{mean} (80 % interval {low} to {high})"


def score_text(value: float) -> str:
    """Return a score in three digits, a large one whole."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def chance_text(share: float) -> str:
    """Return a probability as a sentence has it."""
    if 0.01 <= share <= 0.99:
        return f"{100 * share:.0f} %"
    return "under 1 %" if share < 0.01 else "over 99 %"


def place_of_group(row: Row) -> str:
    """Return the name of the group that a row is of; nothing where the table has one."""
    return ", ".join(str(row[name]) for name in GROUPS if row.get(name) is not None)


def series_name(row: Row) -> str:
    """Return the name of the series that a row is of."""
    said = [f"{row[name]}" for name in SERIES[:2] if row.get(name) is not None]
    level = row.get("diversity")
    return " ".join([*said, *([f"{level:g} %"] if level is not None else [])]) or "all"


def _name(row: Row) -> str:
    own = series_name(row) if any(row.get(name) is not None for name in SERIES) else ""
    return ", ".join(part for part in (place_of_group(row), own) if part)


def advised(result: dict[str, Any]) -> str:
    """Return sentences, then a row a series; 100 columns at most."""
    blocks = ["\n".join(wrapped(one) for one in result["verdict"]), _table(result)]
    blocks += ["\n".join(wrapped(one) for one in result["notes"])] * bool(result["notes"])
    return "\n\n".join([*blocks, *([result["out"]] if "out" in result else [])])


def _table(result: Row) -> str:
    size = result["at"][-1]
    chance = f"P(+{result['delta']:.2g})"
    costs = ["2× costs"] * (result["price"] is not None)
    rows = [("", "measured", "next", chance, *costs, f"at {size:,}", "80 %", "P(>random)")]
    widest = _WIDEST - 9 * len(costs)
    predicted = {_name(row): row for row in result["predictions"] if row["size"] == size}
    for row in result["advice"][:_ROWS]:
        name, next_size = _name(row), row["next_size"]
        own = predicted[name]
        rows.append(
            (
                name if len(name) <= widest else f"…{name[1 - widest :]}",
                f"{row['measured']:,}",
                next_size if next_size == "stop" else f"{next_size:,}",
                f"{row['pays']:.0%}",
                *(f"{result['price'] * row['measured']:,.4g}" for _ in costs),
                score_text(own["mean"]),
                f"{score_text(own['low_80'])} to {score_text(own['high_80'])}",
                "-" if own["beats_random"] is None else f"{own['beats_random']:.0%}",
            )
        )
    more = len(result["advice"]) - _ROWS
    return numbers(rows) + (f"\n{more:,} more rows: --json" if more > 0 else "")
