"""What `measure` shows people."""

from __future__ import annotations

from typing import Any

from sft_diversity.core.measures import metric_rows
from sft_diversity.core.show import numbers


def measured(result: dict[str, Any]) -> str:
    """Return a block a component: metrics as rows, data sets as columns."""
    blocks = []
    for component in result["components"]:
        heads = [dataset["name"] for dataset in result["datasets"]]
        rows = [[component, *heads], ["samples", *(f"{d['rows']:,}" for d in result["datasets"])]]
        for title, values in metric_rows(result["datasets"], component):
            rows.append([title, *map(figure, values)])
        blocks.append(numbers(rows))
    note = (
        f"self-BLEU of {result['self_bleu_sample']:,} texts, NovelSum of at most "
        f"{result['novelsum_sample']:,} samples against {result['reference_sample']:,} of the "
        "corpus; what each row means: docs/measures.md"
    )
    return "\n\n".join([*blocks, f"{note}\n{result['out']}"])


def figure(value: float | int | None) -> str:
    """Return a count in full, another figure with four digits."""
    if value is None:
        return "-"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:#.4g}".rstrip(".")
