"""Time and check the selection engine alone over the whole dial, on incidences made before.

    python benchmarks/select_engine.py NAME=FOLDER ... [--entropy NAME=FOLDER ...] [--seed 0]
        [--sizes 200 2000 10000] [--fills draws] [--out FILE.json]

FOLDER is an incidence as `sftdiv index` writes it; for `--entropy` a token pass (all token types,
with counts). Every subset is checked: exactly N distinct rows, and the same rows again with the
same seed. One line a subset: kinds reached of the target and their bound, or bits of the target;
rows shared with the next seed; CPU seconds of this process, compilation left out by a first
selection that is not reported. With `--out` everything goes to a JSON file as well.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from sft_diversity.core import incidence
from sft_diversity.core.incidence import Incidence
from sft_diversity.core.numbers import evenness
from sft_diversity.selection.config import Fill
from sft_diversity.selection.dial import Dial
from sft_diversity.selection.engine import Selection, choose_at
from sft_diversity.selection.entropy import EntropySelection, choose_by_entropy, make_entropy_dial
from sft_diversity.selection.peeling import peel

LEVELS = (0, 17, 33, 50, 67, 83, 100)
Made = TypeVar("Made", Selection, EntropySelection)
Result = TypeVar("Result")


def by_kinds(
    source: Incidence, sizes: list[int], fills: list[Fill], seed: int
) -> list[dict[str, Any]]:
    """Choose at every level of the dial; return a record a subset."""
    peeling, seconds = timed(partial(peel, source))
    records: list[dict[str, Any]] = []
    say(
        f"  {peeling.kinds_total:,} kinds, {peeling.no_kind:,} hold none, peeled in {seconds:.3f} s"
    )
    for size in sizes:
        dial, seconds = timed(partial(Dial, peeling, size))
        say(f"  N = {size:,}: k from {dial.k_min:,} to {dial.k_max:,}, found in {seconds:.3f} s")
        for fill in fills:
            for level in LEVELS:
                draw = partial(choose_at, dial, level, fill=fill)
                made, shared, seconds = checked(draw, seed, size)
                record = {
                    "size": size,
                    "fill": fill,
                    "diversity": level,
                    "kinds_covered": made.kinds_covered,
                    "kinds_target": made.place.target,
                    "coverage_bound": dial.bound,
                    "pool": made.pool,
                    "evenness": round(evenness(made.held), 4),
                    "shared_with_next_seed": shared,
                    "cpu_seconds": round(seconds, 4),
                }
                records.append(record)
                say(
                    f"    {fill} {level:3} %: {made.kinds_covered:,} of {made.place.target:,}, "
                    f"bound {dial.bound:,}, pool {made.pool:,}, "
                    f"evenness {evenness(made.held):.3f}, {shared:,} shared, {seconds:.3f} s"
                )
    return records


def by_entropy(source: Incidence, sizes: list[int], seed: int) -> list[dict[str, Any]]:
    """Choose at every level of the entropy dial; return a record a subset."""
    records: list[dict[str, Any]] = []
    for size in sizes:
        dial, seconds = timed(partial(make_entropy_dial, source, size))
        say(f"  N = {size:,}: {dial.low_bits:.4f} to {dial.high_bits:.4f} bits in {seconds:.3f} s")
        for level in LEVELS:
            draw = partial(choose_by_entropy, dial, level)
            made, shared, seconds = checked(draw, seed, size)
            record = {
                "size": size,
                "diversity": level,
                "entropy_bits": round(made.entropy_bits, 6),
                "target_bits": round(made.target_bits, 6),
                "missed": made.missed,
                "greedy_picks": made.greedy_picks,
                "shared_with_next_seed": shared,
                "cpu_seconds": round(seconds, 4),
            }
            records.append(record)
            say(
                f"    {level:3} %: {made.entropy_bits:.4f} of {made.target_bits:.4f} bits, "
                f"{made.greedy_picks:,} greedy, {shared:,} shared, {seconds:.3f} s"
            )
    return records


def checked(draw: Callable[..., Made], seed: int, size: int) -> tuple[Made, int, float]:
    """Return the subset of `seed`, how many rows the next seed shares with it, and its seconds."""
    made, seconds = timed(partial(draw, seed=seed))
    if len(np.unique(made.rows)) != size:
        raise SystemExit(f"{len(np.unique(made.rows)):,} distinct rows instead of {size:,}")
    if not np.array_equal(made.rows, draw(seed=seed).rows):
        raise SystemExit("the same seed gave other rows")
    return made, len(np.intersect1d(made.rows, draw(seed=seed + 1).rows)), seconds


def timed(work: Callable[[], Result]) -> tuple[Result, float]:
    """Return the result and the CPU seconds it took."""
    start = time.process_time()
    result = work()
    return result, time.process_time() - start


def say(line: str) -> None:
    """Print at once."""
    print(line, flush=True)


def main() -> None:
    """Run the grid."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("incidences", nargs="*", metavar="NAME=FOLDER")
    parser.add_argument("--entropy", nargs="*", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--sizes", nargs="+", type=int, default=[200, 2000, 10000])
    parser.add_argument("--fills", nargs="+", default=["draws"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    tiny = Incidence(np.arange(5), np.zeros(4, np.int32), np.full(4, 16, np.int32), 1)
    for fill in ("draws", "balance", "uniform"):
        choose_at(Dial(tiny, 2), 50, fill=fill)
    make_entropy_dial(tiny, 2)
    start = time.perf_counter(), time.process_time()
    kinds, bits = {}, {}
    for name, folder in (pair.split("=", 1) for pair in options.incidences):
        say(name)
        source = incidence.load(Path(folder))
        kinds[name] = by_kinds(source, options.sizes, options.fills, options.seed)
    for name, folder in (pair.split("=", 1) for pair in options.entropy):
        say(f"{name}, entropy")
        bits[name] = by_entropy(incidence.load(Path(folder)), options.sizes, options.seed)
    wall, cpu = time.perf_counter() - start[0], time.process_time() - start[1]
    say(f"{wall:.1f} s wall, {cpu:.1f} s CPU, three selections for each subset reported")
    if options.out:
        run = {"python": platform.python_version(), "machine": platform.machine()}
        run_times = {"wall_s": round(wall, 1), "cpu_s": round(cpu, 1)}
        report = {"run": run | run_times, "kinds": kinds, "entropy": bits}
        options.out.write_text(json.dumps(report, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
