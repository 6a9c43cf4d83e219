"""From verdicts to win rates: intervals, at equal length, and what the order of answers does."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa

from sft_diversity.core import schema, seeding
from sft_diversity.core.numbers import Draws, Floats, draw, interval

#: One prompt a row. `first` is the verdict where the model's answer stood first, `second` where it
#: stood second: `model`, `baseline`, `tie`, or why there is none; null where nobody was asked.
JUDGMENTS = pa.schema(
    {
        **dict.fromkeys(("set", "record", "prompt", "status"), pa.string()),
        **dict.fromkeys(("model_chars", "baseline_chars"), pa.int64()),
        **dict.fromkeys(("first", "second", "first_text", "second_text"), pa.string()),
    }
)
#: Statuses that enter the win rate. `same`: equal answers, a tie; `model-empty`,
#: `baseline-empty`: an empty answer loses. None of these three is shown to the judge.
COUNTED = ("judged", "same", "model-empty", "baseline-empty")
WORTH = {"model": 1.0, "baseline": 0.0, "tie": 0.5}
RIDGE = 1e-3
_AT_A_TIME = 1 << 22  # weights held in float64 at once


def summarise_judgments(judgments: pa.Table, draws: int, seed: int) -> dict[str, Any]:
    """Return the figures over all prompts (`headline`) and for each set, in percent.

    Parameters
    ----------
    judgments : table of JUDGMENTS
    draws : int
        Bootstrap draws over prompts; intervals are 95 % percentiles.
    """
    table = schema.check(judgments, JUDGMENTS, "score")
    rows = table.to_pylist()
    kept = [row for row in rows if row["status"] in COUNTED]
    rng = seeding.generator(seed, "score", "bootstrap")
    drawn = draw([row["prompt"] for row in kept], draws, rng)
    sets = sorted({row["set"] for row in rows})
    return {
        "headline": _figures(kept, list(range(len(kept))), drawn),
        "sets": {
            name: _figures(kept, [i for i, row in enumerate(kept) if row["set"] == name], drawn)
            for name in sets
        },
        "verdicts": dict(sorted(Counter(_verdicts(kept)).items())),
        "statuses": dict(sorted(Counter(row["status"] for row in kept).items())),
        "skipped": dict(
            sorted(Counter(row["status"] for row in rows if row["status"] not in COUNTED).items())
        ),
    }


def shares(rows: list[dict[str, Any]]) -> Floats:
    """Return what each prompt gives the model: the mean of both orders, no verdict being half."""
    found = []
    for row in rows:
        if row["status"] == "judged":
            found.append(sum(WORTH.get(row[order], 0.5) for order in ("first", "second")) / 2)
        else:
            found.append({"same": 0.5, "model-empty": 0.0, "baseline-empty": 1.0}[row["status"]])
    return np.asarray(found, dtype=np.float64)


def _verdicts(rows: list[dict[str, Any]]) -> list[str]:
    judged = (row for row in rows if row["status"] == "judged")
    return [row[order] for row in judged for order in ("first", "second")]


def _figures(kept: list[dict[str, Any]], at: list[int], drawn: Draws) -> dict[str, Any]:
    rows = [kept[i] for i in at]
    if not rows:
        return {"prompts": 0}
    share = shares(rows)
    part = drawn.of(at)
    delta = np.array([row["model_chars"] - row["baseline_chars"] for row in rows], np.float64)
    low, high = interval(part.ratios(share, np.ones(len(rows))))
    controlled = length_controlled(share, delta, part)
    whole = [i for i, row in enumerate(rows) if row["first"] in WORTH and row["second"] in WORTH]
    return {
        "prompts": len(rows),
        "win_rate": _percent(float(share.mean())),
        "win_rate_low": _percent(low),
        "win_rate_high": _percent(high),
        "length_controlled": _percent(controlled[0]),
        "length_controlled_low": _percent(controlled[1]),
        "length_controlled_high": _percent(controlled[2]),
        "wins": int((share > 0.5).sum()),
        "ties": int((share == 0.5).sum()),
        "losses": int((share < 0.5).sum()),
        "both_verdicts": {
            "prompts": len(whole),
            "win_rate": _percent(float(share[whole].mean())) if whole else None,
        },
        "order": _order(rows, part),
        "model_chars": float(np.mean([row["model_chars"] for row in rows])),
        "baseline_chars": float(np.mean([row["baseline_chars"] for row in rows])),
    }


def _order(rows: list[dict[str, Any]], drawn: Draws) -> dict[str, Any]:
    """Say how often the answer shown first wins (50 % without bias) and how often both agree."""
    whole = [i for i, row in enumerate(rows) if row["first"] in WORTH and row["second"] in WORTH]
    if not whole:
        return {"prompts": 0, "first_wins": None, "low": None, "high": None, "consistent": None}
    first = np.array([WORTH[rows[i]["first"]] for i in whole])
    second = np.array([WORTH[rows[i]["second"]] for i in whole])
    bias = (first + 1.0 - second) / 2
    low, high = interval(drawn.of(whole).ratios(bias, np.ones(len(whole))))
    return {
        "prompts": len(whole),
        "first_wins": _percent(float(bias.mean())),
        "low": _percent(low),
        "high": _percent(high),
        "consistent": _percent(float((first == second).mean())),
    }


def length_controlled(
    share: Floats, delta: Floats, drawn: Draws
) -> tuple[float | None, float | None, float | None]:
    """Return the win rate at equal length, 0 to 1, and its 95 % interval.

    Parameters
    ----------
    share : float array, shape (n,)
        Preference for the model, 0 to 1.
    delta : float array, shape (n,)
        Length of the model's answer less that of the baseline's, in characters.

    Returns
    -------
    tuple
        Nones where lengths differ by the same amount everywhere: then nothing tells length from
        quality.

    Notes
    -----
    AlpacaEval 2 (Dubois et al. 2024, arXiv:2404.04475): logit P = θ + φ·tanh(Δ / std Δ), read at
    Δ = 0. Left out: the difficulty of each instruction, which is fitted over a whole leaderboard.
    Draws keep the std of all prompts.
    """
    scale = float(delta.std())
    if scale == 0 and delta.any():
        return None, None, None
    x = np.tanh(delta / scale) if scale > 0 else np.zeros_like(delta)
    point = fit_logistic(share, x, np.ones((1, len(share))))[0, 0]
    weights = drawn.weights[:, drawn.group_of]
    step = max(1, _AT_A_TIME // len(share))
    parts = [
        fit_logistic(share, x, np.asarray(weights[i : i + step], np.float64))
        for i in range(0, len(weights), step)
    ]
    filled = np.asarray(weights.sum(axis=1) > 0)
    low, high = interval(_logistic(np.concatenate(parts)[filled, 0]))
    return float(_logistic(np.array(point))), low, high


def fit_logistic(share: Floats, x: Floats, weights: Floats) -> Floats:
    """Return intercept and slope of weighted logistic regressions, shape (draws, 2).

    Parameters
    ----------
    share, x : float arrays, shape (n,)
        Outcome in 0 to 1 (fractions allowed) and the one regressor.
    weights : float array, shape (draws, n)

    Notes
    -----
    Newton's method on Σ w·log-likelihood − RIDGE/2·(θ² + φ²): the ridge, a thousandth of one
    prompt, keeps the estimates finite where all prompts agree. Time O(draws · n) a step.
    """
    found = np.zeros((len(weights), 2))
    for _ in range(200):
        p = _logistic(found[:, :1] + found[:, 1:] * x)
        rest, curve = weights * (share - p), weights * p * (1 - p)
        gradient = np.stack([rest.sum(axis=1), rest @ x], axis=1) - RIDGE * found
        a, b, c = curve.sum(axis=1) + RIDGE, curve @ x, curve @ (x * x) + RIDGE
        step = (
            np.stack(
                [c * gradient[:, 0] - b * gradient[:, 1], a * gradient[:, 1] - b * gradient[:, 0]],
                axis=1,
            )
            / (a * c - b * b)[:, None]
        )
        length = np.linalg.norm(step, axis=1, keepdims=True)
        found += step * np.minimum(1.0, 1.0 / np.maximum(length, 1e-300))  # no overshooting
        if float(length.max()) < 1e-10:
            break
    return found


def _logistic(z: Floats) -> Floats:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * z)), dtype=np.float64)


def _percent(value: float | None) -> float | None:
    return None if value is None else 100.0 * value
