"""What the plots and tables of a subset, or of two, are given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sft_diversity.core.measures import in_order, metric_title
from sft_diversity.reporting.charts import plot
from sft_diversity.reporting.charts.plot import Axes, Series

Row = Mapping[str, Any]


def length_plot(facts: Row, title: str) -> Any:
    """Return the length distribution of one component beside the corpus's."""
    series = []
    if "corpus" in facts:
        series.append(Series("corpus", "ref", line=_steps(facts["edges"], facts["corpus"])))
    series.append(Series("subset", "s0", line=_steps(facts["edges"], facts["subset"])))
    return plot.plot(title, series, _length_axes(facts))


def two_lengths(sides: Sequence[Row], title: str) -> Any:
    """Return the length distributions of one component of two subsets, and the corpus's."""
    series = []
    if "corpus" in sides[1]:
        series.append(Series("corpus", "ref", line=_steps(sides[1]["edges"], sides[1]["corpus"])))
    for facts, style in zip(sides, ("s0", "s1"), strict=True):
        series.append(Series(style, style, line=_steps(facts["edges"], facts["subset"])))
    longest = max(sides, key=lambda facts: facts["edges"][-1])
    return plot.plot(title, series, _length_axes(longest))


def _length_axes(facts: Row) -> Axes:
    ends = (1.0, float(facts["edges"][-1]))
    return Axes(facts["unit"], "share of samples", log=True, x_range=ends, zero=True)


def _steps(edges: Sequence[int], shares: Sequence[float]) -> list[tuple[float, float]]:
    told = [(float(max(edges[0], 1)), 0.0)]
    for low, high, share in zip(edges, edges[1:], shares, strict=False):
        told += [(max(low, 1), share), (high, share)]
    return [*told, (float(edges[-1]), 0.0)]


def length_rows(facts: Row) -> list[tuple[str, float, float | None]]:
    """Return the bins of a length distribution: from–to, subset, corpus."""
    edges, whole = facts["edges"], facts.get("corpus")
    return [
        (f"{low:,}–{high - 1:,}", share, None if whole is None else whole[i])
        for i, (low, high, share) in enumerate(zip(edges, edges[1:], facts["subset"], strict=False))
        if share or (whole and whole[i])
    ]


def measures(page: Row) -> list[dict[str, Any]]:
    """Return the measures by component: rows of a title and one value a data set."""
    told = []
    given = (page["measures"] or {}).get("datasets", [])
    for component in ("instruction", "response"):
        parts = [one[component] for one in given if component in one]
        if not parts:
            continue
        names = in_order({name for part in parts for name in part})
        rows = [(metric_title(n), [part.get(n) for part in parts]) for n in names]
        told.append({"component": component, "names": [d["name"] for d in given], "rows": rows})
    return told


def map_data(given: Row) -> dict[str, Any]:
    """Return what the script of the map reads: points of each subset."""
    return {
        "subsets": [
            {"name": s["name"], "points": s["points"], "drawn": s["drawn"], "samples": s["samples"]}
            for s in given["subsets"]
        ]
    }


def longest(rows: Sequence[Row], names: Sequence[str]) -> float:
    """Return the greatest share, for bars."""
    return max((row[name] or 0.0 for row in rows for name in names), default=1.0) or 1.0


def present(sources: Sequence[Row]) -> int:
    """Return how many sources a subset has samples of."""
    return sum(row["picked"] > 0 for row in sources)


def summary(page: Row) -> str:
    """Return what a data set is, in a sentence or two."""
    result, config = page["result"], page["config"]
    if page["kind"] == "corpus":
        return f"A corpus of {page['rows']:,} samples from {present(page['sources'])} sources."
    of = f" of {page['pool']:,}" if page["pool"] else ""
    dialled = "kinds_target" in result or "target_bits" in result
    dial_text = f" at {config['diversity']:g} % diversity" if dialled else ""
    said = [f"{page['rows']:,} samples{of}, chosen by {config['strategy']}{dial_text}."]
    if result.get("random_percent") is not None:
        said.append(
            f"As many random samples stand at {result['random_percent']:.0f} % of that dial."
        )
    moved = [row for row in page["sources"] if row["corpus_share"] is not None]
    if moved:
        far = max(moved, key=lambda row: abs(row["share"] - row["corpus_share"]))
        said.append(
            f"Its mix of sources differs most in {far['source']}: {100 * far['share']:.1f} % "
            f"instead of {100 * far['corpus_share']:.1f} %."
        )
    facts = page["lengths"]["response"]
    if facts.get("corpus_mean"):
        ratio = facts["mean"] / facts["corpus_mean"]
        how = "as long as" if 0.95 <= ratio <= 1.05 else f"{ratio:.2g} times as long as"
        said.append(f"Its responses are on average {how} the corpus's.")
    return " ".join(said)


def difference(page: Row) -> str:
    """Return how two subsets differ, in a sentence or two."""
    one, other = page["names"]
    both, least = page["overlap"]["both"], max(1, min(page["rows"]))
    said = [f"{one} and {other} share {both:,} samples, {100 * both / least:.1f} % of the smaller"]
    if page["by_chance"] is not None:
        said[0] += f"; two random draws of these sizes would share {page['by_chance']:,.0f}"
    said[0] += "."
    first, second = (side["mean"] for side in page["lengths"]["response"])
    unit = page["lengths"]["response"][0]["unit"]
    said.append(f"Responses are {first:,.0f} and {second:,.0f} {unit} long on average.")
    if page["sources"]:
        far = page["sources"][0]
        said.append(
            f"The source that differs most is {far['source']}, {100 * far['first']:.1f} % "
            f"against {100 * far['second']:.1f} %."
        )
    return " ".join(said)
