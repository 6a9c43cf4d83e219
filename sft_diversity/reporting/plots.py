"""Plots by matplotlib: as SVG in a page's own colours, light or dark, and as files for papers.

matplotlib draws with the light colours of the style sheet; for a page each of them becomes the
variable that it is the light value of. Style attributes, which the page's policy forbids, become
plain ones, and a marker becomes a circle that tells its values when pointed at.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np
from markupsafe import Markup

from sft_diversity.core import folder
from sft_diversity.core.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Pairs = Sequence[tuple[float, float]]
Bands = Sequence[tuple[float, float, float]]
WIDTH, HEIGHT = 360, 240  # of a plot on a page, in its pixels
_DASHES, _DOTS = (0, (4, 3)), (0, (1.5, 2.5))
_KEPT = {
    "fill", "fill-opacity", "stroke", "stroke-width", "stroke-opacity", "stroke-dasharray",
    "text-anchor",
}  # fmt: skip
_NUMBER = re.compile(r"-?\d+\.\d+")


@lru_cache
def colours() -> dict[str, str]:
    """Return the light colours of the style sheet by name."""
    sheet = resources.files("sft_diversity.reporting").joinpath("assets", "report.css")
    return dict(re.findall(r"--([\w]+): light-dark\((#\w{6})", sheet.read_text("utf-8")))


@contextmanager
def drawing() -> Iterator[None]:
    """Draw plots as ours look: text as text, no frame, no mathematics in names."""
    import matplotlib

    soft, rule = colours()["soft"], colours()["rule"]
    look: dict[Any, Any] = {
        "svg.fonttype": "none", "svg.hashsalt": "sftdiv", "pdf.fonttype": 42,
        "text.parse_math": False, "font.size": 11,
        "axes.spines.top": False, "axes.spines.right": False, "axes.spines.left": False,
        "axes.edgecolor": soft, "axes.labelcolor": soft, "axes.titlesize": 11, "text.color": soft,
        "xtick.color": soft, "ytick.color": soft, "xtick.bottom": False, "ytick.left": False,
        "axes.grid": True, "axes.grid.axis": "y", "grid.color": rule, "axes.axisbelow": True,
        "axes.formatter.useoffset": False, "lines.solid_capstyle": "butt", "legend.frameon": False,
    }  # fmt: skip
    with matplotlib.rc_context(look):
        yield


def one_plot(x: str, y: str) -> tuple[Figure, Axes]:
    """Return a figure of a page's size with one pair of axes; call it while `drawing`."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH / 72, HEIGHT / 72), dpi=72)
    axes = figure.add_axes((0.178, 0.158, 0.788, 0.792))
    axes.locator_params(nbins=5)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    return figure, axes


# ---- what is drawn on axes


def line(axes: Axes, points: Pairs, colour: str, how: str = "solid") -> None:
    """Draw a line through points: `solid`, `dashed`, or `thin` and dotted."""
    style: Any = {"solid": "-", "dashed": _DASHES, "thin": _DOTS}[how]
    width = {"solid": 2.0, "dashed": 1.5, "thin": 1.0}[how]
    axes.plot(*_columns(points), color=colours()[colour], linestyle=style, linewidth=width)


def dots(axes: Axes, points: Pairs, name: str, colour: str, filled: bool = True) -> None:
    """Draw points; on a page each tells `name` and its values."""
    edge = colours()["bg" if filled else colour]
    axes.plot(
        *_columns(points), linestyle="none", marker="o", markersize=6.4, clip_on=False, zorder=3,
        markerfacecolor=colours()[colour if filled else "bg"], markeredgecolor=edge,
        markeredgewidth=1.0 if filled else 1.6, gid=f"dots {name}",
    )  # fmt: skip


def band(axes: Axes, edges: Bands, colour: str) -> None:
    """Draw what lies between the lows and highs of (x, low, high)."""
    x, low, high = np.array(edges, dtype=np.float64).T
    axes.fill_between(x, low, high, color=colours()[colour], alpha=0.16, linewidth=0)


def level(axes: Axes, y: float, name: str, colour: str) -> None:
    """Draw a dashed line across, which tells `name` and its value."""
    said = f"level {name}: {y:.5g}"
    axes.axhline(y, gid=said, color=colours()[colour], linestyle=_DASHES, linewidth=1.5)


def step_lines(axes: Axes, edges: Sequence[int], shares: Sequence[float], colour: str) -> None:
    """Draw the shares of bins as steps; the corpus's, which is `ref`, dashed."""
    style = _DASHES if colour == "ref" else "-"
    axes.stairs(
        list(shares), [max(edge, 1) for edge in edges], color=colours()[colour],
        linestyle=style, linewidth=1.5 if colour == "ref" else 2.0,
    )  # fmt: skip


def log_axis(axes: Axes, top: float) -> None:
    """Make x logarithmic from 1 to `top`, with whole powers of 2 at its ticks, and y begin at 0."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axes.set_xscale("log", base=2)
    powers = range(math.ceil(math.log2(max(top, 2))) + 1)
    every = 2 if len(powers) > 7 else 1
    axes.xaxis.set_major_locator(FixedLocator([2.0**p for p in powers[::every] if 2**p <= top]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{int(x):,}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlim(1, max(top, 2))
    axes.set_ylim(bottom=0)


def extent(values: Sequence[float]) -> tuple[float, float]:
    """Return the range of values, a little wider."""
    low, high = min(values), max(values)
    space = (high - low) * 0.06 or max(abs(high), 1.0) * 0.05
    return low - space, high + space


def _columns(points: Pairs) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]


# ---- from matplotlib's SVG to a page's


def svg(figure: Figure, title: str) -> Markup:
    """Return a figure as an SVG that says `title` to those who hear it.

    A table with the same numbers belongs beside it. No other plot of the page has that title: the
    id of what clips its lines is made of it.
    """
    text = io.StringIO()
    for patch in (figure.patch, *(axes.patch for axes in figure.axes)):
        patch.set_visible(False)  # the page's ground shows through
    figure.savefig(text, format="svg", metadata={"Date": None})  # else SOURCE_DATE_EPOCH is read
    root = ElementTree.fromstring(text.getvalue())
    clip = "clip-" + hashlib.sha256(title.encode()).hexdigest()[:12]
    parts = [_mark("clipPath", {"id": clip}, _mark("rect", _places(box)))
             for box in root.iterfind(".//{*}clipPath/{*}rect")][:1]  # fmt: skip
    shapes = {
        f"#{node.get('id')}": node.get("d", "") for node in root.iterfind(".//{*}defs/{*}path")
    }
    told = _told(figure)
    for group in root.iterfind("{*}g"):
        parts += _marks(group, shapes, clip, told)
    attributes = {"class": "plot", "viewBox": str(root.get("viewBox")), "role": "img"}
    return _mark("svg", attributes | {"aria-label": title}, Markup("").join(parts))


def _told(figure: Figure) -> dict[str, Iterator[str]]:
    """Return what the points of each group of dots tell, in their order."""
    found = {}
    for artist in (line for axes in figure.axes for line in axes.lines):
        kind, _, name = (artist.get_gid() or "").partition(" ")
        if kind == "dots":
            points = np.asarray(artist.get_xydata()).tolist()
            found[f"dots {name}"] = iter([f"{name}: {x:.5g}, {y:.5g}" for x, y in points])
    return found


def _marks(
    node: ElementTree.Element, shapes: dict[str, str], clip: str, told: dict[str, Iterator[str]],
    group: str = "", clipped: bool = False,
) -> list[Markup]:  # fmt: skip
    """Return an element of matplotlib's SVG, and those in it, in plain attributes and no groups."""
    kind = node.tag.rpartition("}")[2]
    clipped = clipped or "clip-path" in node.attrib
    if kind == "g":
        group = node.get("id", "") if node.get("id", "").startswith(("dots ", "level ")) else group
        inner = [_marks(one, shapes, clip, told, group, clipped) for one in node]
        return [mark for marks in inner for mark in marks]
    if kind not in ("path", "use", "text"):
        return []
    style = _style(node)
    if kind == "text":
        turn = node.get("transform", "")
        style |= _places(node) | ({} if turn.startswith("rotate(-0 ") else {"transform": turn})
        return [_mark("text", style, node.text or "")]
    if group in told:
        style |= {"class": "dot", "cx": _short(node.get("x")), "cy": _short(node.get("y"))}
        return [_mark("circle", style | {"r": "3.2"}, _mark("title", {}, next(told[group])))]
    if kind == "use":  # a band, drawn about the lower edge
        style["d"] = _short(shapes[node.get("{http://www.w3.org/1999/xlink}href", "")])
        style["transform"] = f"translate({_short(node.get('x'))} {_short(node.get('y'))})"
    else:
        style["d"] = _short(node.get("d"))
    said = group.removeprefix("level ") if group.startswith("level ") else ""
    path = _mark("path", style, _mark("title", {}, said) if said else "")
    if clipped and style.get("stroke") != "var(--rule)":  # around the path: it may be moved
        path = _mark("g", {"clip-path": f"url(#{clip})"}, path)
    return [path]


def _style(node: ElementTree.Element) -> dict[str, str]:
    """Return a style as attributes, with the page's variables for its colours."""
    names = {value: f"var(--{name})" for name, value in colours().items()}
    pairs = (one.split(":", 1) for one in node.get("style", "").split(";") if ":" in one)
    found = {name.strip(): value.strip() for name, value in pairs}
    return {name: names.get(value, value) for name, value in found.items() if name in _KEPT}


def _places(node: ElementTree.Element) -> dict[str, str]:
    return {
        name: _short(node.get(name)) for name in ("x", "y", "width", "height") if node.get(name)
    }


def _short(text: str | None) -> str:
    """Return text on one line, its numbers with a digit behind the point."""
    flat = " ".join((text or "").split())
    return _NUMBER.sub(lambda number: f"{float(number[0]):.1f}".removesuffix(".0"), flat)


def _mark(name: str, attributes: dict[str, str], inner: str = "") -> Markup:
    """Return an element; its attributes, and what is in it unless it is markup, are escaped."""
    said = Markup("").join(Markup(' {}="{}"').format(*pair) for pair in attributes.items())
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(name), said, inner)


# ---- for papers


def _check_epoch() -> None:
    """Refuse a wrong SOURCE_DATE_EPOCH, which matplotlib reads for a PDF that has no date."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    try:
        datetime.fromtimestamp(int(epoch or 0), UTC)
    except (ValueError, OverflowError, OSError):
        raise UsageError(
            f"report: SOURCE_DATE_EPOCH is {epoch!r}: must be whole seconds since 1970; unset it"
        ) from None


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure to `path`, whole or not at all; the same figure gives the same bytes."""
    kind = path.suffix.removeprefix(".")
    _check_epoch()
    times = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}[kind]
    with folder.replacing(path, "report") as scratch:
        figure.savefig(scratch, format=kind, dpi=300, metadata=times)


def name_lines(figure: Figure, names: Sequence[tuple[str, str]]) -> None:
    """Put a legend of (name, colour) under a figure."""
    from matplotlib.lines import Line2D

    keys = [
        Line2D([], [], color=colours()[colour], linestyle=_DASHES if colour == "ref" else "-")
        for _, colour in names
    ]
    figure.legend(keys, [name for name, _ in names], loc="outside lower center", ncols=5)
