"""Simulated studies, whose truth is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from sft_diversity.fitting.levels import Levels
from sft_diversity.fitting.reading import Group

LEVELS = (0.0, 33.0, 67.0, 100.0)
GROUP = Group("", 10_000, "micro-response")


def levels_of(*draws: Any, at: Any = None) -> Levels:
    """Levels with the given draws, at 0, 1, 2, ... or where `at` says."""
    arrays = [np.asarray(one, dtype=np.float64) for one in draws]
    places = np.asarray(range(len(arrays)) if at is None else at, dtype=np.float64)
    return Levels(GROUP, places, arrays, sum(map(len, arrays)))


def simulated(
    rng: np.random.Generator,
    slope: float = 0.0,
    sd: float = 1.0,
    levels: Any = LEVELS,
    draws: Any = 3,
) -> Levels:
    """A strategy whose true score is `slope` times the level."""
    numbers = [draws] * len(levels) if isinstance(draws, int) else draws
    return levels_of(
        *(slope * at + sd * rng.normal(size=n) for at, n in zip(levels, numbers, strict=True)),
        at=levels,
    )


def study(
    seed: int = 0,
    slopes: Any = None,
    sd: float = 0.003,
    draws: int = 3,
    regimes: Any = ("A", "B"),
    levels: Any = LEVELS,
) -> pl.DataFrame:
    """A whole study as `results.csv` holds it."""
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    found = {"micro-response": 4e-4, "macro-response": 0.0} if slopes is None else slopes
    for regime in regimes:
        for strategy, slope in found.items():
            for at in levels:
                for draw in range(draws):
                    score = -6 + slope * at + sd * rng.normal()
                    rows.append(row(regime, strategy, at, draw, score))
        for draw in range(5):
            rows.append(row(regime, "random", None, draw, -6 + sd * rng.normal()))
        rows.append(row(regime, "longest", None, 0, -5.98 + sd * rng.normal()))
        rows.append(row(regime, "base", None, 0, -6.7))
    return pl.DataFrame(rows, infer_schema_length=None)


def row(regime: Any, strategy: Any, diversity: Any, seed: Any, score: Any) -> dict[str, Any]:
    """One run at N = 10,000."""
    return {
        "regime": regime,
        "strategy": strategy,
        "size": 10_000,
        "diversity": diversity,
        "seed": seed,
        "train_seed": 0,
        "score": score,
    }
