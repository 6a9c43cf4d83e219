"""Which level is best, how sure that is, how far apart the ends lie, and if there is a line."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from sft_diversity.core.numbers import student_p, student_reach
from sft_diversity.fitting.levels import Floats, Levels, constant

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


def best_margin(levels: Levels, confidence: float) -> dict[str, Any] | None:
    """Compare the best level with the level that is hardest to tell from it.

    Returns
    -------
    dict or None
        See `_contrast`; `level` is the best, `other` the one compared. None where no level is
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
    others = [_contrast(levels, best, i, confidence) for i in range(len(means)) if i != best]
    known = [one for one in others if one is not None]
    return max(known, key=lambda one: float(one["p"])) if known else None


def ends(levels: Levels, confidence: float) -> dict[str, Any] | None:
    """Compare the highest level with the lowest, whatever lies between; see `_contrast`.

    None below three levels, where the slope is the same, or where no spread of draws is known.
    """
    last = len(levels.at) - 1
    return _contrast(levels, last, 0, confidence) if last > 1 else None


def _contrast(levels: Levels, one: int, other: int, confidence: float) -> dict[str, Any] | None:
    """Return the difference of two level means by t, the spread pooled over all levels' draws."""
    square, df = levels.squares
    if not df or square <= 0:
        return None
    shares = 1 / len(levels.draws[one]) + 1 / len(levels.draws[other])
    error = math.sqrt(square / df * shares)
    difference = float(levels.means[one] - levels.means[other])
    reach = student_reach(confidence, df) * error
    return {
        "level": float(levels.at[one]),
        "other": float(levels.at[other]),
        "difference": difference,
        "low": difference - reach,
        "high": difference + reach,
        "df": df,
        "p": student_p(difference / error, df),
    }


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
    from scipy import special

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
        "p": float(special.fdtrc(df, df_within, f)),
    }


def _quadratic(levels: Levels) -> dict[str, Any]:
    from scipy import special

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
    return {"test": "quadratic", "f": f, "df": [1, df], "p": float(special.fdtrc(1, df, f))}
