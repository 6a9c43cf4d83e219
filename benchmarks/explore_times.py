"""Times and memory of `sftdiv explore`: the first view from a raw file, then moves of the dial.

    python benchmarks/explore_times.py CORPUS [--rows 1000000] [--moves 100] [--share] [--macro]

The corpus's exchanges are written as a raw file first; with `--rows` so many are drawn from it with
replacement, a number behind each instruction so that no two are one sample. The server is a process
of its own with an empty work folder, asked over one connection as a browser does; times go from the
request to the last byte of the answer. `--macro` adds the first view of macro-response where
vectors are in the work folder already, 384 numbers a response around 300 centres, but no clusters.
`--keep FOLDER` leaves raw file and work folder there, for explore_page.py. Writes
results/explore_times.json, a block a size.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from sft_diversity.core import corpus as corpora
from sft_diversity.core import machine

RESULT = Path(__file__).with_name("results") / "explore_times.json"


class Page:
    """Asks a server as the page does."""

    def __init__(self, address: str) -> None:
        _, _, host, token, _ = address.split("/")
        self._prefix, self._connection = f"/{token}/", http.client.HTTPConnection(host, timeout=600)

    def ask(self, path: str, body: Any = None) -> tuple[int, bytes]:
        """Return status and content of an answer."""
        headers = {} if body is None else {"Content-Type": "application/json"}
        content = None if body is None else json.dumps(body)
        method = "GET" if body is None else "POST"
        self._connection.request(method, self._prefix + path, content, headers)
        answer = self._connection.getresponse()
        return answer.status, answer.read()

    def wait(self, path: str, body: Any = None) -> tuple[float, bytes]:
        """Return the seconds until an answer is there, and the answer; a job is waited for."""
        started = time.perf_counter()
        while True:
            status, content = self.ask(path, body)
            if status != 202:
                assert status == 200, content
                return time.perf_counter() - started, content
            job = json.loads(content)["job"]
            while (told := json.loads(self.ask(f"api/job/{job}")[1]))["state"] == "running":
                time.sleep(0.05)
            assert told["state"] == "done", told
            if path == "api/keep":
                return time.perf_counter() - started, json.dumps(told["result"]).encode()


def written(corpus: Path, rows: int | None, place: Path) -> int:
    """Write a corpus's exchanges as JSON lines; return how many."""
    table = corpora.read(corpus, ["instruction", "response"])
    chosen = np.arange(len(table))
    if rows is not None:
        chosen = np.random.default_rng(0).integers(len(table), size=rows)
    texts = [table[name].to_pylist() for name in ("instruction", "response")]
    with place.open("w", encoding="utf-8") as file:
        for number, row in enumerate(chosen.tolist()):
            behind = "" if rows is None else f" {number}"
            line = {"instruction": texts[0][row] + behind, "output": texts[1][row]}
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
    return len(chosen)


@contextmanager
def serving(
    source: Path, at: Path, asked: argparse.Namespace, *more: str
) -> Iterator[tuple[subprocess.Popen[bytes], Page, float]]:
    """Yield a server's process, a page of it, and the seconds until it listened."""
    words = [sys.executable, "-m", "sft_diversity", "explore", str(source), "--no-open"]
    words += ["--size", str(asked.size), "--work", str(at / "work"), "--root", str(at), *more]
    words += ["--tokenizer", asked.tokenizer] if asked.tokenizer else []
    started, said = time.perf_counter(), at / "said.txt"
    with said.open("wb") as file:
        process = subprocess.Popen(words, stderr=file, stdout=file)
        try:
            while not (found := re.search(r"http://\S+/", said.read_text("utf-8"))):
                assert process.poll() is None, said.read_text("utf-8")
                time.sleep(0.05)
            yield process, Page(found[0]), time.perf_counter() - started
        finally:
            process.send_signal(signal.SIGINT)
            process.wait()


def of(seconds: list[float]) -> dict[str, float]:
    """Return percentiles of times."""
    named = {"p50": 50, "p95": 95, "most": 100}
    return {name: round(float(np.percentile(seconds, at)), 3) for name, at in named.items()}


def measured(source: Path, at: Path, asked: argparse.Namespace) -> Iterator[tuple[str, Any]]:
    """Yield what a person waits for, in the order in which they would; the map comes by itself."""
    started, moves = time.perf_counter(), asked.moves
    with serving(source, at, asked) as (process, page, listening):
        yield "listening_s", round(listening, 1)
        page.wait("api/corpus")
        page.wait("api/select", {"settings": {}})
        yield "first_view_s", round(time.perf_counter() - started, 1)
        dial = [int(one) for one in np.random.default_rng(0).permutation(101)[:moves]]

        def one(path: str, body: Any = None) -> float:
            return round(page.wait(path, body)[0], 3)

        def all_of(settings: list[dict[str, Any]]) -> dict[str, float]:
            return of([one("api/select", {"settings": each}) for each in settings])

        yield "dial_s", all_of([{"diversity": each} for each in dial])
        some = range(max(1, moves // 5))
        yield "seed_s", all_of([{"diversity": 50, "seed": each + 1} for each in some])
        for fill in ("uniform", "balance"):
            yield f"fill_{fill}_s", all_of([{"diversity": dial[n], "fill": fill} for n in some])
        yield "new_size_s", all_of([{"size": asked.size // 2 + each} for each in range(3)])
        yield "search_s", one("api/search?q=photosynthesis")
        yield "samples_s", one("api/samples?rows=5,50,150,300")
        yield "explain_s", one("api/explain", {"settings": {}, "row": 5})
        yield "nearest_s", one("api/nearest?row=5")
        yield "curve_s", one("api/curve", {"settings": {"seed": 99}})
        yield "memory_mb", psutil.Process(process.pid).memory_info().rss >> 20
        yield "map_s", one("api/map")
        if asked.share:
            body = {"settings": {}, "what": "share", "to": "shared.html"}
            yield "share_s", one("api/keep", body)
            yield "share_bytes", (at / "shared.html").stat().st_size


def macro(at: Path, asked: argparse.Namespace) -> Iterator[tuple[str, Any]]:
    """Yield the first view of macro-response, embeddings cached, and moves of its dial."""
    ids = corpora.read(asked.corpus, ["id"])["id"]
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((300, 384), np.float32)[rng.integers(300, size=len(ids))]
    vectors += rng.standard_normal(vectors.shape, np.float32)
    flat = pa.array(vectors.ravel())
    given = ["--embeddings", str(at / "vectors.parquet")]
    pq.write_table(
        pa.table([ids, pa.FixedSizeListArray.from_arrays(flat, 384)], ["id", "embedding"]), given[1]
    )
    words = [sys.executable, "-m", "sft_diversity", "embed", str(asked.corpus), "--quiet", *given]
    subprocess.run([*words, "--work", str(at / "work")], check=True)
    started = time.perf_counter()
    with serving(asked.corpus, at, asked, *given, "--strategy", "macro-response") as (
        process,
        page,
        _,
    ):
        page.wait("api/corpus")
        page.wait("api/select", {"settings": {}})
        yield "macro_first_view_s", round(time.perf_counter() - started, 1)
        dial = np.random.default_rng(0).permutation(101)[: asked.moves].tolist()
        moved = [page.wait("api/select", {"settings": {"diversity": one}})[0] for one in dial]
        yield "macro_dial_s", of(moved)
        yield "macro_memory_mb", psutil.Process(process.pid).memory_info().rss >> 20


def main() -> None:
    """Measure one size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--rows", type=int, help="drawn with replacement; default: all, once")
    parser.add_argument("--size", type=int, default=10_000)
    parser.add_argument("--tokenizer", help="default: that of the packaged base model")
    parser.add_argument("--moves", type=int, default=100)
    parser.add_argument("--share", action="store_true", help="write the shared page too")
    parser.add_argument("--macro", action="store_true", help="a first view from embeddings too")
    parser.add_argument("--keep", type=Path, help="an empty folder; default: one that is removed")
    parser.add_argument("--busy", action="store_true", help="others use this machine: upper bounds")
    asked = parser.parse_args()
    found: dict[str, Any] = {"busy": asked.busy, "size": asked.size, "tokenizer": asked.tokenizer}
    found["machine"] = machine.measured_on()
    with tempfile.TemporaryDirectory() as scratch:
        at = asked.keep or Path(scratch)
        at.mkdir(exist_ok=True)
        rows = written(asked.corpus, asked.rows, at / "raw.jsonl")
        parts = [measured(at / "raw.jsonl", at, asked), macro(at, asked) if asked.macro else []]
        for name, value in itertools.chain(*parts):
            print(name, value, flush=True)
            found[name] = value
            every = json.loads(RESULT.read_text("utf-8")) if RESULT.exists() else {}
            RESULT.write_text(json.dumps(every | {f"{rows}": found}, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
