"""What people see of results: aligned columns, plans, plain figures. Rooms show their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from sft_diversity.core.progress import clock

Rows = Sequence[Sequence[str]]


def columns(rows: Rows, right: Literal["none", "all", "figures"] = "none") -> str:
    """Return rows of texts as aligned columns, two blanks apart.

    `right` says which stand at the right edge of their column: none, `all` but the first, or
    `figures`, all but those whose head is a name of something.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2, 0, 0))
    for i, head in enumerate(rows[0]):
        at_right = (right == "all" and i > 0) or (right == "figures" and head not in _NAMES)
        table.add_column(justify="right" if at_right else "left", no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row))
    console = Console(width=10_000, color_system=None, legacy_windows=False)
    with console.capture() as shown:
        console.print(table)
    return "\n".join(line.rstrip() for line in shown.get().splitlines())


_NAMES = ("cell", "regime", "strategy")


def numbers(rows: Rows) -> str:
    """Return rows of texts as aligned columns, all but the first to the right."""
    return columns(rows, "all")


def plan_text(result: dict[str, Any]) -> str:
    rows = [("stage", "state", "rows", "time", "disk", "folder")]
    for step in result["plan"]:
        rows.append(
            (
                step["stage"],
                step["state"],
                "?" if step.get("rows") is None else f"{step['rows']:,}",
                "?" if step.get("seconds") is None else clock(step["seconds"]),
                "?" if step.get("bytes") is None else f"{step['bytes'] / 1e6:,.0f} MB",
                str(step["out"]),
            )
        )
    asked = [
        f"{step['stage']}: about {step['tokens_in']:,} tokens read by the model, "
        f"{step['tokens_out']:,} written, cost {step['cost']:,.2f}"
        for step in result["plan"]
        if "tokens_in" in step
    ]
    asked += [
        f"{step['stage']}: about {step['steps']:,} steps, {step['tokens']:,} tokens, "
        f"{step['memory'] / 1e9:,.1f} GB of memory"
        for step in result["plan"]
        if step.get("memory") and step["state"] != "cached"
    ]
    return "\n".join([columns(rows), *asked, "nothing was written (--dry-run)"])


def plain_figures(result: dict[str, Any]) -> str:
    """Print plain figures one a line; nested ones are for --json."""
    rows = [
        (name, f"{value:,}" if isinstance(value, int) else f"{value}")
        for name, value in result.items()
        if not isinstance(value, dict | list)
    ]
    return columns(rows)


def verified(result: dict[str, Any]) -> str:
    if result["faults"]:
        return "\n".join([f"{result['folder']}: {len(result['faults'])} faults", *result["faults"]])
    size = result["bytes"] / 1e6
    kept = f"{result['stage']}, {result['files']:,} files, {size:,.1f} MB"
    return f"{result['folder']}: {kept}: all well"


def examined(result: dict[str, Any]) -> str:
    rows = [(c["state"], c["name"], c["found"]) for c in result["checks"]]
    advice = [f"{c['name']}: {c['way_out']}" for c in result["checks"] if c["way_out"]]
    return "\n".join([columns(rows), *advice])
