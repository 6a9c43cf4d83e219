"""What is plotted of a page's data: for the page plot by plot, for papers as files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from markupsafe import Markup

from sft_diversity.reporting import plots, views

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row = Mapping[str, Any]
FORMATS = ("svg", "pdf", "png")
FigureFormat = Literal["all", "svg", "pdf", "png"]
CURVES = {
    "loss": "training loss", "eval_loss": "evaluation loss", "lr": "learning rate",
    "grad_ratio": "‖g‖₁ / (√d ‖g‖₂)",
    "kkt_gap": "KKT gap (LION)", "box_share": "share of weights in the box (LION)",
    "grad_norm": "gradient norm",
}  # fmt: skip
_SIZE = (3.4, 2.4)  # inches of one plot of a figure


# ---- for the page


def panels(page: Row, regime: str | None, common: bool) -> list[dict[str, Any]]:
    """Return the score plots of a regime, one a strategy and size, with the rows behind each."""
    told = []
    for (size, strategy), own in _cells(page, regime).items():
        fit, beside = _fit(page, regime, strategy, size), _random(page, regime, size)
        scores = [r["score"] for r in (_of_size(page, regime, size) if common else own)]
        name = f"{strategy}, N = {size:,}"
        scale = "common scale" if common else "its own scale"
        with plots.drawing():
            figure, axes = plots.one_plot("diversity, %", "score")
            _draw_scores(axes, own, fit, beside, regime)
            axes.set_ylim(*plots.extent(scores + beside))
            said = f"Score against diversity, {name}, regime {regime or 'none'}, {scale}"
            told.append({"title": name, "svg": plots.svg(figure, said), "rows": own})
    return told


def length_plot(sides: Sequence[tuple[str, Row]], component: str) -> Markup:
    """Return the lengths of one component: of each data set in its colour, and of the corpus."""
    with plots.drawing():
        figure, axes = plots.one_plot("", "")
        _draw_lengths(axes, sides)
        return plots.svg(figure, f"{component} lengths")


def curves(group: Row) -> list[dict[str, Any]]:
    """Return the training plots of a strategy: each figure that its logs hold."""
    told = []
    for name, title in CURVES.items():
        series = [s for s in group["series"] if name in s]
        if not series:
            continue
        with plots.drawing():
            figure, axes = plots.one_plot("step", title)
            _draw_curves(axes, series, name)
            drawn = plots.svg(figure, f"{title}, {group['title']}")
        ends = [(dial_name(s), *_ends(s[name])) for s in series]
        told.append({"title": title, "svg": drawn, "ends": ends})
    return told


def curve_legend(group: Row) -> list[tuple[str, str]]:
    """Return the legend of the training plots of a strategy."""
    return [(dial_name(s), f"d{_shade(s)}") for s in group["series"]]


def dial_name(series: Row) -> str:
    """Return the name of a training curve."""
    at = series["diversity"]
    return "all draws" if at is None else f"{at:g} %"


# ---- what stands on axes


def _draw_scores(
    axes: Axes, own: Sequence[Row], fit: Row, beside: Sequence[float], regime: str | None
) -> None:
    if len(beside) > 1:
        low, high = min(beside), max(beside)
        plots.band(axes, [(0, low, high), (100, low, high)], "ref")
    if beside:
        plots.level(axes, sum(beside) / len(beside), "random, mean of draws", "ref")
    bayes = (fit.get("bayes") or {}).get("band", [])
    if bayes:
        plots.band(axes, [(x, low, high) for x, _, low, high in bayes], "s0")
        line = [(x, y) for x, y, *_ in bayes]
        plots.line(axes, line, "s0", "dashed" if regime == "A" else "solid")
    levels: dict[float, list[float]] = {}
    for row in own:
        levels.setdefault(row["diversity"], []).append(row["score"])
    means = [(at, sum(scores) / len(scores)) for at, scores in sorted(levels.items())]
    plots.line(axes, means, "s0", "thin")
    points = [(r["diversity"], r["score"]) for r in own]
    plots.dots(axes, points, "draw", "s0", filled=regime != "A")
    axes.set_xlim(-4, 104)


def _draw_lengths(axes: Axes, sides: Sequence[tuple[str, Row]]) -> None:
    whole = sides[-1][1]
    if "corpus" in whole:
        plots.step_lines(axes, whole["edges"], whole["corpus"], "ref")
    for colour, facts in sides:
        plots.step_lines(axes, facts["edges"], facts["subset"], colour)
    plots.log_axis(axes, max(facts["edges"][-1] for _, facts in sides))
    axes.set_xlabel(whole["unit"])
    axes.set_ylabel("share of samples")


def _draw_curves(axes: Axes, series: Sequence[Row], name: str) -> None:
    for one in series:
        points = [(x, y) for x, y in zip(one["steps"], one[name], strict=True) if y is not None]
        plots.line(axes, points, f"d{_shade(one)}")


def _draw_map(axes: Axes, given: Row, subset: Row) -> None:
    from matplotlib.patheffects import withStroke

    for colour, size, flat in (("cloud", 3, given["points"]), ("s0", 5, subset["points"])):
        axes.scatter(flat[::2], flat[1::2], size, color=plots.colours()[colour], linewidth=0)
    for region in given["regions"]:
        words = ", ".join(region["words"][:2])
        around = [withStroke(linewidth=3, foreground="white")]
        axes.text(region["x"], region["y"], words, ha="center", fontsize=8, weight="bold",
                  color=plots.colours()["ink"], path_effects=around)  # fmt: skip
    axes.set_axis_off()
    axes.set_aspect("equal")
    axes.invert_yaxis()  # as on a page, where y goes down


def _draw_slopes(axes: Axes, fits: Sequence[Row]) -> None:
    for place, fit in enumerate(fits):
        colour = ("up" if fit["slope"] > 0 else "down") if fit.get("claimed") else "ref"
        known = fit["ci_low"] is not None
        ends = [fit["slope"] - fit["ci_low"], fit["ci_high"] - fit["slope"]] if known else [0, 0]
        reach = [[end] for end in ends]
        axes.errorbar(fit["slope"], place, xerr=reach, fmt="o", color=plots.colours()[colour])
    axes.axvline(0, color=plots.colours()["soft"], linewidth=1)
    axes.set_yticks(range(len(fits)), [fit["strategy"] for fit in fits])
    axes.set_ylim(len(fits) - 0.5, -0.5)
    axes.locator_params(axis="x", nbins=4)
    axes.set_xlabel("slope of the score, per % of diversity")
    axes.grid(False)


def _draw_correlations(axes: Axes, given: Row) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    each = [[one and one["r"] for one in cells] for _, cells in given["rows"]]
    values = [[float("nan") if r is None else r for r in row] for row in each]
    ends = [plots.colours()["cold"], "#ffffff", plots.colours()["hot"]]
    shades = LinearSegmentedColormap.from_list("page", ends)
    axes.imshow(values, cmap=shades, vmin=-2, vmax=2, aspect="auto")  # half as deep: to be read on
    for i, (_, cells) in enumerate(given["rows"]):
        for j, one in enumerate(cells):
            if one is not None and one["r"] is not None:
                text = f"{one['r']:+.2f}".replace("-", "−")
                weight = "bold" if one.get("claimed") else "normal"
                axes.text(j, i, text, ha="center", va="center", fontsize=7, weight=weight,
                          color=plots.colours()["ink"])  # fmt: skip
    axes.set_yticks(range(len(values)), [name for name, _ in given["rows"]], fontsize=8)
    axes.set_xticks(range(len(given["strategies"])), given["strategies"], fontsize=8, rotation=30)
    axes.grid(False)


# ---- for papers


def write_figures(page: Row, place: Path, which: FigureFormat) -> list[str]:
    """Write the plots of a page's data into a folder; return the names of the files.

    The plots of one kind stand in one figure, on a common scale where they have one on the page;
    each is written as SVG, PDF and PNG, or as one of these. Equal data give equal files.
    """
    names: list[str] = []
    with plots.drawing():
        for name, figure in _figures(page):
            stem = re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-.")
            if any(one.startswith(f"{stem}.") for one in names):  # of signs alone unlike another
                stem = f"{stem}-{len(names)}"
            for kind in FORMATS if which == "all" else (which,):
                plots.save_figure(figure, place / f"{stem}.{kind}")
                names.append(f"{stem}.{kind}")
    return names


def _figures(page: Row) -> Iterator[tuple[str, Figure]]:
    if page["kind"] == "study":
        for regime in views.regimes(page):
            yield from _study_figures(page, regime, f"-{regime}" if regime else "")
        for given in views.correlations(page):
            figure, (axes,) = _grid(1, (2 + len(given["strategies"]), 1 + len(given["rows"]) / 5))
            _draw_correlations(axes, given)
            yield f"metrics-{given['regime'] or ''}-n{given['size']}", figure
        for group in page["training"]:
            shown = [(n, t) for n, t in CURVES.items() if any(n in s for s in group["series"])]
            figure, each = _grid(len(shown))
            for axes, (name, title) in zip(each, shown, strict=False):
                _draw_curves(axes, [s for s in group["series"] if name in s], name)
                axes.set_xlabel("step")
                axes.set_ylabel(title)
            plots.name_lines(figure, curve_legend(group))
            yield f"training-{group['title']}", figure
    else:
        colours = ["s0"] if page["kind"] != "comparison" else ["s0", "s1"]
        figure, each = _grid(len(page["lengths"]))
        for axes, (component, facts) in zip(each, page["lengths"].items(), strict=False):
            sides = facts if isinstance(facts, list) else [facts]
            _draw_lengths(axes, list(zip(colours, sides, strict=True)))
            axes.set_title(component)
        names = page.get("names", [page["title"]])
        plots.name_lines(figure, [*zip(names, colours, strict=True), ("corpus", "ref")])
        yield "lengths", figure
    if page["map"]:
        for one in page["map"]["subsets"]:
            figure, (axes,) = _grid(1, (5, 5))
            _draw_map(axes, page["map"], one)
            yield f"map-{one['name']}", figure


def _study_figures(page: Row, regime: str | None, mark: str) -> Iterator[tuple[str, Figure]]:
    cells = _cells(page, regime)
    for size in sorted({size for size, _ in cells}):
        shown = [(strategy, own) for (n, strategy), own in cells.items() if n == size]
        beside = _random(page, regime, size)
        figure, each = _grid(len(shown))
        for axes, (strategy, own) in zip(each, shown, strict=False):
            _draw_scores(axes, own, _fit(page, regime, strategy, size), beside, regime)
            axes.set_ylim(*plots.extent([r["score"] for _, rs in shown for r in rs] + beside))
            axes.set_title(strategy)
            axes.set_xlabel("diversity, %")
        each[0].set_ylabel("score")
        yield f"scores{mark}-n{size}", figure
        fits = [_fit(page, regime, strategy, size) for strategy, _ in shown]
        known = [fit for fit in fits if fit.get("slope") is not None]
        if known:
            figure, (axes,) = _grid(1, (4.5, 0.8 + 0.3 * len(known)))
            _draw_slopes(axes, known)
            yield f"slopes{mark}-n{size}", figure


def _grid(number: int, size: tuple[float, float] = _SIZE) -> tuple[Figure, list[Axes]]:
    """Return a figure of so many plots, three in a row."""
    from matplotlib.figure import Figure

    across = min(3, number)
    down = -(-number // across)
    figure = Figure(figsize=(across * size[0], down * size[1]), layout="constrained")
    made = list(figure.subplots(down, across, squeeze=False).flat)
    for axes in made[number:]:
        axes.set_visible(False)
    return figure, made


# ---- the rows behind a plot


def _cells(page: Row, regime: str | None) -> dict[tuple[int, str], list[Row]]:
    """Return the runs of a regime by size and strategy, in the order of the page."""
    found: dict[tuple[int, str], list[Row]] = {}
    for row in page["runs"]:
        if row["score"] is not None and row["regime"] == regime and row["diversity"] is not None:
            found.setdefault((row["size"], row["strategy"]), []).append(row)
    order = sorted(found, key=lambda key: (key[0], views.as_published(key[1])))
    return {key: found[key] for key in order}


def _of_size(page: Row, regime: str | None, size: int) -> list[Row]:
    return [row for (n, _), own in _cells(page, regime).items() if n == size for row in own]


def _fit(page: Row, regime: str | None, strategy: str, size: int) -> Row:
    for fit in page["fit"].get("slopes", []):
        if (fit.get("regime"), fit["strategy"], fit["size"]) == (regime, strategy, size):
            return dict(fit)
    return {}


def _random(page: Row, regime: str | None, size: int) -> list[float]:
    own = (r for r in page["runs"] if r["strategy"] == "random" and r["size"] == size)
    return [r["score"] for r in own if r["score"] is not None and r["regime"] in (regime, None)]


def _shade(series: Row) -> int:
    """Return the colour of a training curve, 0 to 4 from low to high diversity."""
    at = series["diversity"]
    return 4 if at is None else round(4 * at / 100)


def _ends(values: Sequence[float | None]) -> tuple[float | None, float | None]:
    there = [value for value in values if value is not None]
    return (there[0], there[-1]) if there else (None, None)
