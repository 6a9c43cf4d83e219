"""Which level is best, how sure that is, and whether the levels follow a line at all."""

from __future__ import annotations

from typing import Any

import numpy as np

from sft_diversity.fit.levels import Floats, Levels, constant

_TIE = 1e-9  # of the spread of the means


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


def curvature(levels: Levels) -> dict[str, Any] | None:
    """Test whether the levels depart from a straight line.

    Returns
    -------
    dict or None
        `test` (`lack of fit` or `quadratic`), `f`, `df`, `p`. None where there is nothing to
        test with: fewer than three levels, or three with one draw each.

    Notes
    -----
    With repeated draws the F test of lack of fit: deviation of level means from the OLS line of
    the draws against the spread of draws within levels. With one draw a level the t test (as F)
    of a quadratic term.
    """
    square, df_within = levels.squares
    if len(levels.at) < 3 or constant(levels.means):
        return None
    if df_within >= 1 and square > 0:
        return _lack_of_fit(levels, square, df_within)
    return _quadratic(levels) if df_within == 0 and len(levels.at) > 3 else None


def _lack_of_fit(levels: Levels, square: float, df_within: int) -> dict[str, Any]:
    from scipy import stats

    n = np.array([len(draws) for draws in levels.draws], dtype=np.float64)
    at = levels.at - float(n @ levels.at) / n.sum()
    up = levels.means - float(n @ levels.means) / n.sum()
    slope = float((n * at) @ up) / float((n * at) @ at)
    df = len(at) - 2
    f = float(n @ (up - slope * at) ** 2) / df / (square / df_within)
    return {
        "test": "lack of fit",
        "f": f,
        "df": [df, df_within],
        "p": float(stats.f.sf(f, df, df_within)),
    }


def _quadratic(levels: Levels) -> dict[str, Any]:
    from scipy import stats

    at = (levels.at - levels.at.mean()) / levels.at.std()
    design = np.column_stack([np.ones_like(at), at, at**2])
    means = levels.means - levels.means.mean()
    rest = [
        float(((means - part @ np.linalg.lstsq(part, means, rcond=None)[0]) ** 2).sum())
        for part in (design[:, :2], design)
    ]
    df = len(at) - 3
    if rest[1] <= 1e-24 * float(means @ means):  # exactly on a parabola: nothing to test against
        return {"test": "quadratic", "f": None, "df": [1, df], "p": None}
    f = max(0.0, rest[0] - rest[1]) / (rest[1] / df)
    return {"test": "quadratic", "f": f, "df": [1, df], "p": float(stats.f.sf(f, 1, df))}
