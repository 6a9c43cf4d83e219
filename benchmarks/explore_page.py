"""The page of `sftdiv explore`: from a move of the dial to its picture, frames in panning, memory.

    python benchmarks/explore_page.py CORPUS [--work FOLDER] [--moves 100] [--points N]

Starts the command on a corpus whose dial and map are made already, opens the page in Chromium at
1,400 px, and measures in it: wall time from a move of the dial to the second frame after its
picture is drawn, and processor time of server and browser for it; the time between frames while
the map is panned, how many points were drawn then, and one picture of all points to its last pixel;
memory of the page's process and of the server's.
The points are drawn by the canvas that stands in where no graphics processor is, in Chromium as it
starts there, and then by WebGL in software: Chromium does that on demand alone, and puts the whole
page together so. With `--points N` the page is then given so many points and marks in place of the
corpus's: what the page does is measured at that size, what the server does is not (explore_times.py
does). Writes results/explore_page.json.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from playwright.sync_api import sync_playwright

from sft_diversity.core import machine

RESULT = Path(__file__).with_name("results") / "explore_page.json"
#: What draws the points, and what Chromium is started with for it.
DRAWN_BY = {"canvas": (), "WebGL": ("--use-angle=swiftshader", "--enable-unsafe-swiftshader")}
FRAMES = 120
_MOVES = """async places => {
  const frame = () => new Promise(requestAnimationFrame);
  const took = [];
  for (const diversity of places) {
    const start = performance.now();
    await new Promise(over => {
      const heard = ({detail}) => {
        if (detail.settings.diversity !== diversity) return;
        document.removeEventListener('picture', heard);
        over();
      };
      document.addEventListener('picture', heard);
      explored.turn(diversity);
    });
    await frame();
    await frame();
    took.push(performance.now() - start);
    await new Promise(over => setTimeout(over, 50));
  }
  return took;
}"""
_PAN = """async frames => {
  const took = [];
  const drawn = [];
  let before = 0;
  for (let i = 0; i < frames; i += 1) {
    const now = await new Promise(requestAnimationFrame);
    if (before) took.push(now - before);
    before = now;
    explored.map.pan(i % 60 < 30 ? 9 : -9, i % 40 < 20 ? 5 : -5);
    drawn.push(Math.min(explored.map.budget, explored.map.places.many));
  }
  return {took: took.slice(20), drawn: drawn.slice(20)};
}"""
_MANY = """many => {
  const {map, corpus, picks} = explored;
  const from = map.places.pairs;
  const to = new Uint16Array(2 * many);
  let state = 1;
  const next = () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 4294967296;
  const step = value => Math.min(65534, Math.max(0, value + Math.round((next() - 0.5) * 600)));
  for (let i = 0; i < many; i += 1) {
    const row = i < corpus.n ? i : Math.floor(next() * corpus.n);
    const there = from[2 * row] !== 65535;
    for (const axis of [0, 1]) to[2 * i + axis] = there ? step(from[2 * row + axis]) : 65535;
  }
  const start = performance.now();
  map.lay(to, corpus.map.regions);
  explored.now = new Uint8Array(many);
  for (const row of picks) explored.now[row] = 1;
  explored.before = explored.now.slice();
  explored.looks.paint();
  return performance.now() - start;
}"""
_WHOLE = """() => {
  const {map} = explored;
  map.budget = Infinity;
  const start = performance.now();
  map.draw();
  new OffscreenCanvas(1, 1).getContext('2d').drawImage(map.points, 0, 0);
  map.renderer.gl?.readPixels(0, 0, 1, 1, 6408, 5121, new Uint8Array(4));
  return performance.now() - start;
}"""


@contextlib.contextmanager
def server(corpus: str, work: str, size: str) -> Iterator[tuple[str, int]]:
    """Run `sftdiv explore`; give the address of its page and its process number."""
    words = ["explore", corpus, "--work", work, "--size", size, "--no-open"]
    command = [sys.executable, "-m", "sft_diversity", *words]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = (re.search(r"http://\S+", line) for line in process.stderr)
        try:
            yield next(found[0] for found in said if found is not None), process.pid
        finally:
            process.terminate()


def spread(values: list[float]) -> dict[str, float]:
    """Return median, 95th percentile and greatest of milliseconds."""
    found = np.percentile(values, [50, 95, 100])
    return {n: round(float(v), 1) for n, v in zip(("p50", "p95", "max"), found, strict=True)}


def until(page: Any, what: str, seconds: float) -> float:
    """Wait until an expression is true; return the seconds."""
    start = time.monotonic()
    while not page.evaluate(what):
        if time.monotonic() - start > seconds:
            raise SystemExit(f"never: {what}")
        time.sleep(0.02)
    return time.monotonic() - start


def processor_s(process: int) -> float:
    """Return the processor seconds that the server and the browser have used."""
    every = [psutil.Process(process), *psutil.Process().children(recursive=True)]
    times = [one.cpu_times() for one in dict.fromkeys(every)]
    return float(sum(one.user + one.system for one in times))


def megabytes(processes: list[psutil.Process]) -> int:
    """Return the resident memory of the greatest of some processes, in 10⁶ bytes."""
    return int(max(one.memory_info().rss for one in processes) / 1e6)


def measured(
    player: Any, drawn_by: str, address: str, process: int, moves: int, points: int | None
) -> dict[str, Any]:
    """Open the page and measure."""
    arguments = ["--no-sandbox", "--enable-precise-memory-info", *DRAWN_BY[drawn_by]]
    browser = player.chromium.launch(executable_path=shutil.which("chromium"), args=arguments)
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    start = time.monotonic()
    page.goto(f"{address}#{drawn_by.lower()}")
    until(page, "!!globalThis.explored?.told", 300)
    first = time.monotonic() - start
    until(page, "!!document.querySelector('#stage').dataset.drawn", 300)
    placed = time.monotonic() - start
    assert page.get_attribute("#stage", "data-drawn") == drawn_by
    until(page, "explored.line !== null", 300)
    laid = {} if points is None else {"laid_ms": round(page.evaluate(_MANY, points))}
    rng = np.random.default_rng(0)
    places = rng.permutation(101)[:moves].tolist()
    spent = processor_s(process)
    took = page.evaluate(_MOVES, places)
    spent = processor_s(process) - spent
    pan = page.evaluate(_PAN, FRAMES)
    whole = [page.evaluate(_WHOLE) for _ in range(5)]
    renderers = [
        one
        for one in psutil.Process().children(recursive=True)
        if "--type=renderer" in " ".join(one.cmdline())
    ]
    found = {
        "first_picture_s": round(first, 2),
        "map_drawn_s": round(placed, 2),
        **laid,
        "dial_ms": spread(took),
        "dial_processor_ms": round(1_000 * spent / len(places)),
        "frame_ms": spread(pan["took"]),
        "points_while_panning": int(np.median(pan["drawn"])),
        "all_points_ms": round(float(np.median(whole)), 1),
        "page_mb": megabytes(renderers),
        "script_heap_mb": round(page.evaluate("performance.memory.usedJSHeapSize") / 1e6),
    }
    browser.close()
    return found


def main() -> None:
    """Measure both ways of drawing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus")
    parser.add_argument("--work", default=".sftdiv")
    parser.add_argument("--size", default="10000")
    parser.add_argument("--moves", type=int, default=100)
    parser.add_argument("--points", type=int, help="drawn anew from the map's, at a small step")
    parser.add_argument("--drawn-by", choices=DRAWN_BY, action="append", help="default: both")
    parser.add_argument("--busy", action="store_true", help="others use this machine: upper bounds")
    asked = parser.parse_args()
    rows = json.loads((Path(asked.corpus) / "manifest.json").read_text("utf-8"))["rows"]["kept"]
    found = json.loads(RESULT.read_text("utf-8")) if RESULT.exists() else {}
    with (
        server(asked.corpus, asked.work, asked.size) as (address, process),
        sync_playwright() as player,
    ):
        for name in asked.drawn_by or DRAWN_BY:
            for points in dict.fromkeys((None, asked.points)):
                took = measured(player, name, address, process, asked.moves, points)
                entry = {
                    "rows": rows, "size": int(asked.size), "moves": asked.moves,
                    "busy": asked.busy, "server_mb": megabytes([psutil.Process(process)]),
                    **took, "machine": machine.measured_on(),
                }  # fmt: skip
                found[f"{points or rows} points, {name} in software"] = entry
                RESULT.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
                print(name, points or rows, json.dumps(took), flush=True)


if __name__ == "__main__":
    main()
