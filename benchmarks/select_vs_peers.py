"""Selection against the libraries that people use for it: same input, same objective, one run.

    python benchmarks/select_vs_peers.py --index .bench/index [--embeddings EMBEDDINGS]
        [--peers PYTHON] [--deita CHECKOUT] [--limit-s 900] [--quiet 1.5] [--scratch DIR]
        [--only NAME ...]

PYTHON is an interpreter with apricot-select, submodlib-py, pyversity and scipy (they may want other
versions than this package does); CHECKOUT a clone of hkust-nlp/deita, whose filter class is run as
it stands, by this interpreter; what needs an option that is not given is left out. Each comparison
times ours (best of three calls after one that compiles) and then the peer in a process of its own,
which is stopped at the limit: the ratio is then a lower bound. Both sides use one thread (torch
with two waits for the other most of the time once anything else runs), and the ratio is the lesser
of those of wall and of CPU seconds, so that other work on the machine does not flatter us. Both
sets of picks are valued by the same plain numpy. A comparison that has ended is kept in the scratch
folder, so the run can be interrupted. Writes benchmarks/results/select_vs_peers.json and
docs/peers.md, again after every comparison.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sft_diversity.core import folder, incidence, machine
from sft_diversity.core.incidence import Incidence
from sft_diversity.core.kernels import Floats, Rows
from sft_diversity.core.vectors import read_component
from sft_diversity.selection.deita import repr_filter
from sft_diversity.selection.dial import Dial
from sft_diversity.selection.engine import choose_at
from sft_diversity.selection.facility_location import (
    Graph,
    facility_bound,
    facility_location,
    neighbour_graph,
)
from sft_diversity.selection.fit import fit_within
from sft_diversity.selection.greedy import balance, cover, greedy
from sft_diversity.selection.k_center import k_center
from sft_diversity.selection.problem import Problem

ROOT = Path(__file__).resolve().parents[1]
SMALL, SMALL_SIZE = 5_000, 500  # where every peer finishes
LEVELS = (0, 50, 100)
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


class Task:
    """What both sides are given: one incidence, or the embeddings of one component."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __getattr__(self, name: str) -> Any:
        """Read an array once."""
        found = np.load(self.place / f"{name}.npy")
        setattr(self, name, found)
        return found

    @property
    def graph(self) -> Graph:
        """The neighbour graph."""
        return Graph(self.graph_indptr, self.graph_indices, self.graph_similarity)

    def problem(self, size: int) -> Problem:
        """Return the problem of picking among the rows that hold a kind."""
        made = Incidence(self.indptr, self.indices, self.indices, int(self.n_kinds))
        return Problem(made, np.flatnonzero(np.diff(self.indptr)), size)


def pick_coverage(task: Task, size: int) -> Rows:
    """Pick by coverage, then any rows up to the size."""
    problem = task.problem(size)
    return fit_within(problem, cover(problem))


def pick_log(task: Task, size: int) -> Rows:
    """Pick by Σ log(1 + c)."""
    return balance(task.problem(size))


def pick_sqrt(task: Task, size: int) -> Rows:
    """Pick by Σ √c."""
    steps = np.diff(np.sqrt(np.arange(size + 2.0)))
    problem = task.problem(size)
    return greedy(problem.state(), problem.rows, size, steps)


def pick_facility(task: Task, size: int) -> Rows:
    """Pick by facility location on the graph."""
    return facility_location(task.graph, size).rows


def pick_center(task: Task, size: int) -> Rows:
    """Pick by farthest-first."""
    return k_center(task.points, size).rows


def pick_filter(task: Task, size: int, threshold: float) -> Rows:
    """Pick by the representation filter."""
    return repr_filter(task.points, np.argsort(-task.score), size, threshold=threshold)


def value_of(task: Task, objective: str, picks: Rows) -> float:
    """Return what `picks` are worth, in plain numpy."""
    if objective == "facility":
        best: Floats = np.zeros(len(task.graph_indptr) - 1)
        for row in picks:
            at = slice(task.graph_indptr[row], task.graph_indptr[row + 1])
            near = task.graph_indices[at]
            best[near] = np.maximum(best[near], task.graph_similarity[at])
        return float(best.sum())
    if objective in ("radius", "ids"):
        chosen = task.points[picks].T
        nearest = [
            (task.points[i : i + 2000] @ chosen).max(axis=1)
            for i in range(0, len(task.points), 2000)
        ]
        return float(np.sqrt(2 - 2 * np.concatenate(nearest).min()))
    held = [task.indices[task.indptr[row] : task.indptr[row + 1]] for row in picks]
    counts = np.bincount(np.concatenate(held), minlength=int(task.n_kinds))
    per_kind = {"kinds": counts > 0, "log": np.log1p(counts), "sqrt": np.sqrt(counts)}
    return float(per_kind[objective].sum())


@dataclass(frozen=True)
class Comparison:
    """One of ours against one peer on one input."""

    name: str
    given: str
    objective: str
    ours: Callable[[Task, int], Rows]
    peer: str
    size: int
    threshold: float | None = None


def comparisons(size: int, small: bool) -> list[Comparison]:
    """Return what is compared; the small size also with peers that end at no other."""
    micro, meso, near = "micro-response", "meso-instruction", "response"
    fifth = size // 5
    made = [
        Comparison("coverage", meso, "kinds", pick_coverage, "apricot-coverage", size),
        Comparison("coverage", meso, "kinds", pick_coverage, "apricot-coverage", fifth),
        Comparison("coverage", meso, "kinds", pick_coverage, "submodlib-coverage", size),
        Comparison("Σ log(1 + c)", micro, "log", pick_log, "apricot-log", size),
        Comparison("Σ log(1 + c)", micro, "log", pick_log, "submodlib-log", size),
        Comparison("Σ √c", micro, "sqrt", pick_sqrt, "apricot-sqrt", size),
        Comparison("facility location", near, "facility", pick_facility, "apricot-facility", size),
        Comparison("k-center", near, "radius", pick_center, "pyversity-mmr", size),
    ]
    if not small:  # another objective: only to show what it needs
        made.append(Comparison("k-center", near, "radius", pick_center, "pyversity-cover", size))
    for threshold in (0.9, 0.5, 0.3) if small else (0.9, 0.5, 0.4):
        pick = partial(pick_filter, threshold=threshold)
        made.append(Comparison("DEITA rule", near, "ids", pick, "deita", size, threshold))
    for peer in ("apricot-facility-naive", "submodlib-facility"):
        made.append(Comparison("facility location", near, "facility", pick_facility, peer, size))
    return made


def lay_out(asked: argparse.Namespace, rows: int | None) -> dict[str, Path]:
    """Write what both sides are given; return where, by name. Rows: the first so many."""
    places = {}
    for strategy in ("micro-response", "meso-instruction"):
        place = asked.scratch / f"{strategy}-{rows or 'all'}"
        places[strategy] = place
        if (place / "n_kinds.npy").exists():
            continue
        place.mkdir(parents=True, exist_ok=True)
        source = incidence.load(index_of(asked.index, strategy))
        indptr = np.asarray(source.indptr)[: None if rows is None else rows + 1]
        np.save(place / "indptr.npy", indptr.astype(np.int32))
        np.save(place / "indices.npy", np.asarray(source.indices)[: indptr[-1]])
        np.save(place / "n_kinds.npy", source.n_kinds)
    if asked.embeddings is None:
        return places
    place = asked.scratch / f"response-{rows or 'all'}"
    places["response"] = place
    if not (place / "graph_indptr.npy").exists():
        place.mkdir(parents=True, exist_ok=True)
        points = read_component(asked.embeddings, "response")[1][:rows]
        np.save(place / "points.npy", points)
        np.save(place / "score.npy", np.random.default_rng(0).permutation(len(points)) * 1.0)
        started = time.perf_counter()
        graph = neighbour_graph(points)
        say(f"graph of {len(points):,} rows in {time.perf_counter() - started:.1f} s")
        np.save(place / "graph_indices.npy", graph.indices)
        np.save(place / "graph_similarity.npy", graph.similarity)
        np.save(place / "graph_indptr.npy", graph.indptr)
    return places


def index_of(index: Path, strategy: str) -> Path:
    """Return the incidence of `strategy` among those in `index`."""
    for place in sorted(index.iterdir()):
        if folder.read_manifest(place, "index")["config"]["strategy"] == strategy:
            return place
    raise SystemExit(f"{index}: holds no incidence of {strategy}; run `sftdiv index` for it")


def compare(asked: argparse.Namespace, one: Comparison, place: Path) -> dict[str, Any]:
    """Time ours and the peer's; return both with what their picks are worth."""
    task = Task(place)
    picks, seconds, cpu = best_of_three(partial(one.ours, task, one.size))
    record: dict[str, Any] = {
        "name": one.name,
        "given": one.given,
        "rows": len(task.score if one.given == "response" else task.indptr[1:]),
        "size": one.size,
        "threshold": one.threshold,
        "peer": one.peer,
        "ours_s": round(seconds, 4),
        "ours_cpu_s": round(cpu, 4),
        "ours_picks": len(picks),
        "ours_value": value_of(task, one.objective, picks),
        "objective": one.objective,
        "load": os.getloadavg()[0],
    }
    if one.objective == "facility":
        record["bound"] = facility_bound(task.graph, facility_location(task.graph, one.size))
    found = run_peer(asked, one, place)
    record |= found["report"]
    theirs = found["picks"]
    if theirs is not None:
        record["peer_picks"] = len(theirs)
        record["peer_value"] = value_of(task, one.objective, theirs)
        record["same_ids"] = bool(np.array_equal(picks, theirs))
        record["shared"] = len(np.intersect1d(picks, theirs))
    record["ratio"] = None
    if "peer_cpu_s" in record:
        record["ratio"] = round(min(record["peer_s"] / seconds, record["peer_cpu_s"] / cpu), 1)
    return record


def best_of_three(work: Callable[[], Rows]) -> tuple[Rows, float, float]:
    """Return the picks and the least wall and CPU seconds of three calls after a first."""
    picks = work()
    wall, cpu = [], []
    for _ in range(3):
        started = time.perf_counter(), time.process_time()
        work()
        wall.append(time.perf_counter() - started[0])
        cpu.append(time.process_time() - started[1])
    return picks, min(wall), min(cpu)


def run_peer(asked: argparse.Namespace, one: Comparison, place: Path) -> dict[str, Any]:
    """Run a peer in a process of its own; return its report and picks, None if it has none."""
    out = place / f"{one.peer}-{one.size}-{one.threshold}.npy"
    python = sys.executable if one.peer == "deita" else asked.peers
    command = [python, str(ROOT / "benchmarks/peer_runs.py"), one.peer, str(place), str(one.size)]
    command += ["--out", str(out), "--gigabytes", str(asked.gigabytes)]
    if one.threshold is not None:
        command += ["--threshold", str(one.threshold), "--deita", str(asked.deita)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    try:
        said, errors = process.communicate(timeout=asked.limit_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
        stopped = {"stopped": True, "peer_s": asked.limit_s, "peer_cpu_s": round(cpu, 1)}
        return {"report": stopped, "picks": None}
    if process.returncode:
        lines = errors.strip().splitlines() or [f"ended by signal {-process.returncode}"]
        return {"report": {"failed": lines[-1][:200]}, "picks": None}
    report = json.loads(said.splitlines()[-1])
    peer = {
        "peer_s": round(report["seconds"], 3),
        "peer_cpu_s": round(report["cpu"], 3),
        "peer_with_compiling_s": round(report.get("with_compiling", report["seconds"]), 3),
        "peer_version": report["version"],
    }
    return {"report": peer, "picks": np.load(out)}


def six(asked: argparse.Namespace, size: int) -> list[dict[str, Any]]:
    """Time a selection of each strategy from its incidence on: peeling, range and draws."""
    made = []
    for strategy in (f"{a}-{b}" for a in ("macro", "meso", "micro") for b in COMPONENTS):
        source = incidence.load(index_of(asked.index, strategy))
        for level in LEVELS:
            pick = partial(rows_of, source, size, level)
            rows, seconds, cpu = best_of_three(pick)
            if len(np.unique(rows)) != size:
                raise SystemExit(f"{strategy}: {len(np.unique(rows)):,} distinct rows")
            times = {"seconds": round(seconds, 4), "cpu_seconds": round(cpu, 4)}
            made.append({"strategy": strategy, "diversity": level} | times)
            say(f"{strategy} {level} %: {seconds:.3f} s")
    return made


COMPONENTS = ("instruction", "response")


def rows_of(source: incidence.Incidence, size: int, level: float) -> npt.NDArray[np.int64]:
    """Return the rows of one selection."""
    return choose_at(Dial(source, size), level).rows


def table(records: list[dict[str, Any]]) -> list[str]:
    """Return the comparisons as a table."""
    lines = [
        "| objective | input | rows | N | ours, s | peer | peer, s | ratio | ours | peer |",
        "| --- | --- | ---: | ---: | ---: | --- | ---: | ---: | ---: | ---: |",
    ]
    for one in records:
        name = one["name"]
        if one["threshold"] is not None:
            name += f", threshold {one['threshold']}"
        if "stopped" in one:
            peer_s, ratio = f"stopped at {one['peer_s']:g}", f"> {one['ratio']:,.0f}×"
        elif "peer_s" in one:
            peer_s, ratio = f"{one['peer_s']:.2f}", f"{one['ratio']:,.0f}×"
        else:
            peer_s, ratio = one["failed"].split(":")[0].strip("`"), "—"
        lines.append(
            f"| {name} | {one['given']} | {one['rows']:,} | {one['size']:,} | "
            f"{one['ours_s']:.3f} | {called(one['peer'])} | {peer_s} | {ratio} | "
            f"{worth(one, 'ours')} | {worth(one, 'peer')} |"
        )
    return lines


def called(peer: str) -> str:
    """Return a peer's name in the table."""
    name = peer.split("-")[0]
    if peer == "pyversity-cover":
        return "pyversity, COVER"
    if name != "apricot":
        return {"deita": "DEITA"}.get(name, name)
    return name + (", plain greedy" if peer.endswith("naive") else ", lazy greedy")


def worth(one: dict[str, Any], side: str) -> str:
    """Return the value of one side's picks, or what stands for it."""
    if f"{side}_value" not in one:
        return "—"
    if one["objective"] == "ids":
        if side == "peer":
            return "identical ids" if one["same_ids"] else f"{one['shared']:,} shared"
        return f"{one['ours_picks']:,} picks"
    return f"{one[f'{side}_value']:,.{0 if one['objective'] == 'kinds' else 4}f}"


def page(report: dict[str, Any]) -> str:
    """Return docs/peers.md."""
    facts = report["machine"]
    peers = sorted(
        {(r["peer"].split("-")[0], r["peer_version"]) for r in report["full"] + report["small"]
         if "peer_version" in r and r["peer"] != "deita"}
    )  # fmt: skip
    slowest = max(report["six"], key=lambda one: one["seconds"]) if report["six"] else None
    lines = [
        "# Selection beside its peers",
        "",
        "Made by `benchmarks/select_vs_peers.py`; figures in "
        "`benchmarks/results/select_vs_peers.json`.",
        f"{facts['date']}, {facts['processor']}, {facts['cores']} cores; "
        + ", ".join(f"{name} {number}" for name, number in peers)
        + ", DEITA's filter class as published.",
        "",
        "Times are wall seconds of the selection alone, on arrays in memory, with one thread "
        "and compilation left out on both sides; ours the best of three calls. The ratio is the "
        "lesser of those of wall and of CPU seconds. A peer still running at the limit is "
        "stopped, and the ratio is a lower bound. Values of both sides' picks come from the same "
        "plain numpy: higher is better but for the radius of k-center.",
        "",
        "## The whole corpus",
        "",
        *table(report["full"]),
        "",
        f"## The first {SMALL:,} rows, where every peer ends",
        "",
        *table(report["small"]),
    ]
    bounds = [one for one in report["full"] if "bound" in one]
    if bounds:
        share = bounds[0]["ours_value"] / bounds[0]["bound"]
        lines += ["", f"The picks of facility location reach {share:.1%} of what any "
                  f"{bounds[0]['size']:,} rows could, by its certificate."]  # fmt: skip
    if slowest:
        lines += [
            "",
            "## The six strategies, from the incidence on",
            "",
            "| strategy | " + " | ".join(f"{level} %, s" for level in LEVELS) + " |",
            "| --- |" + " ---: |" * len(LEVELS),
        ]
        names = dict.fromkeys(one["strategy"] for one in report["six"])
        for name in names:
            times = [f"{o['seconds']:.3f}" for o in report["six"] if o["strategy"] == name]
            lines.append(f"| {name} | " + " | ".join(times) + " |")
    return "\n".join(lines) + "\n"


def wait_for_quiet(load: float) -> None:
    """Wait until the machine's load over the last minute is below `load`."""
    while os.getloadavg()[0] >= load:
        time.sleep(15)


def say(line: str) -> None:
    """Print at once."""
    print(line, flush=True)


def main() -> None:
    """Compare everything; write figures and table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--index", type=Path, required=True)
    parser.add_argument("--embeddings", type=Path)
    parser.add_argument("--peers", default=sys.executable)
    parser.add_argument("--deita", type=Path)
    parser.add_argument("--size", type=int, default=10_000)
    parser.add_argument("--limit-s", type=float, default=900.0)
    parser.add_argument("--gigabytes", type=float, default=14.0, help="memory a peer may take")
    parser.add_argument("--quiet", type=float, default=np.inf, help="wait for a load below this")
    parser.add_argument("--only", nargs="*", help="peers to run, by the start of their name")
    parser.add_argument("--small-only", action="store_true")
    parser.add_argument("--scratch", type=Path, default=Path(".bench/peers"))
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks/results")
    parser.add_argument("--page", type=Path, default=ROOT / "docs/peers.md")
    asked = parser.parse_args()
    if any(os.environ.get(name) != "1" for name in THREADS):
        one_thread = os.environ | dict.fromkeys(THREADS, "1")
        os.execve(sys.executable, [sys.executable, *sys.argv], one_thread)
    report: dict[str, Any] = {"small": [], "full": [], "machine": machine.measured_on()}
    report["six"] = [] if asked.small_only else six(asked, asked.size)
    scales = [("small", SMALL, SMALL_SIZE), ("full", None, asked.size)]
    for name, rows, size in scales[: 1 if asked.small_only else 2]:
        places = lay_out(asked, rows)
        for one in comparisons(size, name == "small"):
            left_out = one.given not in places or (one.peer == "deita" and asked.deita is None)
            if left_out or (asked.only and not one.peer.startswith(tuple(asked.only))):
                continue
            kept = asked.scratch / f"{name}-{one.peer}-{one.size}-{one.threshold}.json"
            if not kept.exists():
                wait_for_quiet(asked.quiet)
                record = compare(asked, one, places[one.given])
                kept.write_text(folder.dump_json(record), "utf-8")
            report[name].append(json.loads(kept.read_text("utf-8")))
            say(table(report[name])[-1])
            asked.results.mkdir(exist_ok=True)
            text = folder.dump_json(report)
            (asked.results / "select_vs_peers.json").write_text(text, "utf-8")
            asked.page.write_text(page(report), "utf-8")


if __name__ == "__main__":
    main()
