"""Numbers as people read them."""

from __future__ import annotations

import math
from typing import Any


def number(value: Any, digits: int = 3) -> str:
    """Return a count in full, another number with `digits` significant digits, none as a dash."""
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}".replace("-", "−")
    if not math.isfinite(value):
        return "–"
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}".replace("-", "−")
    if abs(value) >= 10**digits:
        return f"{value:,.0f}".replace("-", "−")
    if abs(value) < 1e-4:
        mantissa, _, power = f"{value:.{digits - 1}e}".partition("e")
        return f"{mantissa}e{int(power)}".replace("-", "−")
    return f"{value:.{digits}g}".replace("-", "−")


def signed(value: Any, digits: int = 3) -> str:
    """Return a number with its sign."""
    text = number(value, digits)
    above = isinstance(value, int | float) and value > 0
    return f"+{text}" if above else text


def percent(share: Any, digits: int = 1) -> str:
    """Return a share in percent, none as a dash."""
    return "–" if share is None else f"{100 * share:.{digits}f} %"


def ticks(low: float, high: float, wanted: int = 4) -> list[float]:
    """Return round values between two ends, about `wanted` of them."""
    if not high > low:
        return [low]
    raw = (high - low) / max(1, wanted)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def tick(value: float, step: float) -> str:
    """Return a tick's label, as precise as the step between ticks needs."""
    if value == 0:
        return "0"
    if abs(value) < 1e-3:
        return number(value, 2)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9)) if step > 0 else 0
    text = f"{value:,.{decimals}f}"
    if decimals and round(value, decimals) != round(value, decimals + 1):
        text = f"{value:,.{decimals + 1}f}"
    return text.replace("-", "−")
