"""One strategy at one size: the slope of the score over the dial, its best level, its shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from sft_diversity.core import seeding
from sft_diversity.core.numbers import Floats, interval, student_p, student_reach
from sft_diversity.core.spreads import Pool
from sft_diversity.fitting.config import FitConfig
from sft_diversity.fitting.levels import Levels, constant, fit_about_mean, resample
from sft_diversity.fitting.lines import (
    FittedLine,
    bayes,
    fisher,
    mixed_line,
    ols,
    pearson,
    spearman,
)

#: Slopes of the reference study, arXiv 2505.24768, to stand beside ours.
PUBLISHED: dict[str, dict[int, float]] = {
    "macro-instruction": {10_000: 2.37, 20_000: 1.67, 30_000: 1.45},
    "meso-instruction": {10_000: 4.93, 20_000: 3.75, 30_000: 2.07},
    "micro-instruction": {10_000: -5.45, 20_000: -2.83, 30_000: -1.80},
    "macro-response": {10_000: 0.73, 20_000: 0.97, 30_000: 0.59},
    "meso-response": {10_000: 3.61, 20_000: 1.71, 30_000: 2.00},
    "micro-response": {10_000: 5.35, 20_000: 6.68, 30_000: 10.06},
}
#: Of the figures above: they come from benchmarks, ours from whatever column was fitted.
PUBLISHED_UNIT = "benchmark points ×10⁻² per % of diversity"
_TIE = 1e-9  # of the spread of the means
_NO_SLOPE: dict[str, Any] = dict.fromkeys(
    (
        "slope", "intercept", "ci_low", "ci_high", "ci_kind", "t_low", "t_high", "t_df", "t_over",
        "boot_low", "boot_high", "p", "pearson_r", "pearson_low", "pearson_high", "spearman_r",
        "spearman_p", "bayes", "mixed", "ends", "curvature",
    )
)  # fmt: skip


def fit_slope(levels: Levels, config: FitConfig, known: Pool | None) -> dict[str, Any]:
    """Return every figure of one strategy at one size and in one regime.

    `known` is what all cells of that size and regime say of the spread of a draw.

    Notes
    -----
    The line is OLS on level means. Its t interval has levels − 2 degrees of freedom; with two
    levels it is that of their difference, spreads by `core.spreads`: where scores are counts, draws
    of both levels may be equal, and OLS on them would be sure of anything. The other interval is
    the percentile bootstrap over draws, where draws of a level differ; `ci_low` and `ci_high` are
    the wider of the two, `ci_kind` says which.
    """
    group = levels.group
    rng = seeding.generator(config.seed, "fit", group.regime, group.strategy, group.size)
    still = all(constant(draws) for draws in levels.draws)
    drawn = None if still else resample(levels, config.draws, rng)
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
        **(_line(levels, drawn, config, known) if len(means) > 1 else _NO_SLOPE),
        **best_level(levels, drawn),
        "best_margin": best_margin(levels, config.confidence, known),
        "published": published_slopes(group.strategy),
    }


def _line(
    levels: Levels, drawn: Floats | None, config: FitConfig, known: Pool | None
) -> dict[str, Any]:
    x, y = levels.at, levels.means
    line, over = _t_line(levels, config.confidence, known)
    boot = None if drawn is None else _bootstrap(x, drawn, config.confidence)
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
        "mixed": mixed_line(levels, config.confidence),
        "ends": ends(levels, config.confidence, known),
        "curvature": curvature(levels, known),
    }


def _t_line(levels: Levels, confidence: float, known: Pool | None) -> tuple[FittedLine, str]:
    """Return the line and what its t interval is over."""
    line = ols(levels.at, levels.means, confidence)
    if len(levels.at) > 2:
        return line, "level means"
    for one in _contrasts(levels, 1, [0], confidence, known):
        span = float(levels.at[1] - levels.at[0])
        low, high = one["low"] / span, one["high"] / span
        line = replace(line, df=one["df"], low=low, high=high, p=one["p"])
    return line, "draws"


def _bootstrap(x: Floats, drawn: Floats, confidence: float) -> tuple[float, float] | None:
    at = x - x.mean()
    low, high = interval(drawn @ at / float(at @ at), confidence)
    return None if low is None or high is None else (low, high)


def _wider(
    line: FittedLine, over: str, boot: tuple[float, float] | None
) -> tuple[tuple[float | None, float | None], str | None]:
    if line.low is None or line.high is None:
        return (boot, "bootstrap") if boot else ((None, None), None)
    if boot and boot[1] - boot[0] > line.high - line.low:
        return boot, "bootstrap"
    return (line.low, line.high), "t" if over == "level means" else "t over draws"


def published_slopes(strategy: str) -> dict[str, float] | None:
    """Return the published slopes of a strategy by size, `response-micro` meaning the same."""
    name = strategy.strip().lower().replace("_", "-")
    found = PUBLISHED.get(name) or PUBLISHED.get("-".join(reversed(name.split("-"))))
    return {str(size): slope for size, slope in found.items()} if found else None


def best_level(levels: Levels, drawn: Floats | None) -> dict[str, Any]:
    """Return the level with the highest mean, and in which share of resamples each level is best.

    `best_level` is None where all levels score the same, or there is only one. Levels that tie in
    a resample share it.
    """
    means = levels.means
    if len(means) < 2 or constant(means):
        return {"best_level": None, "best_level_share": None}
    found: dict[str, Any] = {"best_level": float(levels.at[int(means.argmax())])}
    shares = None
    if drawn is not None:
        near = _TIE * float(means.max() - means.min())
        first = drawn >= drawn.max(axis=1, keepdims=True) - near
        each = (first / first.sum(axis=1, keepdims=True)).mean(axis=0)
        shares = {f"{at:g}": float(share) for at, share in zip(levels.at, each, strict=True)}
    return found | {"best_level_share": shares}


def best_margin(levels: Levels, confidence: float, known: Pool | None) -> dict[str, Any] | None:
    """Compare the best level with the level that is hardest to tell from it.

    Returns
    -------
    dict or None
        See `_contrasts`; `level` is the best, `other` the one compared. None where no level is
        best, or no spread of draws is known.

    Notes
    -----
    The two-sided t test of the best mean against the next. That they were chosen by their scores
    needs no further correction: a false "clear" is likeliest where just two levels share the top
    (Gutmann & Maymin 1987, "Is the selected population the best?", Annals of Statistics 15).
    """
    means = levels.means
    if len(means) < 2 or constant(means):
        return None
    best = int(means.argmax())
    others = [i for i in range(len(means)) if i != best]
    found = _contrasts(levels, best, others, confidence, known)
    return max(found, key=lambda one: one["p"], default=None)


def ends(levels: Levels, confidence: float, known: Pool | None) -> dict[str, Any] | None:
    """Compare the highest level with the lowest, whatever lies between; see `_contrasts`.

    None below three levels, where the slope is the same, or where no spread of draws is known.
    """
    last = len(levels.at) - 1
    found = _contrasts(levels, last, [0], confidence, known) if last > 1 else []
    return found[0] if found else None


def _contrasts(
    levels: Levels, one: int, others: Sequence[int], confidence: float, known: Pool | None
) -> list[dict[str, Any]]:
    """Return the differences of a level's mean from others by t, spreads by `core.spreads`.

    Degrees of freedom are at most those of either level: where one end of a dial always spreads
    most, Welch's are too many. Nothing where the strategy has one draw a level, or no spread of
    draws is known.
    """
    if known is None or not levels.squares[1]:
        return []
    found = []
    for other in others:
        parts = [(known.cell(levels.draws[i]), float(len(levels.draws[i]))) for i in (one, other)]
        error, df = known.error(parts)
        df = min(df, *(spread.df for spread, _ in parts))
        difference = float(levels.means[one] - levels.means[other])
        reach = student_reach(confidence, df) * error
        found.append({
            "level": float(levels.at[one]),
            "other": float(levels.at[other]),
            "difference": difference,
            "low": difference - reach,
            "high": difference + reach,
            "df": df,
            "p": student_p(difference / error, df),
        })  # fmt: skip
    return found


def curvature(levels: Levels, known: Pool | None) -> dict[str, Any] | None:
    """Test whether the levels depart from a straight line.

    Returns
    -------
    dict or None
        `test` (`lack of fit` or `quadratic`), `f`, `df`, `p`. None where there is nothing to
        test with: fewer than three levels, or three with one draw each.

    Notes
    -----
    With repeated draws the level means about their weighted line (lack of fit), by Johansen's
    test (1980, Biometrika 67) with the spreads of `core.spreads`; with one draw a level the F test
    of a quadratic term.
    """
    from scipy import stats

    if len(levels.at) < 3 or constant(levels.means):
        return None
    at = (levels.at - levels.at.mean()) / levels.at.std()
    line = np.column_stack([np.ones_like(at), at])
    if known is not None and levels.squares[1]:
        spreads = [known.cell(draws) for draws in levels.draws]
        weights = np.array(
            [len(d) / s.variance for d, s in zip(levels.draws, spreads, strict=True)]
        )
        root = np.sqrt(weights)[:, None] * line
        basis, _ = np.linalg.qr(root)
        scores = np.sqrt(weights) * levels.means
        square = float(((scores - basis @ (basis.T @ scores)) ** 2).sum())
        freedom = np.array([min(spread.df, known.df) for spread in spreads])
        a = float(((1 - (basis**2).sum(axis=1)) ** 2 / freedom).sum())
        many = len(at) - 2
        f = square / (many + 2 * a - 6 * a / (many + 2))
        df = [float(many), many * (many + 2) / (3 * a)]
        return {"test": "lack of fit", "f": f, "df": df, "p": float(stats.f.sf(f, *df))}
    if levels.squares[1] or len(at) == 3:
        return None
    full = fit_about_mean(levels, np.column_stack([line, at**2]))
    df = [len(full.params) - 2, int(full.df_resid)]
    if full.ssr <= 1e-24 * full.centered_tss:  # exactly on a parabola: nothing to test against
        return {"test": "quadratic", "f": None, "df": df, "p": None}
    f, p, _ = full.compare_f_test(fit_about_mean(levels, line))
    return {"test": "quadratic", "f": max(0.0, float(f)), "df": df, "p": float(p)}
