"""How far training seeds alone spread the score."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from sft_diversity.fitting.levels import Levels
from sft_diversity.fitting.runs import BASE, Draw


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
    places = {(draw.group.regime, draw.group.size) for draw in draws if draw.group.strategy != BASE}
    for regime, size in sorted(places):
        here = [
            np.array(draw.scores)
            for draw in draws
            if (draw.group.regime, draw.group.size) == (regime, size) and len(draw.scores) > 1
        ]
        df = sum(len(scores) - 1 for scores in here)
        if not df:
            continue
        square = math.fsum(float(((scores - scores.mean()) ** 2).sum()) for scores in here)
        low, high = stats.chi2.ppf([0.5 + confidence / 2, 0.5 - confidence / 2], df)
        parts = [
            one.squares for one in levels if (one.group.regime, one.group.size) == (regime, size)
        ]
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
