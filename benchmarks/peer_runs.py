"""One peer, one task: run by `select_vs_peers.py` in a process of its own, with the peer's Python.

    python benchmarks/peer_runs.py TASK FOLDER SIZE --out OUT [--threshold T]
        [--deita CHECKOUT]

FOLDER holds the inputs that both sides get. The picks go to the file OUT; to standard output go
the wall and CPU seconds of the peer's call, of apricot's those of its optimiser alone: every fit
of it compiles its kernels anew. Needs numpy, scipy and the peer, nothing of this package.
"""

# the peers are in an environment of their own
# mypy: disable-error-code="import-not-found, import-untyped, attr-defined"

from __future__ import annotations

import argparse
import importlib.util
import json
import resource
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix


def incidence(folder: Path, rows: int | None = None) -> Any:
    """Return the incidence as the sparse matrix of ones that apricot takes."""
    indptr, indices = np.load(folder / "indptr.npy"), np.load(folder / "indices.npy")
    kinds = int(np.load(folder / "n_kinds.npy"))
    values = np.ones(len(indices), np.float64)
    matrix = csr_matrix((values, indices, indptr), shape=(len(indptr) - 1, kinds))
    return matrix if rows is None else matrix[:rows]


def graph(folder: Path, rows: int | None = None) -> Any:
    """Return the neighbour graph as a sparse matrix of similarities."""
    parts = [np.load(folder / f"graph_{name}.npy") for name in ("similarity", "indices", "indptr")]
    n = len(parts[2]) - 1
    matrix = csr_matrix((parts[0], parts[1].astype(np.int32), parts[2].astype(np.int32)), (n, n))
    return matrix if rows is None else matrix[:rows][:, :rows].tocsr()


def apricot(make: Callable[[int], Any], matrix: Callable[[Path, int | None], Any]) -> Any:
    """Return how a selector of apricot is run."""

    def prepare(asked: argparse.Namespace, rows: int | None, size: int) -> Callable[[], Any]:
        import apricot.optimizers as optimizers

        given = matrix(asked.folder, rows)
        for made in (optimizers.LazyGreedy, optimizers.NaiveGreedy):
            made.select = clocked(made.select)
        return lambda: make(size).fit(given).ranking

    return prepare


def clocked(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return the method, leaving the seconds of its last call in `INNER`."""

    def run(*given: Any, **named: Any) -> Any:
        result, INNER["wall"], INNER["cpu"] = timed(lambda: method(*given, **named))
        return result

    return run


INNER: dict[str, float] = {}


def coverage(size: int) -> Any:
    """Return apricot's maximum coverage."""
    from apricot import MaxCoverageSelection

    return MaxCoverageSelection(size, threshold=1.0, optimizer="lazy")


def features(function: str) -> Callable[[int], Any]:
    """Return apricot's feature-based selection."""

    def make(size: int) -> Any:
        from apricot import FeatureBasedSelection

        return FeatureBasedSelection(size, concave_func=function, optimizer="lazy")

    return make


def facility(optimizer: str) -> Callable[[int], Any]:
    """Return apricot's facility location on a given graph."""

    def make(size: int) -> Any:
        from apricot import FacilityLocationSelection

        return FacilityLocationSelection(size, metric="precomputed", optimizer=optimizer)

    return make


def set_cover(asked: argparse.Namespace, rows: int | None, size: int) -> Callable[[], Any]:
    """Return how submodlib covers; making its C++ object counts as running it."""
    from submodlib import SetCoverFunction

    matrix = incidence(asked.folder, rows)
    sets = [set(matrix[i].indices.tolist()) for i in range(matrix.shape[0])]
    n, kinds = matrix.shape
    return lambda: lazily(SetCoverFunction(n, sets, kinds), size)


def submodlib_features(asked: argparse.Namespace, rows: int | None, size: int) -> Callable[[], Any]:
    """Return how submodlib runs feature-based selection: it takes dense features only."""
    from submodlib import FeatureBasedFunction
    from submodlib_cpp import FeatureBased

    dense = incidence(asked.folder, rows).toarray()
    n, kinds = dense.shape
    logarithm = FeatureBased.logarithmic
    return lambda: lazily(FeatureBasedFunction(n, dense, kinds, False, mode=logarithm), size)


def submodlib_facility(asked: argparse.Namespace, rows: int | None, size: int) -> Callable[[], Any]:
    """Return how submodlib runs facility location on a given sparse graph."""
    from submodlib import FacilityLocationFunction

    near = graph(asked.folder, rows)
    n, most = near.shape[0], int(np.diff(near.indptr).max())

    def run() -> Any:
        made = FacilityLocationFunction(n, "sparse", sijs=near, num_neighbors=most)
        return lazily(made, size)

    return run


def lazily(made: Any, size: int) -> list[int]:
    """Return submodlib's picks by lazy greedy."""
    found = made.maximize(size, optimizer="LazyGreedy", show_progress=False)
    return [row for row, _ in found]


def pyversity(strategy: str) -> Any:
    """Return how pyversity is run: diversity alone, the first row the most relevant."""

    def prepare(asked: argparse.Namespace, rows: int | None, size: int) -> Callable[[], Any]:
        from pyversity import diversify

        points = np.load(asked.folder / "points.npy")[:rows]
        scores = np.zeros(len(points), np.float32)
        scores[0] = 1.0
        arguments = {"k": size, "strategy": strategy, "diversity": 1.0}
        return lambda: diversify(points, scores, **arguments).indices

    return prepare


def deita(asked: argparse.Namespace, rows: int | None, size: int) -> Callable[[], Any]:
    """Return how the published filter is run, its own class, with distinct scores to sort by."""
    import pandas as pd

    place = asked.deita / "src/deita/selection/filter/base.py"
    found = importlib.util.spec_from_file_location("deita_filter", place)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    module.tqdm = lambda steps, **_: steps  # no bar in a log

    class ByScore(module.IterativeFilter):  # type: ignore[name-defined, misc]
        def _sort(self, df: pd.DataFrame) -> pd.DataFrame:
            return df.sort_values(by="score", ascending=False)

    points = np.load(asked.folder / "points.npy")[:rows]
    score = np.load(asked.folder / "score.npy")[: len(points)]
    table = pd.DataFrame({"embedding": list(points), "score": score})
    made = ByScore(
        threshold=asked.threshold, data_size=size, chunk_size=100_000, device="cpu", batch_size=1
    )
    return lambda: made.filter(table).index.to_numpy()


TASKS: dict[str, tuple[str, Any]] = {
    "apricot-coverage": ("apricot-select", apricot(coverage, incidence)),
    "apricot-log": ("apricot-select", apricot(features("log"), incidence)),
    "apricot-sqrt": ("apricot-select", apricot(features("sqrt"), incidence)),
    "apricot-facility": ("apricot-select", apricot(facility("lazy"), graph)),
    "apricot-facility-naive": ("apricot-select", apricot(facility("naive"), graph)),
    "submodlib-coverage": ("submodlib-py", set_cover),
    "submodlib-log": ("submodlib-py", submodlib_features),
    "submodlib-facility": ("submodlib-py", submodlib_facility),
    "pyversity-mmr": ("pyversity", pyversity("mmr")),
    "pyversity-cover": ("pyversity", pyversity("cover")),
    "deita": ("torch", deita),
}


def main() -> None:
    """Run one task."""
    parser = argparse.ArgumentParser()
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("size", type=int)
    parser.add_argument("--threshold", type=float, default=0.9)
    parser.add_argument("--deita", type=Path)
    parser.add_argument("--gigabytes", type=float, default=14.0)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    limit = int(asked.gigabytes * 1e9)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    package, prepare = TASKS[asked.task]
    prepare(asked, 200, 5)()
    picks, wall, cpu = timed(prepare(asked, None, asked.size))
    np.save(asked.out, np.asarray(picks, np.int64))
    report = {"seconds": wall, "cpu": cpu, "version": version(package)}
    if INNER:
        report |= {"seconds": INNER["wall"], "cpu": INNER["cpu"], "with_compiling": wall}
    print(json.dumps(report))


def timed(run: Callable[[], Any]) -> tuple[Any, float, float]:
    """Return the result, and the wall and CPU seconds it took."""
    started = time.perf_counter(), time.process_time()
    result = run()
    return result, time.perf_counter() - started[0], time.process_time() - started[1]


if __name__ == "__main__":
    main()
