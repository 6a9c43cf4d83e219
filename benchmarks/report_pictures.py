"""The pictures of docs/reports.md: three reports, at 1,400 px light beside 400 px dark.

    python benchmarks/report_pictures.py

Subsets of the checked-in sample, and the committed study in miniature; a minute. Needs Chromium.
"""

from __future__ import annotations

import io
import shutil
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

import sft_diversity as sd

ROOT = Path(__file__).resolve().parents[1]
VIEWS = (("light", 1400), ("dark", 400))
GAP, GREY, COLOURS = 20, (128, 128, 128), 128


def pages(at: Path) -> dict[str, tuple[Path, int]]:
    """Make the reports; return the page of each picture, and its height in pixels."""
    work = at / "work"
    corpus = sd.ingest(config=ROOT / "configs/ingest/sample.yaml", out=at / "sample", work=work)
    made = {}
    for name, strategy in (("micro-response-100", "micro-response"), ("random", "random")):
        made[name] = at / name
        sd.select(corpus, size=300, strategy=strategy, out=made[name], work=work)  # type: ignore[arg-type]
    shutil.copytree(ROOT / "docs/experiments/miniature", at / "miniature")
    reports = {
        "report-subset": ([made["micro-response-100"]], 1500),
        "report-comparison": ([*made.values()], 1500),
        "report-study": ([at / "miniature"], 2200),
    }
    for name, (sources, _) in reports.items():
        sd.report(*sources, out=at / f"{name}.html", work=work, corpus=corpus.folder, measure=False)
    return {name: (at / f"{name}.html", height) for name, (_, height) in reports.items()}


def seen(browser: Any, page: Path, height: int) -> Image.Image:
    """Return the top of a page, light and wide beside dark and narrow."""
    shots = []
    for scheme, width in VIEWS:
        view = browser.new_page(color_scheme=scheme, viewport={"width": width, "height": height})
        view.goto(page.as_uri())
        shots.append(Image.open(io.BytesIO(view.screenshot())).convert("RGB"))
        view.close()
    whole = Image.new("RGB", (sum(one.width for one in shots) + GAP, height), GREY)
    whole.paste(shots[0], (0, 0))
    whole.paste(shots[1], (shots[0].width + GAP, 0))
    return whole.quantize(COLOURS)


def main() -> None:
    """Write the three pictures."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        for name, (page, height) in pages(Path(folder)).items():
            seen(browser, page, height).save(ROOT / f"docs/{name}.png", optimize=True)
        browser.close()


if __name__ == "__main__":
    main()
