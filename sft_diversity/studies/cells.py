"""The cells of a study and its runs: what is asked for, before anything is made."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from sft_diversity.core.cells import LONGEST, RANDOM, RANDOM_COMMON, Cell, Run
from sft_diversity.studies.config import COMMON, StudyConfig

#: Not for baselines.
_DIAL_ONLY = ("objective", "fill", "max_per_kind", "no_kind", "min_tokens", "band", "index")


def cells(study: StudyConfig) -> list[Cell]:
    """Return all subsets, regime by regime; baselines after the grid."""
    found = []
    for regime in study.regimes:
        axes = (study.grid[axis] for axis in ("strategy", "size", "diversity", "seed"))
        found += [Cell(regime, *values) for values in itertools.product(*axes)]
        for size in study.grid["size"]:
            for strategy, draws in (
                (RANDOM, study.baselines.random),
                (RANDOM_COMMON, study.baselines.random_common),
                (LONGEST, int(study.baselines.longest and regime == "A")),
            ):
                found += [Cell(regime, strategy, size, None, seed) for seed in range(draws)]
    return found


def runs(study: StudyConfig) -> list[Run]:
    """Return all runs: base, every cell with every training seed, the noise cell's further ones.

    The first draw of every cell comes first, then the second: a study that is stopped has whole
    curves with fewer draws.
    """
    found = [Run(None)] if study.baselines.base else []
    made = cells(study)
    order = {seed: place for place, seed in enumerate(sorted({cell.seed for cell in made}))}
    for cell in sorted(made, key=lambda cell: order[cell.seed]):
        found += [Run(cell, seed) for seed in study.train_seeds]
    noise = study.noise
    if noise is None:
        return found
    further = [s for s in range(noise.train_seeds) if s not in study.train_seeds]
    further = further[: max(noise.train_seeds - len(study.train_seeds), 0)]
    size = study.grid["size"][0] if noise.size is None else noise.size
    draw = study.grid["seed"][0] if noise.seed is None else noise.seed
    for cell in made:
        here = (cell.strategy, cell.diversity, cell.size, cell.seed)
        if here == (noise.strategy, noise.diversity, size, draw) and (
            noise.regimes is None or cell.regime in noise.regimes
        ):
            found += [Run(cell, seed) for seed in further]
    return found


def select_options(cell: Cell, study: StudyConfig, ids: Path) -> dict[str, Any]:
    """Return the options of `select` for a cell; `ids` is the folder of `prepare`'s lists."""
    options = dict(study.select)
    if cell.diversity is None:
        options = {k: v for k, v in options.items() if k not in _DIAL_ONLY}
    else:
        options["diversity"] = cell.diversity
    options |= {"strategy": cell.strategy, "size": cell.size, "seed": cell.seed}
    if cell.regime in study.whole_samples:
        options["exclude"] = str(ids / f"{cell.regime}-long.parquet")
    if cell.strategy == RANDOM_COMMON:
        options["strategy"] = RANDOM
        options["exclude"] = str(ids / f"{cell.regime}-others.parquet")
    if cell.regime == "B":
        named = str(ids / "B-common.parquet")
        options["match_length"] = named if study.match == COMMON else study.match
    return options
