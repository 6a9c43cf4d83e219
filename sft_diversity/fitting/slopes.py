"""The slope of the score over the dial, for one strategy at one size."""

from __future__ import annotations

from typing import Any

import numpy as np

from sft_diversity.core import seeding
from sft_diversity.core.numbers import interval
from sft_diversity.fitting import best, published
from sft_diversity.fitting.bayes import bayes
from sft_diversity.fitting.config import FitConfig
from sft_diversity.fitting.levels import Floats, Levels, constant, resample
from sft_diversity.fitting.lines import Line, fisher, ols, pearson, spearman

_NO_SLOPE: dict[str, Any] = dict.fromkeys(
    (
        "slope", "intercept", "ci_low", "ci_high", "ci_kind", "t_low", "t_high", "t_df", "t_over",
        "boot_low", "boot_high", "p", "pearson_r", "pearson_low", "pearson_high", "spearman_r",
        "spearman_p", "bayes", "ends", "curvature",
    )
)  # fmt: skip


def fit_slope(levels: Levels, config: FitConfig) -> dict[str, Any]:
    """Return every figure of one strategy at one size and in one regime.

    Notes
    -----
    The line is OLS on level means. Its t interval has levels − 2 degrees of freedom; with two
    levels it is that of OLS on the draws. The other interval is the percentile bootstrap over
    draws; `ci_low` and `ci_high` are the wider of the two, `ci_kind` says which.
    """
    group = levels.group
    rng = seeding.generator(config.seed, "fit", group.regime, group.strategy, group.size)
    drawn = resample(levels, config.draws, rng)
    means = levels.means
    points = [
        {
            "diversity": float(at),
            "mean": float(mean),
            "draws": len(draws),
            "sd": float(draws.std(ddof=1)) if len(draws) > 1 else None,
        }
        for at, mean, draws in zip(levels.at, means, levels.draws, strict=True)
    ]
    return {
        "regime": group.regime or None,
        "strategy": group.strategy,
        "size": group.size,
        "n": levels.n,
        "runs": levels.runs,
        "levels": [float(at) for at in levels.at],
        "points": points,
        **(_line(levels, drawn, config) if len(means) > 1 else _NO_SLOPE),
        **best.best_level(levels, drawn),
        "best_margin": best.best_margin(levels, config.confidence),
        "published": published.slopes_of(group.strategy),
    }


def _line(levels: Levels, drawn: Floats | None, config: FitConfig) -> dict[str, Any]:
    x, y = levels.at, levels.means
    line, over = _t_line(levels, config.confidence)
    flat = constant(np.concatenate(levels.draws))
    boot = None if drawn is None or flat else _bootstrap(x, drawn, config.confidence)
    shown, kind = _wider(line, over, boot)
    r = pearson(x, y)
    r_low, r_high = fisher(r, len(x) - 2, config.confidence)
    rho, rho_p = spearman(x, y)
    return {
        "slope": line.slope,
        "intercept": line.intercept,
        "ci_low": shown[0],
        "ci_high": shown[1],
        "ci_kind": kind,
        "t_low": line.low,
        "t_high": line.high,
        "t_df": line.df,
        "t_over": over,
        "boot_low": boot[0] if boot else None,
        "boot_high": boot[1] if boot else None,
        "p": line.p,
        "pearson_r": r if len(x) > 2 else None,  # two points are always on a line
        "pearson_low": r_low,
        "pearson_high": r_high,
        "spearman_r": rho,
        "spearman_p": rho_p,
        "bayes": bayes(x, y),
        "ends": best.ends(levels, config.confidence),
        "curvature": best.curvature(levels),
    }


def _t_line(levels: Levels, confidence: float) -> tuple[Line, str]:
    """Return the line and what its t interval is over."""
    if len(levels.at) > 2:
        return ols(levels.at, levels.means, confidence), "level means"
    each = np.repeat(levels.at, [len(draws) for draws in levels.draws])
    return ols(each, np.concatenate(levels.draws), confidence), "draws"


def _bootstrap(x: Floats, drawn: Floats, confidence: float) -> tuple[float, float] | None:
    at = x - x.mean()
    low, high = interval(drawn @ at / float(at @ at), confidence)
    return None if low is None or high is None else (low, high)


def _wider(
    line: Line, over: str, boot: tuple[float, float] | None
) -> tuple[tuple[float | None, float | None], str | None]:
    if line.low is None or line.high is None:
        return (boot, "bootstrap") if boot else ((None, None), None)
    if boot and boot[1] - boot[0] > line.high - line.low:
        return boot, "bootstrap"
    return (line.low, line.high), "t" if over == "level means" else "t over draws"
