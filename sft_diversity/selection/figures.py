"""The figures that come with every subset, whatever chose it: entropy, lengths, sources."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from sft_diversity.core.corpus import COMPONENTS, Component
from sft_diversity.core.kernels import Rows
from sft_diversity.core.tokens import TokenPass
from sft_diversity.selection import entropy


def describe(
    rows: Rows, tokens: Mapping[Component, TokenPass], component: Component
) -> dict[str, Any]:
    """Return the entropy of `component`'s tokens and the mean tokens of both components."""
    figures = {"entropy_bits": round(entropy.entropy_bits(tokens[component].incidence, rows), 6)}
    for name in COMPONENTS:
        figures[f"{name}_tokens"] = round(float(tokens[name].lengths[rows].mean()), 3)
    return figures


def source_mix(samples: pa.Table) -> dict[str, int]:
    """Return how many samples each source gave, most first."""
    counted = samples["source"].value_counts().to_pylist()
    pairs = [(entry["values"], entry["counts"]) for entry in counted]
    return dict(sorted(pairs, key=lambda pair: (-pair[1], pair[0])))
