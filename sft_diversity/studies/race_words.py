"""What a race came to, in plain words and as figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sft_diversity.core.cells import RANDOM
from sft_diversity.core.progress import clock
from sft_diversity.studies.looks import Standing
from sft_diversity.studies.race import Arm, Place, Race


def planned(race: Race) -> str:
    """Return what a race runs first, and what it runs at most."""
    steps = race.steps()
    hours = [sum(map(race.expected_s, step)) for step in steps]
    return (
        f"race: random and base first ({len(steps[0]):,} runs, {clock(hours[0])}), then a draw of "
        f"each of {len(race.arms):,} arms ({len(steps[1]):,} runs, {clock(hours[1])}), then "
        f"further draws of what is open; all of them take {clock(sum(hours))}, the race has "
        f"{clock(race.budget_s)}"
    )


def outcome(race: Race) -> dict[str, Any]:
    """Return `arms` (each with its standing), `rounds`, hours, why it stopped, and `sentences`."""
    wanted = race.wanted()
    runs = sum(len(one["runs"]) for one in race.rounds)
    found: dict[str, Any] = {
        "sure": race.sure,
        "budget_hours": race.budget_s / 3600 if math.isfinite(race.budget_s) else None,
        "spent_hours": round(race.spent_s / 3600, 4),
        "left_hours": round(race.left_s() / 3600, 4),
        "stopped": "hours" if wanted else "answered",
        "runs": runs,
        "runs_of_grid": len(race.runs),
        "rounds": race.rounds,
        "arms": [
            {
                "regime": arm.cell.regime, "size": arm.cell.size, "strategy": arm.cell.strategy,
                "diversity": arm.cell.diversity, "draws_of_grid": len(arm.draws),
                **asdict(race.standing[name]),
            }
            for name, arm in race.arms.items()
        ],
    }  # fmt: skip
    return found | {"sentences": _sentences(race, found, bool(wanted))}


def _sentences(race: Race, found: dict[str, Any], short: bool) -> list[str]:
    said = [
        sentence
        for place in sorted(race.rivals, key=lambda at: (at[0] != "B", str(at[0]), at[1]))
        for sentence in (*_place(race, place), _best(race, place))
    ]
    error = f"{100 * (1 - race.sure):.3g} %"
    said.append(
        f"Where no arm differs from random, these sentences say that one does with a chance of "
        f"{error} at most in a regime, however often it was looked at; best and its rivals are "
        f"told apart at {error} as well."
    )
    budget = "" if found["budget_hours"] is None else f" of {clock(race.budget_s)}"
    why = "the hours are spent" if short else "no further draw of this grid is likely to say more"
    said.append(
        f"The race took {found['runs']:,} of the grid's {found['runs_of_grid']:,} runs, "
        f"{clock(race.spent_s)}{budget}; it stopped because {why}. The other runs would take about "
        f"{clock(race.left_s())}: the same command without --budget makes them."
    )
    return said


def _place(race: Race, place: Place) -> list[str]:
    arms = [(arm, race.standing[name]) for name, arm in race.arms.items() if arm.place == place]
    rest = f"{100 * (1 - race.sure):.3g} %"
    parts = []
    for status, words in (
        ("above", "above random: "),
        ("below", "below random: "),
        ("level", f"not shown to differ from random, and under {rest} likely to be by the draws "
         "that are left: "),
        ("open", "open: "),
        ("untried", "not tried: "),
    ):  # fmt: skip
        own = [(arm, one) for arm, one in arms if one.status == status]
        if own:
            parts.append(words + ", ".join(_with_figures(*pair) for pair in own))
    where = f"Regime {place[0]}, N = {place[1]:,}"
    return [f"{where}: {'; '.join(parts)}."] if parts else []


def _with_figures(arm: Arm, one: Standing) -> str:
    if one.difference is None or one.low is None or one.high is None:
        return arm.words
    low, high = (f"{end:+.3g}".replace("-", "−") for end in (one.low, one.high))
    difference = f"{one.difference:+.3g}".replace("-", "−")
    return f"{arm.words} ({difference}, {low} to {high}, {one.draws} draws)"


def _best(race: Race, place: Place) -> str:
    where = f"Regime {place[0]}, N = {place[1]:,}"
    found = race.best(place)
    if found is None:
        return f"{where}: nothing is shown to be better than {RANDOM}: take a random subset."
    leader, rest = found
    return f"{where}: the best is {leader.words}, {_rivals(rest)}."


def _rivals(rest: Sequence[Arm]) -> str:
    if not rest:
        return "told from all others"
    return "not told from " + ", ".join(arm.words for arm in rest)
