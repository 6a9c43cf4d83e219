"""From a table of scores to slopes, comparisons and a verdict: frames in, JSON values out."""

from __future__ import annotations

from typing import Any

import polars as pl

from sft_diversity.fitting import published
from sft_diversity.fitting.baselines import comparisons
from sft_diversity.fitting.claims import claims, judge
from sft_diversity.fitting.config import FitConfig
from sft_diversity.fitting.correlations import correlate, metrics_of
from sft_diversity.fitting.gaps import gaps
from sft_diversity.fitting.headline import headlines
from sft_diversity.fitting.levels import group_levels
from sft_diversity.fitting.noise import training_noise
from sft_diversity.fitting.runs import Account, draws_of
from sft_diversity.fitting.scores import score_kind
from sft_diversity.fitting.slopes import fit_slope
from sft_diversity.fitting.verdict import verdict


def fit_table(
    frame: pl.DataFrame, config: FitConfig, metrics: pl.DataFrame | None = None
) -> dict[str, Any]:
    """Fit a table of runs.

    Parameters
    ----------
    frame : polars.DataFrame
        Columns `strategy, size, diversity, seed` and the score, maybe `regime`, `train_seed` and
        `draw`, one row a run; cells as text or numbers, in any order. Baselines have no diversity.
    config : FitConfig
    metrics : polars.DataFrame, optional
        Columns `strategy, size, diversity, seed`, maybe `regime`, and one a metric; one row a
        subset.

    Returns
    -------
    dict
        `slopes`, `baselines`, `metrics`, `training_noise`: lists of figures; `claims`: what
        stands after correction; `verdict` and `notes`: sentences; `headlines`: the sentences of
        the verdict that answer what pays, one a regime and size; `rows`: what became of the rows;
        `score_kind`, `correction`, `confidence`, `published_unit`. JSON values only; what cannot
        be said is None.

    Raises
    ------
    DataError
        If the tables cannot be read as such (see `draws_of`, `metrics_of`).

    Notes
    -----
    p-values are corrected within a regime and a kind of claim (see `claims.judge`). About 0.1 s a
    strategy at 10,000 resamples of 12 draws.
    """
    draws, account = draws_of(frame, config.score, -1.0 if config.lower_is_better else 1.0)
    levels = group_levels(draws)
    correlated: list[dict[str, Any]] = []
    if metrics is not None:
        known = metrics_of(metrics)
        correlated, without = correlate(draws, known, config)
        _note_metrics(account, known.left_out, without)
    result: dict[str, Any] = {
        "slopes": [fit_slope(one, config) for one in levels],
        "baselines": comparisons(draws, levels, config),
        "metrics": correlated,
        "training_noise": training_noise(draws, levels, config.confidence),
        "rows": {
            "in": account.rows,
            "used": account.rows - account.no_score - account.repeated,
            "no_score": account.no_score,
            "repeated": account.repeated,
        },
        "score": f"-{config.score}" if config.lower_is_better else config.score,
        "score_kind": score_kind(frame, config),
        "correction": config.correction,
        "confidence": config.confidence,
        "published_unit": published.UNIT,
    }
    judge(result, config)
    result["claims"] = claims(result)
    result["notes"] = account.notes + gaps(draws, levels, account)
    result["headlines"] = headlines(result)
    result["verdict"] = verdict(result)
    return result


def _note_metrics(account: Account, left_out: list[str], without: int) -> None:
    if left_out:
        account.notes.append(f"Columns of metrics that are no numbers: {', '.join(left_out)}.")
    if without:
        account.notes.append(f"{without:,} draws have no row in the table of metrics.")
