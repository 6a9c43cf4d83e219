"""The documentation site builds without a warning, and its pages load nothing from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sft_diversity.selection.config import SelectConfig
from sft_diversity.verbs import VERBS

pytestmark = pytest.mark.slow  # the whole site is built; .ci/run asks for it
ROOT = Path(__file__).resolve().parents[1]
ASKED = re.compile(
    r"<(?:script|link|img|iframe|source)[^>]*?(?:src|href)=\"?(https?:[^\">]+|//[^\">]+)"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    out = tmp_path_factory.mktemp("site") / "built"
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)],
        cwd=ROOT, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return out


def test_every_page_of_docs_is_in_the_site_and_loads_nothing_from_elsewhere(site):
    built = {path.relative_to(site).with_suffix("").as_posix() for path in site.rglob("*.html")}
    pages = (ROOT / "docs").rglob("*.md")
    assert {path.relative_to(ROOT / "docs").with_suffix("").as_posix() for path in pages} <= built
    asked = {
        (path.name, address)
        for path in site.rglob("*.html")
        for address in ASKED.findall(path.read_text("utf-8"))
        if not address.startswith("http://www.w3.org/")
    }
    assert asked == set()
    styles = [path.read_text("utf-8") for path in site.rglob("*.css")]
    assert not any(re.search(r"url\(['\"]?https?:|@import", style) for style in styles)


def test_the_commands_page_has_every_verb_and_option(site):
    text = (site / "commands.html").read_text("utf-8")
    assert [name for name in VERBS if f'<h2 id="{name}">' not in text] == []
    flags = [f"--{name.replace('_', '-')}" for name in SelectConfig.model_fields]
    for flag in set(flags) - {"--ingest", "--embed", "--index", "--judge", "--made-from"}:
        assert f"<code>{flag}</code>" in text, flag
    assert "<code>index.micro.band</code>" in text or "<code>micro.band</code>" in text


def test_what_python_has_is_in_the_site(site):
    import sft_diversity

    text = "".join(path.read_text("utf-8") for path in (site / "api").glob("*.html"))
    missing = [
        name for name in sft_diversity.__all__ if not re.search(rf'id="[\w.]*\b{name}"', text)
    ]
    assert missing == []
