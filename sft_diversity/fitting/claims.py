"""What a fit claims: every tested figure, its family, and which figures say more than chance.

A verdict, the marks of a table and the colours of a page all read `claimed`; none decides anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from sft_diversity.fitting.config import FitConfig
from sft_diversity.fitting.correlations import POOLED

Row = dict[str, Any]
CORRECTIONS = {"holm": "Holm", "bh": "Benjamini–Hochberg"}
#: Tests within a row of `slopes`, by the kind of claim they may make.
_WITHIN = {"ends": "ends differ", "curvature": "no line", "best_margin": "best level clear"}


def tested(result: Mapping[str, Any]) -> Iterator[tuple[str, Row, Row]]:
    """Yield every tested figure of a result: kind of claim, its row, and what holds its p-value."""
    for row in result["slopes"]:
        yield "slope", row, row
        for name, kind in _WITHIN.items():
            if row[name]:
                yield kind, row, row[name]
    for row in result["baselines"]:
        yield f"against {row['baseline']}, {row['chosen']}", row, row
    for row in result["metrics"]:
        yield f"metric, {'pooled' if row['strategy'] == POOLED else 'within'}", row, row


def judge_claims(result: Mapping[str, Any], config: FitConfig) -> None:
    """Put `p_adjusted` and `claimed` into every tested figure.

    Notes
    -----
    p-values are corrected within a regime and a kind of claim, over strategies, sizes and metrics.
    A figure is claimed where the corrected p-value is below what the confidence leaves; a slope
    only where its shown interval, the wider of two, excludes 0 as well.
    """
    families: dict[tuple[str, Any], list[Row]] = {}
    for kind, row, figure in tested(result):
        families.setdefault((kind, row["regime"]), []).append(figure)
    for figures in families.values():
        adjusted = adjust([figure["p"] for figure in figures], config.correction)
        for figure, p in zip(figures, adjusted, strict=True):
            figure["p_adjusted"] = p
            figure["claimed"] = p is not None and p < config.alpha and _apart(figure)


def _apart(figure: Row) -> bool:
    """Whether the shown interval of a slope excludes 0; other intervals say what their p says."""
    if "ci_low" not in figure:
        return True
    return figure["ci_low"] is not None and (figure["ci_low"] > 0 or figure["ci_high"] < 0)


def claims(result: Mapping[str, Any]) -> list[Row]:
    """Return the claims of a judged result: kind, whom of, and the corrected p-value."""
    return [
        {"kind": kind, **{name: row[name] for name in ("regime", "size", "strategy")}}
        | ({"metric": row["metric"]} if "metric" in row else {})
        | {"p_adjusted": figure["p_adjusted"]}
        for kind, row, figure in tested(result)
        if figure["claimed"]
    ]


def adjust(p_values: Sequence[float | None], method: Literal["holm", "bh"]) -> list[float | None]:
    """Return p-values corrected for their number; what was not tested stays None and out of it.

    Notes
    -----
    Holm 1979 bounds the chance of any false finding, whatever the dependence of the tests;
    Benjamini & Hochberg 1995 the share of false ones among the findings. Holm by hand, as
    statsmodels' collects garbage at each call, which takes 0.1 s a family.
    """
    from scipy import stats

    p = np.array([p for p in p_values if p is not None], dtype=np.float64)
    if method == "holm":
        order = np.argsort(p, kind="stable")
        stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
        adjusted = np.minimum(stepped, 1.0)[np.argsort(order)]
    else:
        adjusted = stats.false_discovery_control(p, method="bh") if len(p) else p
    found = iter(adjusted.tolist())
    return [None if p is None else next(found) for p in p_values]
