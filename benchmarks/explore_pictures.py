"""The pictures of docs/explore.md: the page at 1,400 px light, and at 400 px dark.

    python benchmarks/explore_pictures.py CORPUS [--work FOLDER]

Serves the corpus as `sftdiv explore` does, turns the dial from 100 to 96 %, and takes the picture;
the narrow one by colours of sources. A minute where dial and map are made already. Needs Chromium.
"""

from __future__ import annotations

import argparse
import io
import shutil
import time
from pathlib import Path
from typing import Any

from explore_page import server, until
from PIL import Image
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[1]
COLOURS = 256
READY = (
    "!!globalThis.explored?.told && explored.line !== null"
    " && !!document.querySelector('#stage').dataset.drawn"
)


def turned(page: Any, diversity: int) -> None:
    """Turn the dial and wait for the picture and for all texts of the list."""
    page.evaluate("value => explored.store.set({diversity: value})", diversity)
    until(page, f"explored.shownFor.diversity === {diversity} && !explored.selecting.running", 60)
    time.sleep(2)


def save(page: Any, name: str) -> None:
    """Write a picture of what is seen."""
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB").quantize(COLOURS)
    picture.save(ROOT / f"docs/{name}.png", optimize=True)


def take(browser: Any, address: str) -> None:
    """Write both pictures of a page."""
    for name, width, height, scheme in (
        ("explore", 1400, 900, "light"), ("explore-narrow-dark", 400, 1250, "dark"),
    ):  # fmt: skip
        size = {"width": width, "height": height}
        page = browser.new_page(viewport=size, color_scheme=scheme)
        page.goto(address)
        until(page, READY, 300)
        turned(page, 100)
        turned(page, 96)
        if width < 1000:
            page.select_option("#colour-by", "source")
            time.sleep(2)
        save(page, name)


def main() -> None:
    """Write both pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus")
    parser.add_argument("--work", default=".sftdiv")
    asked = parser.parse_args()
    with server(asked.corpus, asked.work, "10000") as (address, _), sync_playwright() as player:
        browser = player.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        take(browser, address)
        browser.close()


if __name__ == "__main__":
    main()
