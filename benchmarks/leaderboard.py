"""One table, peers beside us, in one run on one machine: README's leaderboard.

    python benchmarks/leaderboard.py CORPUS --root SOURCES [--peers PYTHON] [--only NAME ...]
    python benchmarks/leaderboard.py --show

CORPUS is that of `sftdiv ingest --config configs/ingest/reference-117k.yaml --root SOURCES`;
PYTHON an interpreter with apricot-select, submodlib-py and scipy. Every entry is a
benchmark of this folder, run as its own process in small, from a copy of the folder, so that what
it measured at full size stays. Processor seconds of both sides, children included: they hardly
depend on what else the machine does. An entry that fails is named with its reason and keeps no
older figure. Writes benchmarks/results/leaderboard.json, and the table between its marks in README.

To add a row: an `Entry` below, whose `read` takes from a benchmark's result what both sides took
and what shows that both did the same.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sft_diversity.core import folder, machine

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "leaderboard.json"
README = HERE.parent / "README.md"
MARKS = "<!-- leaderboard -->", "<!-- end of leaderboard -->"
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


@dataclass(frozen=True)
class Row:
    """What one comparison came to: processor seconds of both sides, and what shows them equal."""

    what: str
    peer: str
    ours: float
    theirs: float
    same: str

    @property
    def ratio(self) -> float:
        """How many times more the peer took."""
        return self.theirs / self.ours


@dataclass(frozen=True)
class Entry:
    """A benchmark: its file, arguments with {corpus} and such in them, and how it is read."""

    name: str
    arguments: tuple[str, ...]
    read: Callable[[Mapping[str, Any]], Iterator[Row]]


def ingest(found: Mapping[str, Any]) -> Iterator[Row]:
    """Both keep the same rows of every source, or the benchmark fails."""
    took = {side: min(one["cpu_seconds"] for one in runs) for side, runs in found["runs"].items()}
    rows = f"{found['rows_kept']:,} rows kept by both"
    yield Row("read 18 sources, 137,216 rows", "datasets", took["ours"], took["peer"], rows)


def tokens(found: Mapping[str, Any]) -> Iterator[Row]:
    """Encoding alone, and the pass of `index` with either library."""
    for pattern, one in found["patterns"].items():
        took = {side: seconds[0] for side, seconds in one["seconds_processor_and_wall"].items()}
        same = "ids equal" if one["ids_equal"] else "ids DIFFER"
        what = f"encode {one['tokens']:,} tokens, pattern of {pattern}"
        yield Row(what, "tokenizers", took["gigatoken"], took["hf"], same)


def embed(found: Mapping[str, Any]) -> Iterator[Row]:
    """The same texts, from loaded models."""
    for precision, one in found["sides"].items():
        if precision == "theirs":
            continue
        what = f"embed {found['texts']:,} texts ({precision})"
        took = one["cpu_s"], found["sides"]["theirs"]["cpu_s"]
        yield Row(what, "sentence-transformers", *took, f"mean cosine {one['mean_cosine']}")


def select(found: Mapping[str, Any]) -> Iterator[Row]:
    """Selection alone, of 5,000 rows, where the peers end."""
    for one in found["small"]:
        if one.get("peer_cpu_s") is None:
            continue
        value = f"value {one['ours_value']:,.0f}, peer's {one.get('peer_value', 0):,.0f}"
        took = max(one["ours_cpu_s"], 1e-4), one["peer_cpu_s"]  # no finer than it is written
        yield Row(
            f"select {one['size']} of {one['rows']:,}: {one['name']}",
            one["peer"].partition("-")[0],
            *took,
            "stopped" if one.get("stopped") else value,
        )


def train(found: Mapping[str, Any]) -> Iterator[Row]:
    """Steps of the same micro-batches."""
    for name, run in found["runs"].items():
        ours, theirs = (run["sides"][side]["step_cpu_s"] for side in ("ours", "trl"))
        same = f"losses within {run['greatest_loss_difference']['trl']:.1g}"
        yield Row(f"fine-tune {name}, a step", "TRL", ours, theirs, same)


BOARD = (
    Entry("ingest_vs_datasets", ("--root", "{root}", "--rounds", "1"), ingest),
    Entry("tokenize_vs_hf", ("{corpus}", "--rounds", "1"), tokens),
    Entry(
        "embed_vs_sentence_transformers",
        ("{corpus}", "--texts", "400", "--rounds", "1", "--precisions", "{precision}", "int8"),
        embed,
    ),
    Entry(
        "select_vs_peers",
        ("--index", "{work}/index", "--small-only", "--limit-s", "60", "--peers", "{peers}",
         "--results", "results", "--page", "peers.md", "--scratch", "peers"),
        select,
    ),
    Entry(
        "finetune_vs_trl",
        ("{subset}", "--steps", "4", "--rounds", "1", "--precisions", "{precision}", "--sides",
         "ours", "trl"),
        train,
    ),
)  # fmt: skip


def prepare(corpus: Path, place: Path) -> dict[str, str]:
    """Make what entries read beside the corpus; return how arguments name it."""
    given = {"work": str(place / "work"), "subset": str(place / "subset")}
    for words in (
        ["index", str(corpus), "--strategy", "micro-response"],
        ["index", str(corpus), "--strategy", "meso-instruction"],
        ["select", str(corpus), "--strategy", "random", "--size", "1000", "--out", given["subset"]],
    ):
        command = [sys.executable, "-m", "sft_diversity", *words, "--work", given["work"], "-q"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return given


def measure(entry: Entry, given: Mapping[str, str], place: Path) -> list[Row] | str:
    """Run an entry from a copy of this folder; return its rows, or why it has none."""
    copy = place / "benchmarks"
    words = [word.format(**given) for word in entry.arguments]
    command = [sys.executable, f"{entry.name}.py", *words]
    alone = os.environ | {name: "1" for name in THREADS if entry.name == "finetune_vs_trl"}
    alone |= {"PYTHONPATH": os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(command, cwd=copy, env=alone, capture_output=True, text=True, check=False)
    if done.returncode:
        return (done.stderr.strip().splitlines() or [f"ended with {done.returncode}"])[-1][:200]
    found = json.loads((copy / "results" / f"{entry.name}.json").read_text("utf-8"))
    return list(entry.read(found))


def table(board: Mapping[str, Any]) -> str:
    """Return the board in Markdown."""
    on = board["machine"]
    multiplies = "with" if on["bf16"] else "without"
    lines = [
        f"{on['processor']}, {on['cores']} cores, {multiplies} bfloat16, {on['date']}; processor "
        "seconds, one run of `make bench`:",
        "",
        "| what | peer | ours, s | peer's, s | ratio | and |",
        "| --- | --- | ---: | ---: | ---: | --- |",
    ]
    for one in board["rows"]:
        row = Row(**one)
        ratio = f"{row.ratio:,.0f} ×" if row.ratio >= 20 else f"{row.ratio:.1f} ×"
        took = f"{row.ours:.4g} | {row.theirs:.4g} | {ratio}"
        lines.append(f"| {row.what} | {row.peer} | {took} | {row.same} |")
    lines += [f"\n{name}: not measured ({why})." for name, why in board["failed"].items()]
    return "\n".join(lines)


def into(text: str, shown: str) -> str:
    """Return a page with the board between its marks.

    Raises
    ------
    ValueError
        If the marks are not there.
    """
    before, start, rest = text.partition(MARKS[0])
    _, end, after = rest.partition(MARKS[1])
    if not start or not end:
        raise ValueError(f"the page has no {MARKS[0]} … {MARKS[1]}")
    return f"{before}{start}\n{shown}\n{end}{after}"


def run(asked: argparse.Namespace) -> dict[str, Any]:
    """Measure all entries, or those asked for; return the board."""
    board: dict[str, Any] = {
        "command": "make bench", "machine": machine.measured_on(),
        "load_before": [round(one, 1) for one in os.getloadavg()], "rows": [], "failed": {},
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        shutil.copytree(HERE, place / "benchmarks", ignore=shutil.ignore_patterns("results"))
        (place / "benchmarks" / "results").mkdir()
        for name in ("configs", "data"):
            (place / name).symlink_to(HERE.parent / name)
        given = prepare(asked.corpus.resolve(), place) | {
            "corpus": str(asked.corpus.resolve()),
            "root": str(asked.root.resolve()),
            "peers": str(asked.peers),
            "precision": "bfloat16" if machine.has_bf16() else "float32",
        }
        for entry in BOARD:
            if asked.only and entry.name not in asked.only:
                continue
            started = time.monotonic()
            found = measure(entry, given, place)
            if isinstance(found, str):
                board["failed"][entry.name] = found
            else:
                board["rows"] += [asdict(row) for row in found]
            print(f"{entry.name}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    return board


def main() -> None:
    """Measure and show."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("corpus", type=Path, nargs="?")
    parser.add_argument("--root", type=Path, help="folder of the published sources")
    parser.add_argument("--peers", default=sys.executable, help="an interpreter that has the peers")
    parser.add_argument("--only", nargs="*", help="benchmarks to run")
    parser.add_argument("--show", action="store_true", help="write README's table anew, no more")
    asked = parser.parse_args()
    if not asked.show:
        if asked.corpus is None or asked.root is None:
            parser.error("give CORPUS and --root, or --show")
        RESULTS.write_text(folder.dump_json(run(asked)), "utf-8")
    shown = table(json.loads(RESULTS.read_text("utf-8")))
    print(shown)
    README.write_text(into(README.read_text("utf-8"), shown), "utf-8")


if __name__ == "__main__":
    main()
