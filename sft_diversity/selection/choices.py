"""From a pool and options to the picked rows and their figures, whatever the strategy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from sft_diversity.core import parquet
from sft_diversity.core.corpus import Component
from sft_diversity.core.errors import DataError
from sft_diversity.core.kernels import Rows
from sft_diversity.core.neighbours import engine
from sft_diversity.core.numbers import entropy
from sft_diversity.selection.config import NEIGHBOURS, SelectConfig, check_size
from sft_diversity.selection.constraints import achieved
from sft_diversity.selection.deita import repr_filter
from sft_diversity.selection.engine import choose_at
from sft_diversity.selection.entropy import choose_by_entropy
from sft_diversity.selection.facility_location import (
    facility_bound,
    facility_location,
    neighbour_graph,
)
from sft_diversity.selection.finish import exchange
from sft_diversity.selection.fit import fit_within
from sft_diversity.selection.k_center import k_center
from sft_diversity.selection.no_kind import without_kind_by_source
from sft_diversity.selection.pool import Pool, Tokens
from sft_diversity.selection.problem import Problem, shuffled, without_kinds

WARNED = 0.1  # share of the samples without a kind above which their sources are named


def choose_rows(pool: Pool, config: SelectConfig) -> tuple[Rows, dict[str, Any]]:
    """Return the picked rows in pick order and the figures of the choice.

    Raises
    ------
    DataError
        If the pool has fewer samples that qualify than `size`.
    """
    check_size(config.size, pool.n_samples)
    if config.needs_incidence:
        rows, made = _by_kinds(pool, config)
    elif config.needs_embeddings:
        rows, made = _by_embedding(pool, config)
    elif config.objective == "entropy":
        chosen = choose_by_entropy(pool.entropy_dial(config), config.diversity, seed=config.seed)
        rows, made = chosen.rows, chosen.figures()
    else:
        rows, made = _baseline(pool, config)
    return rows, made | describe_picks(rows, pool.tokens, config.component)


def _by_kinds(pool: Pool, config: SelectConfig) -> tuple[Rows, dict[str, Any]]:
    dial, said = pool.dial(config)
    chosen = choose_at(dial, config.diversity, fill=config.fill, seed=config.seed)
    rows = np.concatenate([chosen.rows, pool.drawn_without_kind(config)])
    allowed, empty = pool.allowed(config), pool.empty(config)
    made = chosen.figures()
    said_of_index = ("band", "share_with_kind")
    made |= {name: pool.indexed[name] for name in said_of_index if name in pool.indexed}
    made |= {
        "eligible": len(pool.pickable(config)),
        "no_kind": len(empty),
        "no_kind_picks": int(np.isin(rows, empty).sum()),
    }
    if config.no_kind == "out" and len(empty) > WARNED * len(allowed):
        made["no_kind_sources"] = without_kind_by_source(pool.sources, empty, allowed)
    return rows, made | _limited(pool, config, said, rows)


def _limited(pool: Pool, config: SelectConfig, said: dict[str, Any], rows: Rows) -> dict[str, Any]:
    """Return how the constraints were met; nothing where there were none."""
    eligible = pool.eligible(config)
    if eligible is None and not said:
        return {}
    limits, _ = pool.limits(config)
    told = said | achieved(limits, rows, eligible, pool.pickable(config))
    return {"limits": told} if told else {}


def _baseline(pool: Pool, config: SelectConfig) -> tuple[Rows, dict[str, Any]]:
    """Return random or the longest samples within the limits; no kind plays a part."""
    rows = pool.pickable(config)
    limits, said = pool.limits(config)
    if config.strategy == "longest":
        lengths = np.asarray(pool.tokens["response"].lengths, np.int64)
        order = rows[np.argsort(-lengths[rows], kind="stable")]  # ties: lowest row
    else:
        order = shuffled(rows, config.seed, "random")
    nothing = without_kinds(pool.n_samples)
    problem = Problem(nothing, limits.candidates(order), config.size, limits)
    picks = first_within(problem, config.seed)
    return picks, {"eligible": len(rows)} | _limited(pool, config, said, picks)


def first_within(problem: Problem, seed: int) -> Rows:
    """Return the rows kept, then the first candidates that the quotas still allow, `size` in all.

    A total length is reached by exchanges. Without limits a smaller size gives a prefix.

    Raises
    ------
    DataError
        If there are fewer candidates, or the limits cannot be met.
    """
    lacking = problem.lacking()
    if lacking:
        raise DataError(
            f"select: size is {problem.size:,} but {lacking}; change the size or the limit"
        )
    picks = fit_within(problem)
    return picks if problem.limits.total is None else exchange(problem, picks, seed)


def _by_embedding(pool: Pool, config: SelectConfig) -> tuple[Rows, dict[str, Any]]:
    """Return what a baseline on embeddings picks of the eligible samples."""
    free = config if config.strategy != "deita" else config.model_copy(update={"quality": None})
    rows = pool.allowed(free)
    if config.size > len(rows):
        raise DataError(
            f"select: size is {config.size:,} but only {len(rows):,} samples are eligible; "
            "lower the size"
        )
    points = pool.points(config.component)[rows]
    made: dict[str, Any] = {"eligible": len(rows), "embedded": config.component}
    if config.strategy == "k-center":
        centres = k_center(points, config.size, on=engine())
        return rows[centres.rows], made | {"radius": round(centres.radius, 6)}
    if config.strategy == NEIGHBOURS:
        graph = neighbour_graph(points, on=engine())
        found = facility_location(graph, config.size)
        bound = facility_bound(graph, found)
        made |= {"objective_value": round(found.value, 6), "objective_bound": round(bound, 6)}
        return rows[found.rows], made
    scores = pool.columns.quality(config.quality or "length")[rows]
    order = np.argsort(-np.where(np.isfinite(scores), scores, -np.inf), kind="stable")
    picks = repr_filter(points, order, config.size, threshold=config.threshold)
    if len(picks) < config.size:
        raise DataError(
            f"select: only {len(picks):,} samples are below cosine {config.threshold:g} to every "
            f"better one, size is {config.size:,}; raise --threshold or lower the size"
        )
    return rows[picks], made | {"threshold": config.threshold}


def describe_picks(
    rows: Rows, tokens: Mapping[Component, Tokens], component: Component
) -> dict[str, Any]:
    """Return the entropy of `component`'s tokens and the mean tokens of the components."""
    figures = {"entropy_bits": round(entropy(tokens[component].take(rows).occurrences), 6)}
    for name in tokens:
        figures[f"{name}_tokens"] = round(float(tokens[name].lengths[rows].mean()), 3)
    return figures


def source_mix(samples: pa.Table) -> dict[str, int]:
    """Return how many samples each source gave, most first."""
    pairs = parquet.counts(samples, "source").items()
    return dict(sorted(pairs, key=lambda pair: (-pair[1], pair[0])))
