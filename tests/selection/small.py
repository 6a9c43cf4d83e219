"""Small incidences for the tests of this folder, and the plain forms that kernels must equal."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from sft_diversity.core.incidence import Incidence
from sft_diversity.core.kernels import Floats
from sft_diversity.core.vectors import unit
from sft_diversity.selection.problem import FREE, PickLimits, Problem


def incidence(rows: list[set[int]], n_kinds: int) -> Incidence:
    """Return the incidence of `rows`; a kind's count is 1 plus its number modulo 3."""
    kinds = [sorted(row) for row in rows]
    indices = np.array([kind for row in kinds for kind in row], np.int32)
    indptr = np.cumsum([0, *map(len, kinds)]).astype(np.int64)
    return Incidence(indptr, indices, (1 + indices % 3).astype(np.int32), n_kinds)


def problem(
    rows: list[set[int]],
    n_kinds: int,
    size: int,
    pool: Sequence[int] | None = None,
    limits: PickLimits = FREE,
) -> Problem:
    """Return the problem of picking from `pool`, by default all rows that hold a kind."""
    pool = [i for i, row in enumerate(rows) if row] if pool is None else pool
    places = limits.candidates(np.array(pool, np.int64))
    return Problem(incidence(rows, n_kinds), places, size, limits)


@st.composite
def row_lists(draw, max_rows=9, max_kinds=7, min_rows=1):
    """Draw rows of kinds, some empty, with the number of kinds."""
    n_kinds = draw(st.integers(1, max_kinds))
    row = st.sets(st.integers(0, n_kinds - 1), max_size=4)
    return draw(st.lists(row, min_size=min_rows, max_size=max_rows)), n_kinds


def random_rows(n: int, n_kinds: int, seed: int) -> list[set[int]]:
    """Return `n` rows over kinds of very unequal frequency; about one row in twenty is empty."""
    rng = np.random.default_rng(seed)
    shares = 1.0 / np.arange(1, n_kinds + 1)
    sizes = rng.poisson(3.0, size=n)
    return [
        {int(kind) for kind in rng.choice(n_kinds, size=size, p=shares / shares.sum())}
        for size in sizes
    ]


def peel_plainly(rows: list[set[int]]) -> list[tuple[set[int], set[int]]]:
    """Return pool and kinds of every step, by the definition."""
    pool = {i for i, row in enumerate(rows) if row}
    steps = [(pool, {kind for i in pool for kind in rows[i]})]
    while pool:
        kinds = steps[-1][1]
        rarest = min(kinds, key=lambda kind: (sum(kind in rows[i] for i in pool), kind))
        pool = {i for i in pool if rarest not in rows[i]}
        steps.append((pool, {kind for i in pool for kind in rows[i]}))
    return steps


def greedy_plainly(rows: list[set[int]], pool: list[int], size: int, steps: Floats) -> list[int]:
    """Return the picks of plain greedy on Σ F(c_j), ties by position in `pool`."""
    held: dict[int, int] = {}
    picks: list[int] = []
    while len(picks) < min(size, len(pool)):
        gains = {}
        for i in pool:
            if i not in picks:
                total = 0.0
                for kind in sorted(rows[i]):
                    total += float(steps[min(held.get(kind, 0), len(steps) - 1)])
                gains[i] = total
        best = max(gains, key=lambda i: gains[i])
        if gains[best] <= 0:
            break
        picks.append(best)
        for kind in rows[best]:
            held[kind] = held.get(kind, 0) + 1
    return picks


def covered(rows: list[set[int]], picks) -> int:
    """Return how many kinds the picks hold."""
    return len(set().union(*(rows[i] for i in picks)))


def best_coverage(rows: list[set[int]], pool: list[int], size: int) -> int:
    """Return the most kinds that any `size` of `pool` hold."""
    return max(covered(rows, picks) for picks in combinations(pool, min(size, len(pool))))


def directions(n: int, dimensions: int, seed: int) -> npt.NDArray[np.float32]:
    """Return `n` unit vectors in a few bundles, some of them exact duplicates."""
    rng = np.random.default_rng(seed)
    middles = rng.normal(size=(1 + n // 6, dimensions))
    spread = rng.choice([0.0, 0.1, 1.0], size=(n, 1))
    drawn = middles[rng.integers(len(middles), size=n)] + spread * rng.normal(size=(n, dimensions))
    return unit(drawn.astype(np.float32))


def cosines(points: npt.NDArray[np.float32]) -> Floats:
    """Return the cosines of unit vectors, added up in four interleaved sums as kernels do."""
    pairs = points[:, None, :].astype(np.float64) * points[None, :, :]
    whole = pairs.shape[2] // 4 * 4
    sums = [np.zeros(pairs.shape[:2]) for _ in range(4)]
    for i in range(pairs.shape[2]):
        sums[i % 4 if i < whole else 0] += pairs[:, :, i]
    return (sums[0] + sums[1]) + (sums[2] + sums[3])
