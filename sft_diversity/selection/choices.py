"""From a pool and options to the picked rows, whatever the strategy."""

from __future__ import annotations

from typing import Any

import numpy as np

from sft_diversity.core.errors import DataError
from sft_diversity.core.kernels import Rows
from sft_diversity.selection import baselines, constraints, figures, no_kind
from sft_diversity.selection.chance import Chance
from sft_diversity.selection.config import SelectConfig
from sft_diversity.selection.embedded import repr_filter
from sft_diversity.selection.embedded.facility import facility_bound, facility_location
from sft_diversity.selection.embedded.kcenter import k_center
from sft_diversity.selection.embedded.neighbours import neighbour_graph
from sft_diversity.selection.engine import choose_at
from sft_diversity.selection.entropy import choose_by_entropy
from sft_diversity.selection.pool import Pool

WARNED = 0.1  # share of the samples without a kind above which their sources are named


def choose(pool: Pool, config: SelectConfig) -> tuple[Rows, dict[str, Any]]:
    """Return the picked rows in pick order and the figures of the choice.

    Raises
    ------
    DataError
        If the pool has fewer samples that qualify than `size`.
    """
    constraints.check_size(config.size, pool.n_samples)
    if config.needs_incidence:
        rows, made = _by_kinds(pool, config)
    elif config.needs_embeddings:
        rows, made = _by_embedding(pool, config)
    elif config.objective == "entropy":
        rows, made = _by_entropy(pool, config)
    else:
        rows, made = _baseline(pool, config)
    return rows, made | figures.describe(rows, pool.tokens, config.component)


def _by_kinds(pool: Pool, config: SelectConfig) -> tuple[Rows, dict[str, Any]]:
    dial, said = pool.dial(config)
    chosen = choose_at(dial, config.diversity, fill=config.fill, seed=config.seed)
    rows = np.concatenate([chosen.rows, pool.drawn_without_kind(config)])
    names = (
        "kinds_total", "k_min", "k_max", "free_k_min", "free_k_max", "k_min_bound", "kinds_target",
        "kinds_covered", "coverage_bound", "share_of_optimum", "free_picks", "pool", "eligible",
        "no_kind",
    )  # fmt: skip
    made: dict[str, Any] = {name: getattr(chosen, name) for name in names}
    made["evenness"] = round(chosen.evenness, 6)
    made |= _random("kinds", dial.chance, chosen.random_percent, 1)
    if chosen.objective is not None:
        made |= {"objective_value": chosen.objective, "objective_bound": chosen.objective_bound}
    made |= _eligible(pool, config, rows)
    return rows, made | _limited(pool, config, said, rows)


def _random(unit: str, chance: Chance, percent: float | None, digits: int) -> dict[str, Any]:
    """Return where random samples stand on the dial, for a result."""
    return {
        f"random_{unit}": round(chance.mean, digits),
        "random_sd": None if chance.sd is None else round(chance.sd, digits),
        "random_percent": None if percent is None else round(percent, 1),
    }


def _eligible(pool: Pool, config: SelectConfig, rows: Rows) -> dict[str, Any]:
    """Return what may be picked, what holds no kind, and how many of the picks are of that."""
    allowed, empty = pool.allowed(config), pool.empty(config)
    indexed = pool.index_figures[config.strategy]
    made = {name: indexed[name] for name in ("band", "share_with_kind") if name in indexed} | {
        "eligible": len(pool.pickable(config)),
        "no_kind": len(empty),
        "no_kind_picks": int(np.isin(rows, empty).sum()),
    }
    if config.no_kind == "out" and len(empty) > WARNED * len(allowed):
        made["no_kind_sources"] = no_kind.by_source(pool.sources, empty, allowed)
    return made


def _limited(pool: Pool, config: SelectConfig, said: dict[str, Any], rows: Rows) -> dict[str, Any]:
    """Return how the constraints were met; nothing where there were none."""
    if pool.eligible(config) is None and not said:
        return {}
    limits, _ = pool.limits(config)
    told = dict(said) | constraints.achieved(
        limits, rows, pool.eligible(config), pool.pickable(config)
    )
    return {"limits": told} if told else {}


def _by_entropy(pool: Pool, config: SelectConfig) -> tuple[Rows, dict[str, Any]]:
    dial = pool.entropy_dial(config)
    chosen = choose_by_entropy(dial, config.diversity, seed=config.seed)
    made = {
        "target_bits": round(chosen.target_bits, 6),
        "low_bits": round(chosen.low_bits, 6),
        "tilt_bits": round(chosen.tilt_bits, 6),
        "high_bits": round(chosen.high_bits, 6),
        "entropy_bound": float(np.ceil(dial.bound_bits * 1e6) / 1e6),
        **_random("bits", dial.chance, dial.percent(dial.chance.mean), 6),
        "target_missed": chosen.missed,
        "beta": round(chosen.beta, 6),
        "greedy_picks": chosen.greedy_picks,
        "eligible": chosen.eligible,
        "too_short": chosen.too_short,
    }
    return chosen.rows, made


def _baseline(pool: Pool, config: SelectConfig) -> tuple[Rows, dict[str, Any]]:
    """Return random or the longest samples within the limits; no kind plays a part."""
    rows = pool.pickable(config)
    limits, said = pool.limits(config)
    if config.strategy == "longest":
        lengths = np.asarray(pool.tokens["response"].lengths)
        order = baselines.longest_first(rows, lengths)
    else:
        order = baselines.random_order(rows, config.seed)
    picks = baselines.first_within(order, config.size, limits, config.seed)
    return picks, {"eligible": len(rows)} | _limited(pool, config, said, picks)


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
        centres = k_center(points, config.size)
        return rows[centres.rows], made | {"radius": round(centres.radius, 6)}
    if config.strategy == "facility-location":
        graph = neighbour_graph(points)
        found = facility_location(graph, config.size)
        bound = facility_bound(graph, found)
        made |= {"objective_value": round(found.value, 6), "objective_bound": round(bound, 6)}
        return rows[found.rows], made
    scores = constraints.quality_of(pool.source, config.quality or "length")[rows]
    order = np.argsort(-np.where(np.isfinite(scores), scores, -np.inf), kind="stable")
    picks = repr_filter.repr_filter(points, order, config.size, threshold=config.threshold)
    if len(picks) < config.size:
        raise DataError(
            f"select: only {len(picks):,} samples are below cosine {config.threshold:g} to every "
            f"better one, size is {config.size:,}; raise --threshold or lower the size"
        )
    return rows[picks], made | {"threshold": config.threshold}
