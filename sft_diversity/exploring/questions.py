"""Questions about a sample: why it is in or out, and which are most like it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from sft_diversity.core import vectors
from sft_diversity.exploring.comparing import shape
from sft_diversity.exploring.jobs import ASIDE, Job
from sft_diversity.exploring.session import Session
from sft_diversity.selection.explain import OpenedSubset, PickedBy, explain_row
from sft_diversity.selection.pick_state import row_sums
from sft_diversity.selection.pool import Pool
from sft_diversity.selection.problem import Problem
from sft_diversity.selection.show import reasons


def explain(of: Session, settings: Any, row: int) -> Job:
    """Return the job that says why a row is picked, or is not."""
    asked = of.asked(settings)
    of.check_row(row)

    def told() -> dict[str, Any]:
        answer, opened = of.answer(asked), of.opened(asked.config)
        by, dial, picks = None, None, answer.rows.astype(np.int64)
        if asked.config.needs_incidence:
            by = PickedBy(opened.pool.kinds, opened.names, picks)
            dial, _ = opened.pool.dial(asked.config)
        config = asked.config.model_dump(mode="json")
        manifest = {"config": config, "result": answer.told["figures"]}
        subset = OpenedSubset(manifest, of.ids, picks, by)
        points = _points(of, asked.config.component)
        found = explain_row(of.corpus.path, subset, row, points, dial)
        return {"told": found, "lines": reasons(found)}

    return of.submit(asked, told, "explain", urgency=ASIDE, key=("explain", asked.key, row))


def nearest(of: Session, settings: Any, row: int, many: int) -> Job:
    """Return the job that knows the rows most like one: by embeddings, else by kinds."""
    asked = of.asked(settings)
    of.check_row(row)

    def found() -> npt.NDArray[np.uint32]:
        points = _points(of, asked.config.component)
        alike = (
            _alike(of.opened(asked.config).pool, row) if points is None else points @ points[row]
        )
        alike[row] = -np.inf
        order = np.argsort(-alike, kind="stable")[:many]
        rows: npt.NDArray[np.uint32] = order[alike[order] > 0].astype(np.uint32)
        return rows

    key = ("nearest", shape(asked.config), row, many)
    return of.submit(asked, found, "nearest", urgency=ASIDE, key=key)


def _alike(pool: Pool, row: int) -> npt.NDArray[np.float64]:
    """Return the Jaccard index of every row's kinds with those of one."""
    if pool.incidence is None:
        return np.zeros(pool.n_samples)
    held, every = pool.kinds, np.arange(pool.n_samples)
    kinds = held.indices[held.indptr[row] : held.indptr[row + 1]]
    own = np.zeros(held.n_kinds)
    own[kinds] = 1.0
    problem = Problem(held, every, pool.n_samples)
    both = row_sums(*problem.by_row, every, own)
    either = np.diff(held.indptr) + len(kinds) - both
    return np.asarray(both / np.maximum(either, 1))


def _points(of: Session, component: str) -> vectors.Vectors | None:
    """Return the unit vectors of a component, where they are at hand."""
    place = of.embedded.get(component)
    if place is None:
        return None
    key = ("points", place, component)
    if key not in of.kept:
        of.kept[key] = vectors.read_component(place, component)[1]
    found: vectors.Vectors = of.kept[key]
    return found
