"""Samples to read: picked, not picked, and a few that hold given kinds."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from sft_diversity.core import seeding
from sft_diversity.reporting.config import ReportConfig
from sft_diversity.reporting.gather.portrait import labels
from sft_diversity.reporting.gather.reading import Kinds, Pool, Rows, Subset, among

_PER_KIND = 2


def groups(
    subset: Subset, pool: Pool, opened: Kinds | None, config: ReportConfig
) -> list[dict[str, Any]]:
    """Return groups of samples, each with a title and shortened texts.

    Drawn by seed, so that the page shows what is typical and not what is first.
    """
    if not config.samples:
        return []
    own = drawn(len(subset.ids), config.samples, config.seed, "picked")
    told = [{"title": "Picked", "samples": texts(subset.texts(own), config)}]
    if pool.table is None or pool.size == len(subset.ids):
        told[0]["title"] = "Samples"
    else:
        left = np.setdiff1d(np.arange(pool.size), pool.rows(subset.ids))
        rows = left[drawn(len(left), config.samples, config.seed, "left")]
        told.append({"title": "Not picked", "samples": texts(pool.texts(rows), config)})
    if opened is not None and pool.table is not None:
        told += by_kind(subset, pool, opened, config)
    return told


def by_kind(
    subset: Subset, pool: Pool, opened: Kinds, config: ReportConfig
) -> list[dict[str, Any]]:
    """Return samples of the kind held most, of one in the middle and of one held once."""
    rows = among(subset.ids, opened.ids, f"the incidence of {opened.strategy}")
    made = opened.made.take(rows)
    counts = np.bincount(made.indices, minlength=made.n_kinds)
    held = np.flatnonzero(counts)
    if not len(held):
        return []
    order = held[np.argsort(-counts[held], kind="stable")]
    chosen = list(dict.fromkeys(int(order[at]) for at in (0, len(order) // 2, len(order) - 1)))
    holder = np.repeat(np.arange(made.n_samples), np.diff(made.indptr))
    names = labels(chosen, opened, pool)
    return [
        {
            "title": f"Of kind {name}",
            "note": f"{counts[kind]:,} picks hold it ({opened.strategy})",
            "samples": texts(
                subset.texts(holder[made.indices == kind][:_PER_KIND].astype(np.int64)), config
            ),
        }
        for kind, name in zip(chosen, names, strict=True)
    ]


def texts(found: list[dict[str, Any]], config: ReportConfig) -> list[dict[str, Any]]:
    """Return samples with their texts shortened, and how long those were."""
    told = []
    for sample in found:
        one = {"id": sample["id"], "source": sample["source"]}
        for part in ("instruction", "response"):
            whole = sample[part]
            one[part] = whole[: config.characters]
            one[f"{part}_characters"] = len(whole)
        told.append(one)
    return told


def drawn(n: int, size: int, seed: int, *purpose: str) -> Rows:
    """Return at most `size` of n rows, ascending."""
    if n <= size:
        return np.arange(n)
    rng = seeding.generator(seed, "report", *purpose)
    rows: npt.NDArray[np.int64] = np.sort(rng.choice(n, size, replace=False)).astype(np.int64)
    return rows
