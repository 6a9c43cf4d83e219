"""From a table of scores to slopes, comparisons and a verdict: frames in, JSON values out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sft_diversity.core.cells import BASE, RANDOM
from sft_diversity.fitting.baselines import comparisons, spread_pools
from sft_diversity.fitting.claims import claims, judge_claims
from sft_diversity.fitting.config import FitConfig
from sft_diversity.fitting.correlations import correlate, metrics_of
from sft_diversity.fitting.headline import headlines, place_name
from sft_diversity.fitting.levels import Levels, group_levels, training_noise
from sft_diversity.fitting.reading import Account, Draw, draws_of, generated, score_kind
from sft_diversity.fitting.slopes import PUBLISHED_UNIT, fit_slope
from sft_diversity.fitting.verdict import verdict_sentences
from sft_diversity.fitting.worth import rests_on

if TYPE_CHECKING:
    import polars as pl

_SHOWN = 6
_FEW = 3  # draws below which the spread of a cell is hardly known


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
        `score_kind`, `correction`, `confidence`, `published_unit`; `rests_on`: how often that kind
        of score chose right in public runs. JSON values only; what cannot be said is None.

    Raises
    ------
    DataError
        If the tables cannot be read as such (see `draws_of`, `metrics_of`).

    Notes
    -----
    p-values are corrected within a regime and a kind of claim (see `judge_claims`). About 0.1 s a
    strategy at 10,000 resamples of 12 draws.
    """
    draws, account = draws_of(frame, config.score, -1.0 if config.lower_is_better else 1.0)
    levels, pools = group_levels(draws), spread_pools(draws)
    correlated: list[dict[str, Any]] = []
    if metrics is not None:
        known = metrics_of(metrics)
        correlated, without = correlate(draws, known, config)
        _note_metrics(account, known.left_out, without)
    result: dict[str, Any] = {
        "slopes": [fit_slope(one, config, pools[one.group.place]) for one in levels],
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
        "published_unit": PUBLISHED_UNIT,
    }
    judge_claims(result, config)
    result["claims"] = claims(result)
    result["notes"] = account.notes + gaps(draws, levels, account)
    result["headlines"] = headlines(result)
    result["rests_on"] = rests_on(result["score_kind"])
    if result["rests_on"]["kind"] == "loss" and (better := generated(frame)):
        result["rests_on"]["sentence"] += (
            f" The table has scores of generated answers ({', '.join(better)}): they carry a "
            "headline, a loss alone does not."
        )
    result["verdict"] = [*verdict_sentences(result), result["rests_on"]["sentence"]]
    return result


def _note_metrics(account: Account, left_out: list[str], without: int) -> None:
    if left_out:
        account.notes.append(f"Columns of metrics that are no numbers: {', '.join(left_out)}.")
    if without:
        account.notes.append(f"{without:,} draws have no row in the table of metrics.")


def gaps(draws: Sequence[Draw], levels: Sequence[Levels], account: Account) -> list[str]:
    """Return a sentence for everything the table lacks."""
    said = []
    if account.no_score:
        said.append(f"{_rows(account.no_score)} without a finite score left out.")
    if account.repeated:
        said.append(f"{_rows(account.repeated)} repeated another and left out.")
    at = [float(one.at.max()) for one in levels]
    if at and 0 < max(at) <= 1:
        said.append("No diversity exceeds 1: it is read as percent; is it a share from 0 to 1?")
    places = sorted({one.group.place for one in levels})
    for regime, size in places:
        here = [one for one in levels if one.group.place == (regime, size)]
        where = place_name(regime, size)
        said += [f"{where}: {text}" for text in [*_cells(here), *_random(draws, regime, size)]]
    return said


def _cells(here: Sequence[Levels]) -> list[str]:
    """Say which levels a strategy lacks that another has, and which cells have fewer draws."""
    every = sorted({float(at) for one in here for at in one.at})
    most = max(len(draws) for one in here for draws in one.draws)
    lacking, short = [], []
    for one in here:
        drawn = dict(zip(map(float, one.at), map(len, one.draws), strict=True))
        lacking += [f"{one.group.strategy} {at:g} %" for at in every if at not in drawn]
        short += [f"{one.group.strategy} {at:g} % ({n})" for at, n in drawn.items() if n < most]
    said = []
    if lacking:
        said.append(f"cells without a run: {_some(lacking)}.")
    if short:
        said.append(f"cells with fewer than {most} draws: {_some(short)}.")
    return said


def _random(draws: Sequence[Draw], regime: str, size: int) -> list[str]:
    n = sum(
        draw.group.strategy == RANDOM
        and draw.group.size == size
        and draw.group.regime in ("", regime)
        for draw in draws
    )
    said = []
    if not n:
        said.append("no random subset: whether any selection beats random cannot be said.")
    elif n < _FEW:
        said.append(f"{n} random {'subset' if n == 1 else 'subsets'}; three or more are wanted.")
    if not any(draw.group.strategy == BASE for draw in draws):
        said.append("no base model: what fine-tuning itself brought cannot be said.")
    return said


def _rows(n: int) -> str:
    return "1 row" if n == 1 else f"{n:,} rows"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
