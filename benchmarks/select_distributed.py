"""What two-round distributed greedy loses against one machine, and that sharded peeling is exact.

    python benchmarks/select_distributed.py --index micro-response/ --name micro-response
        [--size N] [--shards 4 16 64] [--shares 1 2 all]

`--index` is a folder that `sftdiv index` wrote, or that benchmarks/select_scale.py made. For the
pools at 50 % and 100 % of the dial, and for coverage and balance: one greedy over the whole pool,
then every number of shards with every share (`all`: a share as large as the number of shards, the
published algorithm). Peels over shards too and compares every array with peeling the whole.
Entered into benchmarks/results/select_distributed.json under `--name`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from sft_diversity.core import folder, incidence, machine
from sft_diversity.core.seeding import generator
from sft_diversity.select.compiled import Rows
from sft_diversity.select.dial import make_dial
from sft_diversity.select.greedy import greedy
from sft_diversity.select.peeling import Peeling, peel
from sft_diversity.select.sharded.greedy import (
    OBJECTIVES,
    distributed_greedy,
    steps_of,
    upper_bound,
    value_of,
)
from sft_diversity.select.sharded.peeling import ShardedPeeling, peel_shards
from sft_diversity.select.sharded.shards import split

ROOT = Path(__file__).resolve().parents[1]
Result = TypeVar("Result")


def main() -> None:
    """Measure one incidence."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--index", type=Path, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--size", type=int, help="N; default: 10,000 for 117,000 samples")
    parser.add_argument("--shards", type=int, nargs="+", default=[4, 16, 64])
    parser.add_argument("--shares", nargs="+", default=["1", "2", "all"])
    parser.add_argument("--levels", type=float, nargs="+", default=[50, 100], help="percent")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks/results")
    asked = parser.parse_args()
    asked.results.mkdir(exist_ok=True)
    path = asked.results / "select_distributed.json"
    report = json.loads(path.read_text("utf-8")) if path.exists() else {"incidences": {}}
    report["incidences"][asked.name] = measure(asked)
    report["machine"] = machine.facts()
    path.write_text(folder.dump_json(report), "utf-8")


def measure(asked: argparse.Namespace) -> dict[str, Any]:
    """Return what peeling and every greedy took and reached."""
    whole = incidence.load(asked.index)
    size = asked.size or max(1, round(whole.n_samples * 10_000 / 117_000))
    peeling, seconds = timed(partial(peel, whole))
    record: dict[str, Any] = {
        "samples": whole.n_samples,
        "kinds": whole.n_kinds,
        "entries": len(whole.indices),
        "N": size,
        "peel_s": seconds,
        "sharded_peeling": [],
        "greedy": [],
    }
    for parts in asked.shards:
        work = partial(peel_shards, split(whole, parts), whole.n_kinds, workers=asked.workers)
        spread, seconds = timed(work)
        entry = {"shards": parts, "seconds": seconds, "equal": equal(peeling, spread)}
        record["sharded_peeling"].append(entry | {"exchanges": len(spread.kinds_after) - 1})
        say(record["sharded_peeling"][-1])
    dial = make_dial(peeling, size)
    for level in asked.levels:
        pool = peeling.pool(dial.step(level))
        for objective in OBJECTIVES:
            record["greedy"] += compared(whole, peeling, pool, objective, size, level, asked)
    return record


def compared(
    whole: incidence.Incidence,
    peeling: Peeling,
    pool: Rows,
    objective: Any,
    size: int,
    level: float,
    asked: argparse.Namespace,
) -> list[dict[str, Any]]:
    """Return one machine's greedy and every distributed one on one pool."""
    steps = steps_of(objective, size)
    held = np.zeros(whole.n_kinds, np.int64)
    order = generator(0, "select", "distributed").permutation(pool)
    alone, seconds = timed(
        partial(greedy, peeling.indptr, peeling.indices, order, size, steps, held)
    )
    best = value_of(held, steps)
    records = [
        about(objective, level, len(pool), 1, 1.0, seconds, best, best, len(pool), len(alone))
    ]
    for parts in asked.shards:
        shards = split(whole, parts)
        pools = [pool[(pool >= s.first) & (pool < s.first + s.n_samples)] - s.first for s in shards]
        for share in (float(parts if s == "all" else s) for s in asked.shares):
            made, seconds = timed(
                partial(
                    distributed_greedy, shards, pools, whole.n_kinds, size, objective,
                    share=share, workers=asked.workers,
                )
            )  # fmt: skip
            entry = about(
                objective, level, len(pool), parts, share, seconds, made.value, best,
                made.candidates, len(np.unique(made.rows)),
            )  # fmt: skip
            bound = upper_bound(shards, pools, made.held, size, objective, workers=asked.workers)
            records.append(entry | {"certified_of_optimum": round(made.value / bound, 4)})
            say(records[-1])
    return records


def about(
    objective: str,
    level: float,
    pool: int,
    shards: int,
    share: float,
    seconds: float,
    value: float,
    best: float,
    candidates: int,
    rows: int,
) -> dict[str, Any]:
    """Return the record of one greedy."""
    return {
        "objective": objective,
        "diversity": level,
        "pool": pool,
        "shards": shards,
        "share": share,
        "seconds": seconds,
        "value": round(value, 3),
        "of_one_machine": round(value / best, 6),
        "candidates": candidates,
        "rows": rows,
    }


def equal(one: Peeling, other: ShardedPeeling) -> bool:
    """Whether both peelings are the same, sample by sample and step by step."""
    same = [
        np.array_equal(getattr(one, name), getattr(other, name))
        for name in ("kind_left", "kinds_after", "pool_sizes")
    ]
    return all(same) and np.array_equal(one.sample_left, np.concatenate(other.sample_left))


def timed(work: Callable[[], Result]) -> tuple[Result, float]:
    """Return the result and its wall seconds."""
    start = time.perf_counter()
    result = work()
    return result, round(time.perf_counter() - start, 3)


def say(record: dict[str, Any]) -> None:
    """Print at once."""
    print(json.dumps(record), flush=True)


if __name__ == "__main__":
    main()
