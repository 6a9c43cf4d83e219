"""The diversity metrics by name: the order of a table, and what a reader sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sft_diversity.core.corpus import COMPONENTS

MetricRow = tuple[str, list[int | float | None]]

#: Metrics in the order of a table, with their titles; others follow under their own names.
METRICS = {
    "tokens_mean": "tokens, mean",
    "tokens_median": "tokens, median",
    "tokens_p90": "tokens, 90th percentile",
    "characters_mean": "characters, mean",
    **{f"distinct_{n}": f"distinct-{n}" for n in range(1, 5)},
    "distinct_1_in_10k": "distinct-1 in 10,000",
    "distinct_2_in_10k": "distinct-2 in 10,000",
    "compression_ratio": "compression ratio",
    "self_bleu": "self-BLEU",
    "token_entropy_bits": "token entropy, bits",
    "embedding_distance": "embedding distance",
    "vendi_score": "Vendi score",
    "novelsum": "NovelSum",
    **{
        f"{level}_{figure}": f"{level} {title}"
        for level in ("macro", "meso", "micro")
        for figure, title in (
            ("kinds", "kinds"),
            ("share", "kinds, share of all"),
            ("evenness", "evenness"),
        )
    },
}


def metric_title(name: str) -> str:
    """Return a metric's title; a component before its name is kept."""
    for component in COMPONENTS:
        if name.startswith((f"{component}_", f"{component}.")):
            return f"{component}: {metric_title(name[len(component) + 1 :])}"
    return METRICS.get(name, name.replace("_", " "))


def metric_rows(datasets: Sequence[Mapping[str, Any]], component: str) -> list[MetricRow]:
    """Return the metrics of a component, in the order of a table: title, a value a data set."""
    parts = [dataset[component] for dataset in datasets]
    names = {name for part in parts for name in part}
    order = [*(name for name in METRICS if name in names), *sorted(names - METRICS.keys())]
    return [(metric_title(name), [part.get(name) for part in parts]) for name in order]
