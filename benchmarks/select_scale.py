"""Peeling, dial, draws and balance from 117,000 to 30 million samples: time and peak memory.

    python benchmarks/select_scale.py --index micro-response/ --scratch scale/

`--index` is a folder that `sftdiv index` wrote. Its rows are resampled to each size: a random row
of the corpus, `REPLACED` of its kinds exchanged for draws from the distribution of kinds, so that
rows stay as full as real ones; each kind is split into √(n / corpus), so that the number of kinds
grows as a vocabulary does (Heaps). The incidence is written block by block and read through memory
maps. N is 10,000 samples for 117,000, in proportion. Every size runs in a process of its own and
is entered at once into benchmarks/results/select_scale.json; a size that is in it is not run
again. The plot goes to docs/experiments/select-scale.png.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from sft_diversity.core import folder, incidence, machine
from sft_diversity.core.incidence import Incidence
from sft_diversity.core.numbers import evenness
from sft_diversity.selection.dial import Dial
from sft_diversity.selection.engine import Selection, choose_at
from sft_diversity.selection.peeling import Peeling, peel

ROOT = Path(__file__).resolve().parents[1]
SIZES = (117_000, 1_000_000, 3_000_000, 10_000_000, 30_000_000)
REPLACED = 0.3
BLOCK = 250_000  # rows made at a time
Result = TypeVar("Result")


def main() -> None:
    """Make, measure and draw what is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--index", type=Path, required=True)
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--name", default="micro-response", help="of the series in the results")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks/results")
    parser.add_argument("--plot", type=Path, default=ROOT / "docs/experiments/select-scale.png")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no step after")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)  # a size, in this process
    asked = parser.parse_args()
    if asked.one:
        end = time.monotonic() + 60 * asked.minutes
        print(json.dumps(measure(asked.scratch / f"{asked.name}-{asked.one}", asked.one, end)))
        return
    asked.results.mkdir(exist_ok=True)
    path = asked.results / "select_scale.json"
    report = json.loads(path.read_text("utf-8")) if path.exists() else {"series": {}}
    series = report["series"].setdefault(asked.name, {})
    for n in asked.sizes:
        if str(n) not in series:
            made = asked.scratch / f"{asked.name}-{n}"
            if not (made / "kinds.parquet").exists():
                resample(incidence.load(asked.index), n, made, asked.seed)
            record = in_own_process(n)
            if LAST not in record:
                sys.exit(f"{asked.name} {n:,}: {len(record)} entries; run it again to go on")
            series[str(n)] = record
            report["machine"] = machine.measured_on()
            path.write_text(folder.dump_json(report), "utf-8")
        print(f"{asked.name} {n:,}: {json.dumps(series[str(n)])}", flush=True)
    plot(report["series"], asked.plot)


def resample(source: Incidence, n: int, out: Path, seed: int) -> None:
    """Write an incidence of `n` rows like those of `source` into `out`, block by block."""
    out.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([seed, n])
    spread = max(1, round((n / source.n_samples) ** 0.5))
    n_kinds = source.n_kinds * spread
    skew = 1.0 / np.arange(1, spread + 1)
    sizes = [np.zeros(1, np.int64)]
    held = np.zeros(n_kinds, np.int64)
    with (out / "indices.npy").open("wb") as indices, (out / "counts.npy").open("wb") as counts:
        for file in (indices, counts):
            _header(file, 0)
        for at in range(0, n, BLOCK):
            rows, kinds = _block(source, min(BLOCK, n - at), rng, np.cumsum(skew / skew.sum()))
            sizes.append(np.bincount(rows, minlength=min(BLOCK, n - at)))
            held += np.bincount(kinds, minlength=n_kinds)
            kinds.astype(np.int32).tofile(indices)
            np.ones(len(kinds), np.int32).tofile(counts)
        indptr = np.cumsum(np.concatenate(sizes))
        for file in (indices, counts):
            file.seek(0)
            _header(file, int(indptr[-1]))
    np.save(out / "indptr.npy", indptr)
    names = pa.array(np.arange(n_kinds))
    kinds_table = pa.table({"kind": names, "samples": pa.array(held)})
    pq.write_table(kinds_table, out / "kinds.parquet")  # last: marks the folder as complete


def _block(
    source: Incidence, n: int, rng: np.random.Generator, spread: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return row and kind of each entry of `n` new rows, in order and distinct."""
    taken = source.take(rng.integers(source.n_samples, size=n))
    kinds = taken.indices.copy()
    change = rng.random(len(kinds)) < REPLACED
    kinds[change] = source.indices[rng.integers(len(source.indices), size=int(change.sum()))]
    part = np.searchsorted(spread, rng.random(len(kinds)), side="right")
    part = np.minimum(part, len(spread) - 1)
    rows = np.repeat(np.arange(n), np.diff(taken.indptr))
    width = source.n_kinds * len(spread)
    keys = rows * width + kinds.astype(np.int64) * len(spread) + part
    keys.sort(kind="stable")  # they come nearly in order: a hundredth of np.unique's time
    keys = keys[np.append(True, keys[1:] != keys[:-1])]
    return keys // width, keys % width


def _header(file: Any, length: int) -> None:
    """Write the header of a one-dimensional int32 .npy file; equally long for every length."""
    described = {"descr": "<i4", "fortran_order": False, "shape": (length,)}
    np.lib.format.write_array_header_1_0(file, described)


def in_own_process(n: int) -> dict[str, Any]:
    """Return what `measure` finds in a fresh process, so that memory is this size's alone."""
    command = [sys.executable, __file__, *sys.argv[1:], "--one", str(n)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


LAST = "dial of 2,000"  # step of a size


def measure(made: Path, n: int, end: float) -> dict[str, Any]:
    """Return seconds and peak gigabytes of each step on the incidence in `made`.

    Steps that an earlier run has measured are not run again; none is begun after `end`.
    """
    warm_up()
    kept, source = made / "steps.json", incidence.load(made)
    size = max(1, round(n * 10_000 / 117_000))
    record: dict[str, Any] = {"kinds": source.n_kinds, "entries": len(source.indices), "N": size}
    record |= json.loads(kept.read_text("utf-8")) if kept.exists() else {}

    def measured(name: str, work: Callable[[], Result], *told: Callable[[Result], Any]) -> Result:
        """Run a step, and keep what it took and what it found."""
        result = step(record, name, work)
        for tell in told:
            record[name] |= tell(result)
        draft = kept.with_suffix(".tmp")
        draft.write_text(json.dumps(record), "utf-8")
        draft.replace(kept)
        return result

    if "peel" in record:
        peeling = read_peeling(made, source)
    else:
        peeling = measured("peel", partial(peel, source))
        write_peeling(made, peeling)
    new_dial = partial(Dial, peeling, size)
    dial = new_dial() if "dial" in record else measured("dial", new_dial)
    record |= {"eligible": peeling.eligible, "k_min": dial.k_min, "k_max": dial.k_max}
    for fill in ("draws", "balance"):
        for diversity in (50, 100):
            name = f"{fill} {diversity} %"
            if name not in record and time.monotonic() < end:
                measured(name, partial(choose_at, dial, diversity, fill=fill), found)
    if LAST not in record and time.monotonic() < end:  # k_max is searched
        measured(
            LAST, partial(Dial, peeling, 2_000), lambda s: {"k_min": s.k_min, "k_max": s.k_max}
        )
    return record


def found(selection: Selection) -> dict[str, Any]:
    """Return what a selection reached."""
    return {
        "pool": selection.pool,
        "covered": selection.kinds_covered,
        "target": selection.place.target,
        "evenness": round(evenness(selection.held), 4),
    }


PEELED = ("sample_left", "kind_left", "kinds_after", "pool_sizes")


def write_peeling(made: Path, peeling: Peeling) -> None:
    """Keep the arrays of a peeling beside its incidence."""
    for name in PEELED:
        np.save(made / f"{name}.npy", getattr(peeling, name))


def read_peeling(made: Path, source: Incidence) -> Peeling:
    """Return the peeling that an earlier run has kept."""
    return Peeling(source, **{name: np.load(made / f"{name}.npy") for name in PEELED})


def warm_up() -> None:
    """Compile, or load, every kernel."""
    tiny = Incidence(np.arange(5), np.zeros(4, np.int32), np.ones(4, np.int32), 1)
    dial = Dial(tiny, 2)
    for fill in ("draws", "balance"):
        choose_at(dial, 50, fill=fill)


def step(record: dict[str, Any], name: str, work: Callable[[], Result]) -> Result:
    """Run `work`; enter its wall seconds and the most memory resident while it ran."""
    Path("/proc/self/clear_refs").write_text("5")  # restarts the peak
    cpu, start = time.process_time(), time.perf_counter()
    result = work()
    record[name] = {
        "seconds": round(time.perf_counter() - start, 3),
        "cpu_seconds": round(time.process_time() - cpu, 3),
        "peak_gb": round(peak_bytes() / 1e9, 3),
        "load": round(os.getloadavg()[0], 1),
    }
    print(name, record[name], file=sys.stderr, flush=True)
    return result


def peak_bytes() -> int:
    """Return the process's largest resident size since the last restart, mapped files included."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def plot(series: dict[str, Any], path: Path) -> None:
    """Draw seconds and memory over the number of samples, with a line of slope one."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    one = max(series.values(), key=len)  # the series of most sizes
    sizes = sorted(map(int, one))
    for name in ("peel", "dial", "dial of 2,000", "draws 100 %", "balance 100 %"):
        seconds = [one[str(n)][name]["cpu_seconds"] for n in sizes]
        left.loglog(sizes, seconds, "o-", label=name)
        right.loglog(sizes, [one[str(n)][name]["peak_gb"] for n in sizes], "o-", label=name)
    for name in ("peel", "balance 100 %"):
        start = one[str(sizes[0])][name]["cpu_seconds"]
        left.loglog(sizes, [start * n / sizes[0] for n in sizes], "k:", label="_linear")
    left.set(xlabel="samples", ylabel="seconds", title="CPU time, one thread; dotted: linear")
    right.set(xlabel="samples", ylabel="GB", title="peak resident memory, mapped files included")
    left.legend()
    right.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
