"""From a page's data to what its plots and tables are given; no reading, no layout.

Templates call what is named here as `view.NAME`.
"""

from sft_diversity.reporting.views.study import (
    baselines,
    budget,
    correlations,
    curve_legend,
    curves,
    dial,
    failed,
    level,
    metric_table,
    panels,
    published_sizes,
    reach,
    regimes,
    shade,
    shade_of,
    slopes,
    verdict,
)
from sft_diversity.reporting.views.subset import (
    difference,
    length_plot,
    length_rows,
    longest,
    map_data,
    measures,
    present,
    summary,
    two_lengths,
)

__all__ = [
    "baselines",
    "budget",
    "correlations",
    "curve_legend",
    "curves",
    "dial",
    "difference",
    "failed",
    "length_plot",
    "length_rows",
    "level",
    "longest",
    "map_data",
    "measures",
    "metric_table",
    "panels",
    "present",
    "published_sizes",
    "reach",
    "regimes",
    "shade",
    "shade_of",
    "slopes",
    "summary",
    "two_lengths",
    "verdict",
]
