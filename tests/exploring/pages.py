"""A server of the page over real samples, and the page in Chromium."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

import sft_diversity as sd
from sft_diversity.core.store import corpus_at
from sft_diversity.exploring.app import Routes
from sft_diversity.exploring.session import Session

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "a-token-of-tests"
NO_WEBGL = ("--disable-gpu", "--disable-3d-apis")
SOURCES = ("alpaca_en_demo", "gpteacher_roleplay", "vicuna_identity_dummy", "t0_p3_per_template")
WEBGL = ("--use-angle=swiftshader", "--enable-unsafe-swiftshader")


def sample(at: Path) -> Path:
    """Ingest four sources of the checked-in sample: some 600 samples."""
    options = yaml.safe_load((ROOT / "configs/ingest/sample.yaml").read_text("utf-8"))
    options["root"] = str(ROOT / "data/sample")
    options["sources"] = [one for one in options["sources"] if one["name"] in SOURCES]
    (at / "sample.yaml").write_text(yaml.safe_dump(options), "utf-8")
    return Path(sd.ingest(config=at / "sample.yaml", out=at / "corpus", work=at / "work").folder)


@contextlib.contextmanager
def served(corpus: Path, work: Path, root: Path, **given: Any) -> Iterator[str]:
    """Serve a corpus on a free port; the address of its page."""
    import uvicorn

    session = Session(corpus_at(corpus), [str(corpus)], work, given, root)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        app = Routes(session).app(TOKEN, port)
        server = uvicorn.Server(
            uvicorn.Config(app, log_level="error", lifespan="off", ws="none", access_log=False)
        )
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{port}/{TOKEN}/"
        finally:
            server.should_exit = True
            thread.join(20)


@dataclass
class Tab:
    """A page that is looked at, and all that it said to the console."""

    page: Any
    said: list[str] = field(default_factory=list)

    def until(self, what: str, seconds: float = 120) -> None:
        """Wait in the page until an expression is true: the policy forbids the page's own eval."""
        over = self.page.evaluate(f"""async () => {{
          const end = performance.now() + {1_000 * seconds};
          while (!({what})) {{
            if (performance.now() > end) return false;
            await new Promise(over => setTimeout(over, 20));
          }}
          return true;
        }}""")
        assert over, (what, self.said)

    def settled(self) -> None:
        """Wait until the newest picture is that of the settings."""
        self.until(
            "explored.told !== null && explored.shownFor === explored.store.settings"
            " && !explored.selecting.running"
        )

    def set(self, **settings: Any) -> None:
        """Change settings as the controls do, and wait for their picture."""
        self.page.evaluate("settings => explored.store.set(settings)", settings)
        self.settled()

    def rows(self, name: str = "picks") -> list[int]:
        """Return rows that the page holds: picks, entered or left."""
        found: list[int] = self.page.evaluate(f"[...explored.{name}]")
        return found

    def within(self, pixels: str) -> tuple[float, float, float]:
        """Return the middle of an element, and the lesser half of its sides."""
        box = self.page.locator(pixels).bounding_box()
        across, down = box["width"] / 2, box["height"] / 2
        return box["x"] + across, box["y"] + down, min(across, down)


@contextlib.contextmanager
def opened(
    browser: Any, address: str, width: int = 1400, scheme: str = "light", **more: Any
) -> Iterator[Tab]:
    """Open a page and wait for its first picture and its map."""
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, **more
    )
    tab = Tab(context.new_page())
    tab.page.on("console", lambda message: tab.said.append(message.text))
    tab.page.on("pageerror", lambda fault: tab.said.append(str(fault)))
    tab.page.goto(address)
    tab.until("globalThis.explored?.told && document.querySelector('#stage').dataset.drawn")
    tab.settled()
    yield tab
    context.close()
