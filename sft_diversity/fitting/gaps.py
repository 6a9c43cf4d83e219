"""What a table lacks: rows without a score, cells nobody ran, baselines."""

from __future__ import annotations

from collections.abc import Sequence

from sft_diversity.fitting.levels import Levels
from sft_diversity.fitting.runs import BASE, Account, Draw

_SHOWN = 6
_FEW = 3  # draws below which the spread of a cell is hardly known


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
    places = sorted({(one.group.regime, one.group.size) for one in levels})
    for regime, size in places:
        here = [one for one in levels if (one.group.regime, one.group.size) == (regime, size)]
        where = place_name(regime, size)
        said += [f"{where}: {text}" for text in [*_cells(here), *_random(draws, regime, size)]]
    return said


def place_name(regime: str | None, size: int) -> str:
    """Return regime and size as a sentence begins with them."""
    return f"Regime {regime}, N = {size:,}" if regime else f"N = {size:,}"


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
        draw.group.strategy == "random"
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
