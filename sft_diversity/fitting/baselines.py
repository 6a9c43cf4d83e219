"""Strategies against random, longest and the base model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sft_diversity.core.cells import BASE, BASELINES, RANDOM
from sft_diversity.core.numbers import Floats
from sft_diversity.fitting import simultaneous
from sft_diversity.fitting.config import FitConfig
from sft_diversity.fitting.levels import Levels, constant
from sft_diversity.fitting.reading import Draw, Group


@dataclass(frozen=True)
class Rival:
    """What a strategy is compared with. The base model has no draws: its score is known."""

    name: str
    scores: Floats

    @property
    def mean(self) -> float:
        """Mean over draws."""
        return math.fsum(self.scores) / len(self.scores)

    @property
    def weight(self) -> float:
        """Draws that the mean rests on."""
        return math.inf if self.name == BASE else float(len(self.scores))

    @property
    def squares(self) -> tuple[float, int]:
        """Sum of squared deviations of its draws and their degrees of freedom."""
        if self.name == BASE:
            return 0.0, 0
        return float(((self.scores - self.mean) ** 2).sum()), len(self.scores) - 1


def comparisons(
    draws: Sequence[Draw], levels: Sequence[Levels], config: FitConfig
) -> list[dict[str, Any]]:
    """Return the differences of every strategy from the baselines of its regime and size.

    Returns
    -------
    list of dict
        One for each strategy, baseline and choice of level: `highest` is the highest level
        measured, fixed beforehand; `best` the level with the best mean, whose interval and p-value
        hold for all levels at once, as it was chosen by its score; `only` a strategy without a
        dial. `p_adjusted` is left to the caller.

    Notes
    -----
    The spread is pooled over the draws within the strategy's levels and the baseline (equal
    spread is assumed); without two draws anywhere there is a difference and no interval.
    """
    rivals = _rivals(draws)
    undialled = [
        Levels(group, np.array([math.nan]), [scores], runs)
        for group, (scores, runs) in _undialled(draws).items()
    ]
    found = []
    for one in [*levels, *undialled]:
        for rival in rivals.get(one.group.place, []) + rivals.get(("", 0), []):
            if rival.name == one.group.strategy:
                continue
            if one.group.strategy in BASELINES and rival.name not in (RANDOM, BASE):
                continue
            found += _against(one, rival, config)
    return found


def _rivals(draws: Sequence[Draw]) -> dict[tuple[str, int], list[Rival]]:
    """Return the baselines of each regime and size, those without a regime in all of them."""
    together: dict[Group, list[float]] = {}
    for draw in draws:
        if draw.group.strategy in BASELINES:
            together.setdefault(draw.group, []).append(draw.mean)
    regimes = {draw.group.regime for draw in draws if draw.group.strategy != BASE}
    found: dict[tuple[str, int], list[Rival]] = {}
    for group in sorted(together, key=lambda group: BASELINES.index(group.strategy)):
        rival = Rival(group.strategy, np.array(together[group]))
        everywhere = group.strategy != BASE and not group.regime
        for regime in sorted(regimes) if everywhere else [group.regime]:
            found.setdefault((regime, group.size), []).append(rival)
    return found


def _undialled(draws: Sequence[Draw]) -> dict[Group, tuple[Floats, int]]:
    together: dict[Group, list[Draw]] = {}
    for draw in draws:
        if draw.diversity is None and draw.group.strategy != BASE:
            together.setdefault(draw.group, []).append(draw)
    return {
        group: (np.array([draw.mean for draw in own]), sum(len(draw.scores) for draw in own))
        for group, own in together.items()
    }


def _against(levels: Levels, rival: Rival, config: FitConfig) -> list[dict[str, Any]]:
    if len(levels.at) == 1:
        chosen = {"only" if math.isnan(levels.at[0]) else "highest": 0}
    else:
        chosen = {"highest": len(levels.at) - 1}
        if not constant(levels.means):
            chosen["best"] = int(levels.means.argmax())
    return [_difference(levels, rival, choice, at, config) for choice, at in chosen.items()]


def _difference(
    levels: Levels, rival: Rival, choice: str, at: int, config: FitConfig
) -> dict[str, Any]:
    mean, n = float(levels.means[at]), len(levels.draws[at])
    sizes = tuple(len(draws) for draws in levels.draws) if choice == "best" else (n,)
    squares = [levels.squares, rival.squares]
    df = sum(part[1] for part in squares)
    square = math.fsum(part[0] for part in squares)
    difference = mean - rival.mean
    interval: tuple[float | None, float | None] = (None, None)
    p = None
    if df and square > 0:
        error = math.sqrt(square / df * (1 / n + 1 / rival.weight))
        reach = error * simultaneous.critical(config.confidence, sizes, rival.weight, df)
        interval = (difference - reach, difference + reach)
        p = simultaneous.p_value(difference / error, sizes, rival.weight, df)
    return {
        "regime": levels.group.regime or None,
        "size": levels.group.size,
        "strategy": levels.group.strategy,
        "baseline": rival.name,
        "chosen": choice,
        "level": None if math.isnan(levels.at[at]) else float(levels.at[at]),
        "mean": mean,
        "draws": n,
        "baseline_mean": rival.mean,
        "baseline_draws": len(rival.scores),
        "difference": difference,
        "low": interval[0],
        "high": interval[1],
        "df": df,
        "levels_compared": len(sizes),
        "p": p,
    }
