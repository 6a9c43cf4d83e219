"""What is known of the arms of a race after some runs: which is above random, which is still open.

An arm is a cell without its draw: a strategy at a level and size, in a regime. It is tested against
random once for each of its own draws, so that a study of N draws takes N looks at most. The chance
of any false "above" or "below" is shared out over arms and looks (Bonferroni): it holds whatever
the race does between looks. The last look has half of it, those before share the rest, as what is
seen early is large or can wait.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sft_diversity.core.numbers import student_p, student_reach
from sft_diversity.core.spreads import pool

Status = Literal["untried", "open", "above", "below", "level"]


@dataclass(frozen=True)
class Contrast:
    """A difference of two means, its standard error now and once all draws are run."""

    difference: float
    error: float
    full_error: float
    df: float

    @property
    def p(self) -> float:
        """Two-sided p of no difference."""
        return student_p(self.difference / self.error, self.df)

    def reach(self, error_rate: float) -> float:
        """Return how far the interval goes to either side that misses with this chance."""
        return student_reach(1 - error_rate, self.df) * self.error

    def foreseen(self, error_rate: float) -> float:
        """Return the chance that all draws of the grid will show a difference at this rate."""
        from scipy import special

        ahead = math.sqrt(max(self.error**2 - self.full_error**2, 0.0))
        edge = student_reach(1 - error_rate, self.df) * self.full_error
        if ahead <= 1e-9 * self.error:
            return float(abs(self.difference) > edge)
        ends = (np.array([self.difference, -self.difference]) - edge) / ahead
        return float(special.stdtr(self.df, ends).sum())


def contrast(
    draws: Mapping[str, Sequence[float]], full: Mapping[str, int], one: str, other: str
) -> Contrast | None:
    """Return the difference of two arms; each spread is drawn towards that of all (`spreads`).

    Parameters
    ----------
    draws : mapping
        Scores of every arm's draws so far, of one regime and size.
    full : mapping
        How many draws each has in the grid.

    Returns
    -------
    Contrast or None
        None where nothing is known of the spread.
    """
    known = pool(list(draws.values()))
    if known is None or not draws[one] or not draws[other]:
        return None
    own = [
        (known.cell(draws[name], more=full[name] > 1), float(len(draws[name])))
        for name in (one, other)
    ]
    all_ = [
        (spread, max(n, float(full[name])))
        for (spread, n), name in zip(own, (one, other), strict=True)
    ]
    means = [math.fsum(draws[name]) / len(draws[name]) for name in (one, other)]
    error, df = known.error(own)
    return Contrast(means[0] - means[1], error, known.error(all_)[0], df)


def error_at(look: int, looks: int, arms: int, sure: float) -> float:
    """Return the chance of error that one arm's test has at its look (1, 2, ...) of so many."""
    share = 1.0 if looks <= 2 else 0.5 if look >= looks else 0.5 / (looks - 2)
    return (1 - sure) * share / arms


@dataclass(frozen=True)
class Standing:
    """Where an arm stands against random: `low` to `high` holds over all arms and looks."""

    arm: str
    status: Status
    draws: int
    mean: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    foreseen: float | None = None


def judge(
    before: Standing,
    draws: Mapping[str, Sequence[float]],
    full: Mapping[str, int],
    rival: str,
    arms: int,
    sure: float,
) -> Standing:
    """Return where an arm stands after further draws of its own; a claim once made stays.

    `level` is an arm whose difference all draws of the grid would show in less than 1 - `sure`.
    """
    n, looks = len(draws[before.arm]), full[before.arm]
    if not n:
        return before
    mean = math.fsum(draws[before.arm]) / n
    found = contrast(draws, full, before.arm, rival)
    if found is None or (n == 1 and looks > 1):
        return Standing(before.arm, "open", n, mean)
    rate = error_at(n, looks, arms, sure)
    reach = found.reach(rate)
    status: Status = "open"
    foreseen = found.foreseen(error_at(looks, looks, arms, sure))
    if before.status in ("above", "below"):
        status = before.status
    elif abs(found.difference) > reach:
        status = "above" if found.difference > 0 else "below"
    elif n >= looks or foreseen < 1 - sure:
        status = "level"
    return Standing(
        before.arm, status, n, mean, found.difference,
        found.difference - reach, found.difference + reach, foreseen,
    )  # fmt: skip
