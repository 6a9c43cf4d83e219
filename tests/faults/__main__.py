"""Runs the campaign: seeded, bounded in time, by family; prints what fails and how to see it again.

    python -m tests.faults --seed 1 --minutes 10 --only kills/select

Exit code 1 if a case fails. `--core` is the small part that the default suite runs.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path

from sft_diversity.core import children
from tests.faults.case import Case, Fault, Group, Place, Skipped
from tests.faults.world import COMMANDS, World

FAMILIES = ("inputs", "configs", "hostile", "machine", "kills", "writers", "damage")
#: Families whose cases need no model.
LIGHT = {"inputs", "configs"}
#: What the core runs: cheap groups, and how many cases of each.
CORE = {"kills/ingest": 3, "kills/export": 2, "writers/export": 1, "damage/corpus": 3}


@dataclass
class Count:
    """What became of a family's cases."""

    passed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    failed: list[dict[str, str]] = field(default_factory=list)

    @property
    def cases(self) -> int:
        """All that ran."""
        return self.passed + len(self.failed)


def main() -> int:
    """Run the cases that are asked for; return the exit code."""
    asked = _arguments()
    started = time.monotonic()
    root = Path(tempfile.mkdtemp(prefix="faults-"))
    world = World(root)
    families = [name for name in FAMILIES if not asked.only or _any(name, asked.only)]
    heavy = not asked.core and not LIGHT.issuperset(families)
    try:
        _import(heavy, asked.core)
        world.make(heavy)
        counts = _by_jobs(world, asked, lambda: time.monotonic() - started > 60 * asked.minutes)
    finally:
        world.close()
        if not asked.keep:
            shutil.rmtree(root, ignore_errors=True)
    if not any(count.cases or count.skipped for count in counts.values()):
        print(f"no case was run; families are {', '.join(FAMILIES)}", file=sys.stderr)
        return 2
    _show(counts, asked, time.monotonic() - started)
    return 1 if any(count.failed for count in counts.values()) else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=60, help="begin no case after so many")
    parser.add_argument("--only", default="", help="families, groups or cases: names, by commas")
    parser.add_argument("--core", action="store_true", help="the part that the default suite runs")
    parser.add_argument("--jobs", type=int, default=1, help="cases at a time")
    parser.add_argument("--json", type=Path, help="file for the counts")
    parser.add_argument("--keep", action="store_true", help="keep the folders of failed cases")
    asked = parser.parse_args()
    asked.only = [name for name in asked.only.split(",") if name]
    return asked


def _import(heavy: bool, core: bool) -> None:
    """Import what commands import, so that those forked from here need not."""
    names = ["sft_diversity.cli", "sft_diversity.verbs.options", "orjson", "polars", "yaml"]
    names += ["sft_diversity.verbs.data", "sft_diversity.verbs.selecting"]
    names += ["sft_diversity.selection.engine", "numba"]
    if not core:
        names += ["sft_diversity.verbs.measuring", "scipy.stats"]
    if heavy:
        names += ["sft_diversity.verbs.training", "sft_diversity.studies.stage", "openai"]
        names += ["torch", "transformers", "sentence_transformers", "faiss", "matplotlib.pyplot"]
        names += ["sft_diversity.training.trainer", "sft_diversity.scoring.heldout", "lm_eval"]
    for name in names:
        import_module(name)


def _by_jobs(world: World, asked: argparse.Namespace, over: Callable[[], bool]) -> dict[str, Count]:
    """Run the cases, in as many forked processes as there are to be jobs."""
    if asked.jobs == 1:
        return _run(world, asked, over)
    if not asked.only:
        for name in COMMANDS:  # what all of them compare with
            with contextlib.suppress(Exception):  # said by the cases that need it
                world.reference(name)
    parent, running = os.getpid(), []
    for number in range(asked.jobs):
        pid = os.fork()
        if not pid:
            code = 1
            try:
                children.end_with(parent)
                _write(_run(world, asked, over, number), world.root / f"counts-{number}.json")
                code = 0
            finally:
                os._exit(code)
        running.append(pid)
    codes = [os.waitpid(pid, 0)[1] for pid in running]
    if any(codes):
        raise RuntimeError("a job of the campaign has ended; see above")
    return _joined([world.root / f"counts-{number}.json" for number in range(asked.jobs)])


def _write(counts: dict[str, Count], path: Path) -> None:
    path.write_text(json.dumps({name: asdict(count) for name, count in counts.items()}))


def _joined(paths: list[Path]) -> dict[str, Count]:
    whole: dict[str, Count] = {}
    for path in paths:
        for name, found in json.loads(path.read_text()).items():
            count = whole.setdefault(name, Count())
            count.passed += found["passed"]
            count.skipped += found["skipped"]
            count.seconds += found["seconds"]
            count.failed += found["failed"]
    return whole


def _run(
    world: World, asked: argparse.Namespace, over: Callable[[], bool], job: int = 0
) -> dict[str, Count]:
    """Take turns between the families until all cases are done, or the time is over.

    Of the cases in their order every `jobs`-th is this job's.
    """
    counts: dict[str, Count] = {}
    waiting = {family: _cases(world, family, asked) for family in FAMILIES}
    number = itertools.count()
    while waiting and not over():
        for family, cases in list(waiting.items()):
            found = next(cases, None)
            if found is None:
                del waiting[family]
            elif next(number) % asked.jobs == job:
                _do(world, found, asked, counts.setdefault(family, Count()))
    return counts


def _cases(world: World, family: str, asked: argparse.Namespace) -> Iterator[Case]:
    """Yield a family's cases, their names in full, one of each group in turn."""
    made: dict[str, Group] = import_module(f"tests.faults.{family}").groups(world)
    turns = {
        f"{family}/{name}": group(random.Random(f"{asked.seed}/{family}/{name}"))
        for name, group in made.items()
        if _wanted(f"{family}/{name}", asked)
    }
    left = {name: CORE[name] if asked.core else 1 << 30 for name in turns}
    while turns:
        for name, cases in list(turns.items()):
            try:
                found = next(cases, None) if left[name] else None
            except Exception as fault:  # of what the group's cases are made from
                found = _failing(fault)
                turns[name] = iter(())
            if found is None:
                del turns[name]
                continue
            full = Case(f"{name}/{found.name}", found.expects, found.check)
            if not asked.only or any(_below(full.name, one) for one in asked.only):
                left[name] -= 1
                yield full


def _failing(fault: Exception) -> Case:
    def check(place: Place) -> None:
        raise fault

    return Case("reference", "undisturbed, the command does what it should", check)


def _wanted(group: str, asked: argparse.Namespace) -> bool:
    """Whether a group may hold a case that is asked for."""
    if asked.core and group not in CORE:
        return False
    return not asked.only or _any(group, asked.only)


def _any(group: str, only: list[str]) -> bool:
    return any(_below(group, one) or _below(one, group) for one in only)


def _below(name: str, of: str) -> bool:
    return f"{name}/".startswith(f"{of}/")


def _do(world: World, case: Case, asked: argparse.Namespace, count: Count) -> None:
    started = time.monotonic()
    place = world.place(case.name, asked.seed)
    said = ""
    try:
        case.check(place)
        count.passed += 1
    except Skipped:
        count.skipped += 1
    except Fault as fault:
        said = str(fault)
    except Exception:
        said = f"the case itself fails\n{traceback.format_exc()}"
    for running in place.ran:
        running.kill()
        running.wait()
    if said:
        again = f"python -m tests.faults --seed {asked.seed} --only {case.name}"
        count.failed.append(
            {"case": case.name, "expects": case.expects, "found": said, "again": again}
        )
        print(f"FAULT {case.name}\n  expects: {case.expects}\n  found: ", end="")
        print(said.replace("\n", "\n    ").rstrip())
        print(f"  again: {again}", flush=True)
    if not (said and asked.keep):
        shutil.rmtree(place.home, ignore_errors=True)
    elif said:
        print(f"  kept: {place.home}", flush=True)
    count.seconds += time.monotonic() - started


def _show(counts: dict[str, Count], asked: argparse.Namespace, seconds: float) -> None:
    from sft_diversity.core import machine, show

    rows = [("family", "cases", "failed", "skipped", "seconds")]
    for family, count in counts.items():
        rows.append(
            (family, f"{count.cases:,}", str(len(count.failed)), str(count.skipped),
             f"{count.seconds:.0f}")
        )  # fmt: skip
    cases, failed = (sum(n) for n in zip(
        *((c.cases, len(c.failed)) for c in counts.values()), strict=True
    ))  # fmt: skip
    skipped = sum(count.skipped for count in counts.values())
    rows.append(("all", f"{cases:,}", str(failed), str(skipped), f"{seconds:.0f}"))
    print(show.numbers(rows))
    if asked.json is not None:
        families = {
            name: {"cases": count.cases, "skipped": count.skipped, "failed": count.failed,
                   "seconds": round(count.seconds, 1)}
            for name, count in counts.items()
        }  # fmt: skip
        body = {"seed": asked.seed, "cases": cases, "failed": failed, "seconds": round(seconds, 1),
                "families": families, "machine": machine.measured_on()}  # fmt: skip
        asked.json.write_text(json.dumps(body, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    sys.exit(main())
