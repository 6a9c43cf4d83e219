"""Plain data in, one HTML page out: no script but ours, no request, nothing but text from data.

The page's Content-Security-Policy forbids every connection and every script and style but the two
embedded here, which it names by their hashes; so a text that got past the escaping still could
not run. Templates escape all they print.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from functools import lru_cache
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from sft_diversity.core.hashing import text_key
from sft_diversity.reporting import figures, views


def page_html(page: dict[str, Any]) -> str:
    """Return the HTML of a page's data (see `pages`)."""
    style, script = (_asset(name) for name in ("report.css", "report.js"))
    template = _environment().get_template(f"{_TEMPLATES[page['kind']]}.html")
    return template.render(
        page=page,
        style=Markup(style),  # ours
        script=Markup(script),  # ours
        policy=policy(style, script),
        view=views,
        plot=figures,
    )


_TEMPLATES = {"subset": "subset", "corpus": "subset", "comparison": "comparison", "study": "study"}


def policy(style: str, script: str) -> str:
    """Return the Content-Security-Policy of a page with just this style and this script."""
    return (
        "default-src 'none'; base-uri 'none'; form-action 'none'; "
        f"style-src '{_hash(style)}'; script-src '{_hash(script)}'"
    )


def embedded(value: Any) -> Markup:
    """Return JSON for a `<script type="application/json">`; no text in it can end the element."""
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)  # no sign of markup is left


@lru_cache
def page_look() -> str:
    """Return a hash of templates, style and script: a page made with others is out of date."""
    here = resources.files("sft_diversity.reporting")
    files = [f for part in ("assets", "templates") for f in here.joinpath(part).iterdir()]
    return text_key(*(t for f in sorted(files, key=str) for t in (f.name, f.read_text("utf-8"))))


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


@lru_cache
def _asset(name: str) -> str:
    return resources.files("sft_diversity.reporting").joinpath("assets", name).read_text("utf-8")


@lru_cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("sft_diversity.reporting", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "number": number_text, "signed": with_sign, "percent": percent, "embedded": embedded,
    }  # fmt: skip
    return made


# ---- numbers as people read them


def number_text(value: Any, digits: int = 3) -> str:
    """Return a count in full, another number with `digits` significant digits, none as a dash."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int) or (value == int(value) and abs(value) < 1e15):
        text = f"{int(value):,}"
    elif abs(value) >= 10**digits:
        text = f"{value:,.0f}"
    elif abs(value) < 1e-4:
        mantissa, _, power = f"{value:.{digits - 1}e}".partition("e")
        text = f"{mantissa}e{int(power)}"
    else:
        text = f"{value:.{digits}g}"
    return text.replace("-", "−")


def with_sign(value: Any, digits: int = 3) -> str:
    """Return a number with its sign."""
    text = number_text(value, digits)
    above = isinstance(value, int | float) and value > 0
    return f"+{text}" if above else text


def percent(share: Any, digits: int = 1) -> str:
    """Return a share in percent, none as a dash."""
    return "–" if share is None else f"{100 * share:.{digits}f} %"
