"""What `fit` prints for people: the answer, a block a regime and size, then sentences."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from sft_diversity.core.show import numbers
from sft_diversity.fitting.claims import CORRECTIONS
from sft_diversity.fitting.headline import Row, place_name, place_of, places_of

_WIDTH = 100


def fitted(result: dict[str, Any]) -> str:
    """Return what pays, tables by regime and size, the rest of the verdict; 100 columns at most."""
    opening = [*result["headlines"], result["rests_on"]["sentence"]]
    blocks = [wrapped(answer) for answer in opening]
    places = places_of(result)
    for regime, size in places:
        slopes, compared, metrics = (
            [row for row in result[name] if place_of(row) == (regime, size)]
            for name in ("slopes", "baselines", "metrics")
        )
        where = f"regime {regime}, N = {size:,}" if regime else f"N = {size:,}"
        blocks.append(f"{where}\n{_slopes(slopes, result['confidence'])}")
        against = [row for row in compared if row["baseline"] == "random"]
        if against:
            blocks.append(_against(against))
        if metrics:
            blocks.append(_metrics(metrics))
    blocks.append(_legend(result))
    rest = [said for said in result["verdict"] if said not in opening]
    blocks.append(_sentences([*rest, *result["notes"]], places))
    return "\n\n".join([*blocks, *([result["out"]] if "out" in result else [])])


def _slopes(rows: Sequence[Row], confidence: float) -> str:
    percent = f"{100 * confidence:g} %"
    table = [("strategy", "slope", percent, "", "p", "r", "rho", "best level", "publ.")]
    for row in rows:
        share = (row["best_level_share"] or {}).get(f"{row['best_level'] or 0:g}")
        best = "-" if row["best_level"] is None else f"{row['best_level']:g} %"
        clear = _mark(row["best_margin"])
        table.append(
            (
                _short(row["strategy"], 17),
                _signed(row["slope"], 100),
                _interval(row["ci_low"], row["ci_high"], 100),
                (row["ci_kind"] or " ")[0],
                _p(row["p_adjusted"]) + _mark(row),
                _r(row["pearson_r"]),
                _r(row["spearman_r"]),
                (best if share is None else f"{best}, {share:.0%}") + clear,
                _published(row),
            )
        )
    return numbers(table)


def _against(rows: Sequence[Row]) -> str:
    names = list(dict.fromkeys(row["strategy"] for row in rows))
    found = {(row["strategy"], row["chosen"]): row for row in rows}
    table = [("minus random", "highest", "interval", "best", "", "interval")]
    for name in names:
        top = found.get((name, "highest")) or found.get((name, "only"))
        best = found.get((name, "best"))
        level = "" if best is None else f"{best['level']:g} %"
        pairs = (_difference(top), _difference(best))
        table.append((_short(name, 17), *pairs[0], level, *pairs[1]))
    return numbers(table)


def _metrics(rows: Sequence[Row]) -> str:
    strategies = list(dict.fromkeys(row["strategy"] for row in rows))
    found = {(row["metric"], row["strategy"]): row for row in rows}
    table = [("r with the score", *(_code(name) for name in strategies))]
    for metric in dict.fromkeys(row["metric"] for row in rows):
        cells = []
        for name in strategies:
            row = found.get((metric, name))
            if row is None or row["r"] is None:
                cells.append("- ")
            else:
                cells.append(_r(row["r"]) + _mark(row))
        table.append((_short(metric, 28), *cells))
    return numbers(table)


def _legend(result: Row) -> str:
    name = CORRECTIONS[result["correction"]]
    text = (
        f"Slope: change of {result['score']} over 100 % of diversity; interval by t or bootstrap "
        f"(t, b), the wider; p corrected ({name}), * stands after it; r and rho over level means; "
        "best level with its share of resamples. Published slopes are benchmark points over "
        "100 %, another unit; ~: of the nearest published size. What each figure means: docs/fit.md"
    )
    return wrapped(text)


def _sentences(sentences: Sequence[str], places: Sequence[tuple[str, int]]) -> str:
    """Return sentences a line each, those of a regime and size under its name."""
    lines, at = [], ""
    starts = [place_name(*place) for place in places]
    for sentence in sentences:
        place = next((start for start in starts if sentence.startswith(f"{start}: ")), "")
        if place and place != at:
            lines.append(place)
        at = place
        lines.append(wrapped(sentence.removeprefix(f"{place}: "), "- " if place else ""))
    return "\n".join(lines)


def _published(row: Row) -> str:
    known = row["published"]
    if not known:
        return "-"
    nearest = min(known, key=lambda size: abs(int(size) - row["size"]))
    mark = "" if int(nearest) == row["size"] else "~"
    return f"{mark}{known[nearest]:+.2f}"


def _difference(row: Row | None) -> tuple[str, str]:
    if row is None:
        return "- ", ""
    return _signed(row["difference"]) + _mark(row), _interval(row["low"], row["high"])


def _mark(tested: Row | None) -> str:
    return "*" if tested is not None and tested["claimed"] else " "


def _signed(value: float | None, scale: float = 1) -> str:
    return "-" if value is None else f"{scale * value:+.3g}"


def _interval(low: float | None, high: float | None, scale: float = 1) -> str:
    if low is None or high is None:
        return "-"
    return f"{_signed(low, scale)} to {_signed(high, scale)}"


def _p(value: float | None) -> str:
    if value is None:
        return "-"
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def _r(value: float | None) -> str:
    return "-" if value is None else f"{value:+.2f}"


def _code(strategy: str) -> str:
    """Return a strategy's name short enough for a column: micro-response is mic-res."""
    parts = strategy.split("-")
    return "-".join(part[:3] for part in parts) if len(parts) == 2 else strategy[:8]


def _short(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


def wrapped(text: str, mark: str = "") -> str:
    """Return text in lines of at most 100 columns; a number and its % stay together."""
    lines = textwrap.fill(
        text.replace(" %", "\u00a0%"),
        _WIDTH,
        initial_indent=mark,
        subsequent_indent="  ",
        break_on_hyphens=False,
    )
    return lines.replace("\u00a0%", " %")
