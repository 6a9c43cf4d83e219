"""How two subsets of one corpus differ: rows, kinds, sources, figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sft_diversity.core.incidence import Incidence
from sft_diversity.core.kernels import Rows
from sft_diversity.selection.tally import count_kinds

_SHOWN = 20


def rows(one: Rows, other: Rows) -> dict[str, Any]:
    """Return how many rows are in both and in only one, and the Jaccard index."""
    both = len(np.intersect1d(one, other))
    union = len(one) + len(other) - both
    return {
        "both": both,
        "only_first": len(one) - both,
        "only_second": len(other) - both,
        "jaccard": round(both / max(1, union), 4),
    }


def kinds(made: Incidence, names: Sequence[str], one: Rows, other: Rows) -> dict[str, Any]:
    """Return the kinds of each subset and those that only one holds, the most frequent first."""
    held = [count_kinds(made.indptr, made.indices, part, made.n_kinds) for part in (one, other)]
    told: dict[str, Any] = {"both": int(((held[0] > 0) & (held[1] > 0)).sum())}
    for name, at in (("first", 0), ("second", 1)):
        mine, theirs = held[at], held[1 - at]
        only = np.flatnonzero((mine > 0) & (theirs == 0))
        most = only[np.argsort(-mine[only], kind="stable")][:_SHOWN]
        told[f"only_{name}"] = len(only)
        told[f"only_{name}_most"] = {names[int(kind)]: int(mine[kind]) for kind in most}
    return told


def mixes(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, list[float]]:
    """Return the share of each source in both, the greatest difference first."""
    shares = {
        name: [part.get(name, 0) / max(1, sum(part.values())) for part in (one, other)]
        for name in {*one, *other}
    }
    order = sorted(shares, key=lambda name: (-abs(shares[name][0] - shares[name][1]), name))
    return {name: [round(share, 4) for share in shares[name]] for name in order}


def figures(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return the figures and options that differ between two results, in the first's order."""
    names = [*one, *(name for name in other if name not in one)]
    plain = (int, float, str, type(None))
    return {
        name: [one.get(name), other.get(name)]
        for name in names
        if one.get(name) != other.get(name)
        and isinstance(one.get(name), plain)
        and isinstance(other.get(name), plain)
    }
