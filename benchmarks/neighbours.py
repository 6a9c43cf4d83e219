"""Nearest vectors on the CPU: FAISS against NumPy's products.

    python benchmarks/neighbours.py [--rows 117000] [--units 20000] [--rounds 3]

What k-means, facility location and near-synonyms ask: assignment to k centroids (k = √n, and
2,000), the 32 nearest of each unit, and all pairs of units above a cosine. Both sides in turns, the
best of the rounds; wall and processor seconds. Writes results/neighbours.json.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from sft_diversity.core import machine, neighbours
from sft_diversity.core.vectors import Vectors, unit

RESULT = Path(__file__).with_name("results") / "neighbours.json"
DIMENSIONS, THRESHOLD = 384, 0.9


def faiss_assign(vectors: Vectors, centroids: Vectors) -> Any:
    """Return the nearest centroid of each row as FAISS finds it."""
    return neighbours.nearest(centroids, vectors, 1)[:, 0]


def numpy_nearest(points: Vectors, number: int) -> Any:
    """Return the nearest rows of each row, in no order, by products and partition."""
    found = []
    for at in range(0, len(points), 1_024):
        made = points[at : at + 1_024] @ points.T
        found.append(np.argpartition(-made, number - 1, axis=1)[:, :number])
    return np.concatenate(found)


def numpy_pairs(points: Vectors) -> int:
    """Return how many pairs are above the threshold, looked for as near-synonyms are."""
    count = 0
    for at in range(0, len(points), 1_024):
        made = points[at : at + 1_024] @ points[: at + 1_024].T
        count += int((made >= THRESHOLD).sum())
    return count


def faiss_pairs(points: Vectors) -> int:
    """Return how many pairs FAISS's range search finds, each twice."""
    import faiss

    index: Any = faiss.IndexFlatIP(points.shape[1])
    index.add(points)
    return int(index.range_search(points, THRESHOLD)[0][-1])


def in_turns(sides: dict[str, Callable[[], Any]], rounds: int) -> dict[str, Any]:
    """Return the best wall and processor seconds of each side."""
    best: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, run in sides.items():
            clock, cpu = time.perf_counter(), time.process_time()
            run()
            took = [time.perf_counter() - clock, time.process_time() - cpu]
            best[name] = [min(a, b) for a, b in zip(best.get(name, took), took, strict=True)]
    return {
        name: {"seconds": round(wall, 3), "processor_seconds": round(cpu, 3)}
        for name, (wall, cpu) in best.items()
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=117_000)
    parser.add_argument("--units", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--busy", action="store_true", help="others use this machine: upper bounds")
    asked = parser.parse_args()
    rng = np.random.default_rng(0)
    vectors = unit(rng.normal(size=(asked.rows, DIMENSIONS)))
    units = vectors[: asked.units]
    found: dict[str, Any] = {"rows": asked.rows, "units": asked.units, "busy": asked.busy}
    found["threads"] = os.environ.get("OMP_NUM_THREADS", "all cores")
    for k in (round(asked.rows**0.5), 2_000):
        centroids = unit(rng.normal(size=(k, DIMENSIONS)))
        by_faiss = faiss_assign(vectors, centroids)
        found[f"assign to {k}"] = in_turns(
            {
                "faiss": lambda c=centroids: faiss_assign(vectors, c),  # type: ignore[misc]
                "numpy": lambda c=centroids: neighbours.assign(vectors, c),  # type: ignore[misc]
            },
            asked.rounds,
        ) | {"differ": int((by_faiss != neighbours.assign(vectors, centroids)).sum())}
    found["32 nearest of each unit"] = in_turns(
        {
            "faiss": lambda: neighbours.nearest(units, units, 32),
            "numpy": lambda: numpy_nearest(units, 32),
        },
        1,
    )
    found[f"pairs of units above {THRESHOLD}"] = in_turns(
        {"faiss": lambda: faiss_pairs(units), "numpy": lambda: numpy_pairs(units)}, 1
    )
    found["machine"] = machine.measured_on()
    RESULT.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
