"""Times and memory of `sftdiv explore`: the first view from a raw file, then moves of the dial.

    python benchmarks/explore_times.py CORPUS [--rows 1000000] [--moves 100] [--share]

The corpus's exchanges are written as a raw file first; with `--rows` so many are drawn from it with
replacement, a number behind each instruction so that no two are one sample. The server is a process
of its own with an empty work folder, asked over one connection as a browser does; times go from the
request to the last byte of the answer. Writes results/explore_times.json, a block a size.
"""

from __future__ import annotations

import argparse
import http.client
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
    source: Path, at: Path, size: int
) -> Iterator[tuple[subprocess.Popen[bytes], Page, float]]:
    """Yield a server's process, a page of it, and the seconds until it listened."""
    words = [sys.executable, "-m", "sft_diversity", "explore", str(source), "--no-open"]
    words += ["--size", str(size), "--work", str(at / "work"), "--root", str(at)]
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


def measured(source: Path, at: Path, size: int, moves: int, share: bool) -> dict[str, Any]:
    """Return what a person waits for, in the order in which they would."""
    started = time.perf_counter()
    with serving(source, at, size) as (process, page, listening):
        memory = psutil.Process(process.pid)
        found: dict[str, Any] = {"listening_s": round(listening, 1)}
        page.wait("api/corpus")
        page.wait("api/select", {"settings": {}})
        found["first_view_s"] = round(time.perf_counter() - started, 1)
        found["map_s"] = round(page.wait("api/map")[0], 1)
        rng = np.random.default_rng(0)
        dial = [int(one) for one in rng.permutation(101)[:moves]]

        def asked(**settings: Any) -> float:
            return page.wait("api/select", {"settings": settings})[0]

        found["dial_s"] = of([asked(diversity=one) for one in dial])
        found["seed_s"] = of([asked(diversity=50, seed=one) for one in range(1, 21)])
        for fill in ("uniform", "balance"):
            some = dial[: max(1, moves // 5)]
            found[f"fill_{fill}_s"] = of([asked(diversity=one, fill=fill) for one in some])
        found["new_size_s"] = of([asked(size=size // 2 + one) for one in range(3)])
        found["curve_s"] = round(page.wait("api/curve", {"settings": {"seed": 99}})[0], 2)
        found["search_s"] = round(page.wait("api/search?q=photosynthesis")[0], 3)
        found["samples_s"] = round(page.wait("api/samples?rows=5,50,150,300")[0], 3)
        found["explain_s"] = round(page.wait("api/explain", {"settings": {}, "row": 5})[0], 3)
        found["nearest_s"] = round(page.wait("api/nearest?row=5")[0], 3)
        if share:
            body = {"settings": {}, "what": "share", "to": "shared.html"}
            found["share_s"] = round(page.wait("api/keep", body)[0], 1)
            found["share_bytes"] = (at / "shared.html").stat().st_size
        used = memory.memory_info()
        found["memory_mb"] = used.rss >> 20
    return found


def main() -> None:
    """Measure one size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--rows", type=int, help="drawn with replacement; default: all, once")
    parser.add_argument("--size", type=int, default=10_000)
    parser.add_argument("--moves", type=int, default=100)
    parser.add_argument("--share", action="store_true", help="write the shared page too")
    parser.add_argument("--busy", action="store_true", help="others use this machine: upper bounds")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        at = Path(scratch)
        rows = written(asked.corpus, asked.rows, at / "raw.jsonl")
        found = measured(at / "raw.jsonl", at, asked.size, asked.moves, asked.share)
    every = json.loads(RESULT.read_text("utf-8")) if RESULT.exists() else {}
    every[f"{rows}"] = {
        "busy": asked.busy,
        "size": asked.size,
        **found,
        "machine": machine.measured_on(),
    }
    RESULT.write_text(json.dumps(every, indent=1) + "\n", "utf-8")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
