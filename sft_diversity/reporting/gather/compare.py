"""How two subsets differ: samples, kinds, figures, options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow.compute as pc

from sft_diversity.reporting.config import ReportConfig
from sft_diversity.reporting.gather.portrait import listed
from sft_diversity.reporting.gather.reading import Kinds, Pool, Rows, Subset, among
from sft_diversity.reporting.gather.samples import drawn, texts

_SHOWN = 15


def overlap(first: Subset, second: Subset) -> dict[str, Any]:
    """Return how many samples are in both and in only one, and the Jaccard index."""
    both = int(pc.sum(pc.is_in(first.ids, value_set=second.ids)).as_py() or 0)
    union = len(first.ids) + len(second.ids) - both
    return {
        "both": both,
        "only_first": len(first.ids) - both,
        "only_second": len(second.ids) - both,
        "jaccard": round(both / max(1, union), 6),
    }


def chance(first: Subset, second: Subset, pool: Pool) -> float | None:
    """Return how many samples two random draws of these sizes would share, on average."""
    return None if not pool.size else round(len(first.ids) * len(second.ids) / pool.size, 1)


def kinds(opened: Kinds, first: Subset, second: Subset, pool: Pool) -> dict[str, Any]:
    """Return the kinds that only one holds, those most frequent in it first."""
    held = [
        opened.counts(among(one.ids, opened.ids, f"the incidence of {opened.strategy}"))
        for one in (first, second)
    ]
    whole = opened.counts()
    told: dict[str, Any] = {
        "strategy": opened.strategy,
        "total": opened.made.n_kinds,
        "both": int(((held[0] > 0) & (held[1] > 0)).sum()),
    }
    for name, mine, other in (("first", held[0], held[1]), ("second", held[1], held[0])):
        only = np.flatnonzero((mine > 0) & (other == 0))
        most = only[np.argsort(-mine[only], kind="stable")][:_SHOWN]
        told[f"held_{name}"] = int((mine > 0).sum())
        told[f"only_{name}"] = len(only)
        told[f"only_{name}_most"] = listed(most, opened, mine, whole, pool)
    return told


def groups(first: Subset, second: Subset, config: ReportConfig) -> list[dict[str, Any]]:
    """Return samples to read: only in the first, only in the second, in both."""
    if not config.samples:
        return []
    told = []
    for title, of, other, inside in (
        (f"Only in {first.name}", first, second, False),
        (f"Only in {second.name}", second, first, False),
        ("In both", first, second, True),
    ):
        mask = np.asarray(pc.is_in(of.ids, value_set=other.ids).to_numpy(zero_copy_only=False))
        rows: Rows = np.flatnonzero(mask == inside)
        rows = rows[drawn(len(rows), config.samples, config.seed, title)]
        if len(rows):
            told.append({"title": title, "samples": texts(of.texts(rows), config)})
    return told


def figures(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return plain options and figures of two manifests, and whether they differ."""
    sides = [{**one["config"], **one["result"]} for one in (first, second)]
    names = [*sides[0], *(name for name in sides[1] if name not in sides[0])]
    plain = (int, float, str)
    return [
        {"name": name, "first": sides[0].get(name), "second": sides[1].get(name)}
        for name in names
        if any(isinstance(side.get(name), plain) for side in sides)
        and all(isinstance(side.get(name), (*plain, type(None))) for side in sides)
    ]
