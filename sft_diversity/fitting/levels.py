"""One strategy at one size: its draws by level, and what resampling them says."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sft_diversity.fitting.runs import Draw, Group

Floats = npt.NDArray[np.float64]
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
