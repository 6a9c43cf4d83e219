"""One strategy at one size: its draws by level, their spread, and what resampling them says."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sft_diversity.core.cells import BASE
from sft_diversity.core.numbers import Floats
from sft_diversity.fitting.reading import Draw, Group

#: Differences below this part of a table's largest score are rounding.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Levels:
    """The draws of one group, by ascending level.

    Attributes
    ----------
    group : Group
    at : float array, shape (levels,)
        Diversity in percent.
    draws : sequence of float arrays, one a level
        Score of each draw, its training seeds averaged.
    runs : int
        Runs behind them.
    """

    group: Group
    at: Floats
    draws: Sequence[Floats]
    runs: int

    @property
    def means(self) -> Floats:
        """Mean score of each level, shape (levels,)."""
        return np.array([math.fsum(draws) / len(draws) for draws in self.draws])

    @property
    def each(self) -> tuple[Floats, Floats]:
        """Level and score of every draw, shape (n,)."""
        return np.repeat(self.at, list(map(len, self.draws))), np.concatenate(self.draws)

    @property
    def n(self) -> int:
        """Number of draws."""
        return sum(len(draws) for draws in self.draws)

    @property
    def squares(self) -> tuple[float, int]:
        """Squared deviations of draws from their level's mean, summed; degrees of freedom."""
        parts = [
            float(((draws - mean) ** 2).sum())
            for draws, mean in zip(self.draws, self.means, strict=True)
        ]
        return math.fsum(parts), self.n - len(self.draws)


def fit_about_mean(levels: Levels, design: Any) -> Any:
    """Return statsmodels' OLS of the draws' scores, less their mean, on a design."""
    from statsmodels.regression.linear_model import OLS

    _, scores = levels.each
    return OLS(scores - scores.mean(), np.asarray(design, dtype=np.float64)).fit()


def group_levels(draws: Sequence[Draw]) -> list[Levels]:
    """Return the levels of every group that has a dial, groups in order."""
    groups: dict[Group, dict[float, list[Draw]]] = {}
    for draw in draws:
        if draw.diversity is not None:
            groups.setdefault(draw.group, {}).setdefault(draw.diversity, []).append(draw)
    return [
        Levels(
            group,
            np.array(sorted(levels)),
            [np.array([draw.mean for draw in levels[at]]) for at in sorted(levels)],
            sum(len(draw.scores) for level in levels.values() for draw in level),
        )
        for group, levels in sorted(groups.items())
    ]


def resample(levels: Levels, times: int, rng: np.random.Generator) -> Floats | None:
    """Return level means of `times` resamples of the draws within their levels.

    Returns
    -------
    float array, shape (times, levels), or None
        None where no level has two draws, so that nothing is known of their spread.

    Notes
    -----
    The mean of n resampled draws spreads by √((n − 1)/n) of what the mean of n draws does; with
    three draws an interval would be a fifth too narrow. Deviations are widened by √(n/(n − 1)). A
    level with a single draw takes its deviations from those of the other levels.
    Time and memory O(times · draws).
    """
    means = levels.means
    deviations = [
        (draws - mean) * math.sqrt(len(draws) / (len(draws) - 1)) if len(draws) > 1 else None
        for draws, mean in zip(levels.draws, means, strict=True)
    ]
    known = [some for some in deviations if some is not None]
    if not known:
        return None
    pooled = np.concatenate(known)
    drawn = np.empty((times, len(means)))
    for i, own in enumerate(deviations):
        if own is None:
            drawn[:, i] = means[i] + pooled[rng.integers(len(pooled), size=times)]
        else:
            picks = rng.integers(len(own), size=(times, len(own)))
            drawn[:, i] = means[i] + own[picks].mean(axis=1)
    return drawn


def constant(values: Floats) -> bool:
    """Whether values differ by no more than rounding."""
    spread = float(values.max() - values.min())
    return spread <= _ROUNDING * max(float(np.abs(values).max()), 1e-300)


def training_noise(
    draws: Sequence[Draw], levels: Sequence[Levels], confidence: float
) -> list[dict[str, Any]]:
    """Return, for every regime and size with a draw trained twice, the spread over seeds.

    Returns
    -------
    list of dict
        `sd` over the training seeds of a draw, pooled over draws, with its χ² interval `low` to
        `high`, `df`, and the `draws` and `runs` it rests on; `draw_sd` and `draw_df` are the
        spread between the draws of a level, which has the training noise of one run in it.
    """
    from scipy import stats

    found = []
    places = {draw.group.place for draw in draws if draw.group.strategy != BASE}
    for regime, size in sorted(places):
        here = [
            np.array(draw.scores)
            for draw in draws
            if draw.group.place == (regime, size) and len(draw.scores) > 1
        ]
        df = sum(len(scores) - 1 for scores in here)
        if not df:
            continue
        square = math.fsum(float(((scores - scores.mean()) ** 2).sum()) for scores in here)
        low, high = stats.chi2.ppf([0.5 + confidence / 2, 0.5 - confidence / 2], df)
        parts = [one.squares for one in levels if one.group.place == (regime, size)]
        draw_df = sum(part[1] for part in parts)
        between = math.fsum(part[0] for part in parts)
        found.append(
            {
                "regime": regime or None,
                "size": size,
                "sd": math.sqrt(square / df),
                "low": math.sqrt(square / float(low)),
                "high": math.sqrt(square / float(high)),
                "df": df,
                "draws": len(here),
                "runs": sum(len(scores) for scores in here),
                "draw_sd": math.sqrt(between / draw_df) if draw_df else None,
                "draw_df": draw_df,
            }
        )
    return found
