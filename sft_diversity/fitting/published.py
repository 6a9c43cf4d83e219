"""Slopes of the reference study, arXiv 2505.24768, to stand beside ours."""

from __future__ import annotations

#: Of the figures below: they come from benchmarks, ours from whatever column was fitted.
UNIT = "benchmark points ×10⁻² per % of diversity"

SLOPES: dict[str, dict[int, float]] = {
    "macro-instruction": {10_000: 2.37, 20_000: 1.67, 30_000: 1.45},
    "meso-instruction": {10_000: 4.93, 20_000: 3.75, 30_000: 2.07},
    "micro-instruction": {10_000: -5.45, 20_000: -2.83, 30_000: -1.80},
    "macro-response": {10_000: 0.73, 20_000: 0.97, 30_000: 0.59},
    "meso-response": {10_000: 3.61, 20_000: 1.71, 30_000: 2.00},
    "micro-response": {10_000: 5.35, 20_000: 6.68, 30_000: 10.06},
}


def slopes_of(strategy: str) -> dict[str, float] | None:
    """Return the published slopes of a strategy by size, `response-micro` meaning the same."""
    name = strategy.strip().lower().replace("_", "-")
    found = SLOPES.get(name) or SLOPES.get("-".join(reversed(name.split("-"))))
    return {str(size): slope for size, slope in found.items()} if found else None
