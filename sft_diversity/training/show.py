"""What `schedule` and `finetune` show people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sft_diversity.core.show import columns, plain_figures


def scheduled(result: dict[str, Any]) -> str:
    """Return a line a schedule: its peak, its mean, the rate on the way, and the curve."""
    shown, last = result["shown"], result["steps"]
    at = [min(range(len(shown)), key=lambda i: abs(shown[i] - last * q / 4)) for q in range(1, 5)]
    highest = max(max(curve["rates"]) for curve in result["curves"])
    rows = [("schedule", "peak", "mean", "25 %", "50 %", "75 %", "100 %", "")]
    for curve in result["curves"]:
        figures = (curve["peak"], curve["mean"], *(curve["rates"][i] for i in at))
        bars = _bars(curve["rates"], highest)
        rows.append((curve["name"], *(f"{value:.3g}" for value in figures), bars))
    warm = f", {result['warmup_steps']:,} of warm-up" if result["warmup_steps"] else ""
    lines = [columns(rows), f"{last:,} steps{warm}; rates after a quarter, a half, ..., the end"]
    if "mean_law" in result:
        lines.append(
            f"UBA, φ = {result['phi']:g}, between peak and floor: mean factor "
            f"1/(1 + √(φ/2)) = {result['mean_law']:.3f}, half height after {result['half_law']:.1%}"
        )
    return "\n".join([*lines, *([result["out"]] if "out" in result else [])])


def finetuned(result: dict[str, Any]) -> str:
    """Return the figures of a run, or samples with what is trained between ⟦ and ⟧.

    What is thought stands between ⟨ and ⟩.
    """
    if "masks" not in result:
        return "\n".join([plain_figures(result), *_sets(result.get("sets", []))])
    lines = []
    for sample in result["masks"]:
        if "unusable" in sample:
            lines += [f"{sample['id']}: left out, {sample['unusable']}", ""]
            continue
        lines.append(
            f"{sample['id']}: {sample['trained']:,} of {sample['tokens']:,} tokens trained"
            + (f", {sample['thinking']:,} are thoughts" if sample["thinking"] else "")
        )
        lines += [_marked(sample["pieces"]), ""]
    return "\n".join(lines).rstrip()


def _sets(several: Sequence[dict[str, Any]]) -> list[str]:
    """Return a table of what was read of each set."""
    if not several:
        return []
    names = list(several[0])
    rows = [tuple("–" if one[n] is None else f"{one[n]:,}" for n in names) for one in several]
    return [columns([("set", *names), *((str(i), *row) for i, row in enumerate(rows, 1))])]


def _marked(pieces: Sequence[tuple[str, bool, bool]]) -> str:
    text, open_ = "", False
    for piece, trained, thought in pieces:
        if trained != open_:
            text, open_ = text + ("⟦" if trained else "⟧"), trained
        text += f"⟨{piece}⟩" if thought else piece
    return text + "⟧" * open_


def _bars(rates: Sequence[float], highest: float, width: int = 40) -> str:
    """Return a curve in one line of blocks."""
    picked = [rates[round(i * (len(rates) - 1) / (width - 1))] for i in range(width)]
    return "".join(" ▁▂▃▄▅▆▇█"[round(8 * rate / highest)] for rate in picked)
