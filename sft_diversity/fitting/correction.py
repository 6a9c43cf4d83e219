"""p-values of many tests at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

Method = Literal["holm", "bh"]


def adjust(p_values: Sequence[float | None], method: Method) -> list[float | None]:
    """Return p-values corrected for their number; what was not tested stays None and out of it.

    Notes
    -----
    Holm 1979 bounds the chance of any false finding, whatever the dependence of the tests;
    Benjamini & Hochberg 1995 the share of false ones among the findings.
    """
    tested = [i for i, p in enumerate(p_values) if p is not None]
    adjusted: list[float | None] = [None] * len(p_values)
    if not tested:
        return adjusted
    p = np.array([p_values[i] for i in tested], dtype=np.float64)
    order = np.argsort(p, kind="stable")
    n = len(p)
    if method == "holm":
        stepped = np.maximum.accumulate(p[order] * np.arange(n, 0, -1))
    else:
        scaled = p[order] * n / np.arange(1, n + 1)
        stepped = np.minimum.accumulate(scaled[::-1])[::-1]
    for place, value in zip(order, np.minimum(stepped, 1.0), strict=True):
        adjusted[tested[int(place)]] = float(value)
    return adjusted
