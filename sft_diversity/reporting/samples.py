"""Two data sets side by side, and samples to read of one or both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow.compute as pc

from sft_diversity.core.numbers import Ints
from sft_diversity.core.seeding import rows_drawn
from sft_diversity.reporting.config import ReportConfig
from sft_diversity.reporting.portrait import kind_rows, labels
from sft_diversity.reporting.reading import Kinds, SourceCorpus, Subset

_PER_KIND = 2
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


def overlap_by_chance(first: Subset, second: Subset, pool: SourceCorpus) -> float | None:
    """Return how many samples two random draws of these sizes would share, on average."""
    return None if not pool.size else round(len(first.ids) * len(second.ids) / pool.size, 1)


def kinds_of_two(
    opened: Kinds, first: Subset, second: Subset, pool: SourceCorpus
) -> dict[str, Any]:
    """Return the kinds that only one holds, those most frequent in it first."""
    held = [opened.counts(opened.rows(one.ids)) for one in (first, second)]
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
        told[f"only_{name}_most"] = kind_rows(most, opened, mine, whole, pool)
    return told


def pair_groups(first: Subset, second: Subset, config: ReportConfig) -> list[dict[str, Any]]:
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
        rows: Ints = np.flatnonzero(mask == inside)
        rows = rows[rows_drawn(len(rows), config.samples, config.seed, "report", title)]
        if len(rows):
            told.append({"title": title, "samples": short_texts(of.texts(rows), config)})
    return told


def plain_figures(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[dict[str, Any]]:
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


def sample_groups(
    subset: Subset, pool: SourceCorpus, opened: Kinds | None, config: ReportConfig
) -> list[dict[str, Any]]:
    """Return groups of samples, each with a title and shortened texts.

    Drawn by seed, so that the page shows what is typical and not what is first.
    """
    if not config.samples:
        return []
    own = rows_drawn(len(subset.ids), config.samples, config.seed, "report", "picked")
    told = [{"title": "Picked", "samples": short_texts(subset.texts(own), config)}]
    if pool.table is None or pool.size == len(subset.ids):
        told[0]["title"] = "Samples"
    else:
        left = np.setdiff1d(np.arange(pool.size), pool.rows(subset.ids))
        rows = left[rows_drawn(len(left), config.samples, config.seed, "report", "left")]
        told.append({"title": "Not picked", "samples": short_texts(pool.texts(rows), config)})
    if opened is not None and pool.table is not None:
        told += by_kind(subset, pool, opened, config)
    return told


def by_kind(
    subset: Subset, pool: SourceCorpus, opened: Kinds, config: ReportConfig
) -> list[dict[str, Any]]:
    """Return samples of the kind held most, of one in the middle and of one held once."""
    rows = opened.rows(subset.ids)
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
            "samples": short_texts(
                subset.texts(holder[made.indices == kind][:_PER_KIND].astype(np.int64)), config
            ),
        }
        for kind, name in zip(chosen, names, strict=True)
    ]


def short_texts(found: list[dict[str, Any]], config: ReportConfig) -> list[dict[str, Any]]:
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
