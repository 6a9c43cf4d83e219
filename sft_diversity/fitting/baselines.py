"""Strategies against random, longest and the base model."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from sft_diversity.core.cells import BASE, BASELINES, RANDOM
from sft_diversity.core.numbers import Floats, student_p, student_reach
from sft_diversity.core.spreads import Pool, pool
from sft_diversity.fitting.config import FitConfig
from sft_diversity.fitting.levels import Levels, constant
from sft_diversity.fitting.reading import Draw, Group

# Nodes of the quadratures over the pooled spread and over the baseline's mean, and where these end.
_NODES_S, _NODES_Z = 96, 160
_Z_END = 9.0
_TAIL = 1e-15


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
    Each cell's spread is drawn towards that of all cells of its regime and size (`core.spreads`);
    where none has two draws there is a difference and no interval.
    """
    rivals, pools = _rivals(draws), spread_pools(draws)
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
            found += _against(one, rival, pools[one.group.place], config)
    return found


def spread_pools(draws: Sequence[Draw]) -> dict[tuple[str, int], Pool | None]:
    """Return what the cells of each regime and size say of the spread of a draw."""
    cells: dict[tuple[str, int], dict[Any, list[float]]] = {}
    for draw in draws:
        if draw.group.strategy != BASE:
            here = cells.setdefault(draw.group.place, {})
            here.setdefault((draw.group.strategy, draw.diversity), []).append(draw.mean)
    return {place: pool(list(own.values())) for place, own in cells.items()}


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


def _against(
    levels: Levels, rival: Rival, known: Pool | None, config: FitConfig
) -> list[dict[str, Any]]:
    if len(levels.at) == 1:
        chosen = {"only" if math.isnan(levels.at[0]) else "highest": 0}
    else:
        chosen = {"highest": len(levels.at) - 1}
        if not constant(levels.means):
            chosen["best"] = int(levels.means.argmax())
    return [_difference(levels, rival, known, choice, at, config) for choice, at in chosen.items()]


def _difference(
    levels: Levels, rival: Rival, known: Pool | None, choice: str, at: int, config: FitConfig
) -> dict[str, Any]:
    mean, n = float(levels.means[at]), len(levels.draws[at])
    which = range(len(levels.at)) if choice == "best" else [at]
    difference = mean - rival.mean
    interval: tuple[float | None, float | None] = (None, None)
    p = df = None
    if known is not None:
        spreads = {i: known.cell(levels.draws[i]) for i in which}
        beside = known.cell(rival.scores)
        parts = [(spreads[at], float(n))]
        parts += [] if math.isinf(rival.weight) else [(beside, rival.weight)]
        error, df = known.error(parts)
        # A mean of n draws of variance v weighs as one of n / v draws of variance 1.
        sizes = tuple(len(levels.draws[i]) / one.variance for i, one in spreads.items())
        weight = rival.weight / beside.variance
        reach = error * critical(config.confidence, sizes, weight, df)
        interval = (difference - reach, difference + reach)
        p = p_value(difference / error, sizes, weight, df)
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
        "levels_compared": len(which),
        "p": p,
    }


# ---- Dunnett's law: many levels against one baseline, so that the best may be chosen afterwards


def p_value(t: float, sizes: tuple[float, ...], baseline: float, df: float) -> float:
    """Return the chance that any of the levels' |t| exceeds `t` where none differs.

    Parameters
    ----------
    t : float
        Difference over its standard error, whose spread has `df` degrees of freedom.
    sizes : tuple of float
        Draws of each level, over their variance where levels spread unequally.
    baseline : float
        The same of the baseline; `inf` where it is known without error.

    Notes
    -----
    Dunnett 1955, doi:10.1080/01621459.1955.10501294, for unequal sizes, by Gauss–Legendre
    quadrature over the baseline's mean and the pooled spread; about 1e-8 exact, 0.5 ms.
    """
    if len(sizes) == 1:
        return student_p(t, df)
    return max(0.0, 1.0 - _within(abs(t), sizes, baseline, df))


@lru_cache(maxsize=1024)
def critical(confidence: float, sizes: tuple[float, ...], baseline: float, df: float) -> float:
    """Return the |t| that all levels stay within with chance `confidence`."""
    from scipy import optimize

    low = student_reach(confidence, df)
    if len(sizes) == 1:
        return low
    high = student_reach(1 - (1 - confidence) / len(sizes), df)  # Bonferroni's is wider

    def short(t: float) -> float:
        return _within(t, sizes, baseline, df) - confidence

    return float(optimize.brentq(short, low * 0.999, high * 1.001, xtol=1e-10))


def _within(t: float, sizes: tuple[float, ...], baseline: float, df: float) -> float:
    from scipy import special

    z, weight_z = _normal()
    s, weight_s = _spread(df)
    inside = np.ones((len(s), len(z)))
    for size, levels in Counter(sizes).items():
        shared = 0.0 if math.isinf(baseline) else size / (size + baseline)
        own = math.sqrt(1 - shared)
        middle = math.sqrt(shared) * z[None, :]
        reach = t * s[:, None]
        held = special.ndtr((middle + reach) / own) - special.ndtr((middle - reach) / own)
        inside *= held**levels
    return float(weight_s @ inside @ weight_z)


@lru_cache(maxsize=1)
def _normal() -> tuple[Floats, Floats]:
    """Return nodes above 0 and weights of a standard normal, for functions that are even in it."""
    nodes, weights = (part[_NODES_Z // 2 :] for part in np.polynomial.legendre.leggauss(_NODES_Z))
    z = _Z_END * nodes
    density = np.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    return z, 2 * _Z_END * weights * density


@lru_cache(maxsize=256)
def _spread(df: float) -> tuple[Floats, Floats]:
    """Return nodes and weights of the pooled spread over its true value, χ/√df."""
    from scipy import stats

    ends = np.sqrt(np.array([stats.chi2.ppf(_TAIL, df), stats.chi2.isf(_TAIL, df)]) / df)
    nodes, weights = np.polynomial.legendre.leggauss(_NODES_S)
    half = float(ends[1] - ends[0]) / 2
    s = float(ends.mean()) + half * nodes
    density = np.exp(stats.chi.logpdf(s * math.sqrt(df), df)) * math.sqrt(df)
    return s, half * weights * density
