from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import statsmodels.api as sm
from scipy import stats

from sft_diversity.core.errors import DataError
from sft_diversity.fitting.config import FitConfig
from sft_diversity.fitting.correlations import correlate, metrics_of
from sft_diversity.fitting.reading import draws_of
from tests.fitting.making import study

KEYS = ["regime", "strategy", "size", "diversity", "seed"]


def measured(frame, seed=0):
    """A table of metrics for the subsets of a study."""
    rng = np.random.default_rng(seed)
    keys = frame.filter(pl.col("diversity").is_not_null()).select(KEYS).unique(maintain_order=True)
    return keys.with_columns(
        kinds=pl.Series(keys["diversity"].to_numpy() * 10 + rng.normal(size=keys.height)),
        noise=pl.Series(rng.normal(size=keys.height)),
    )


def correlated(frame, metrics):
    rows, without = correlate(draws_of(frame, "score")[0], metrics_of(metrics), FitConfig())
    return {(r["regime"], r["strategy"], r["metric"]): r for r in rows}, without


def level_means(frame, metrics, regime="B"):
    both = frame.join(metrics, on=KEYS).filter(pl.col("regime") == regime)
    means = pl.col("kinds", "noise", "score").mean()
    return both.group_by("strategy", "diversity", maintain_order=True).agg(means)


@pytest.mark.parametrize("metric", ["kinds", "noise"])
def test_within_a_strategy_r_is_that_of_scipy_on_level_means(metric):
    frame = study(1)
    found, _ = correlated(frame, measured(frame))
    means = level_means(frame, measured(frame)).filter(pl.col("strategy") == "micro-response")
    theirs = stats.pearsonr(means[metric].to_numpy(), means["score"].to_numpy())
    row = found["B", "micro-response", metric]
    assert row["r"] == pytest.approx(theirs.statistic, abs=1e-9)
    assert row["p"] == pytest.approx(theirs.pvalue, rel=1e-6)
    assert (row["low"], row["high"]) == pytest.approx(theirs.confidence_interval(), abs=1e-9)


def test_pooled_strategies_are_fixed_effects():
    frame = study(2)
    found, _ = correlated(frame, measured(frame))
    means = level_means(frame, measured(frame))
    strategies = means["strategy"].to_numpy()[:, None] == means["strategy"].unique().to_numpy()
    design = np.column_stack([means["noise"].to_numpy(), strategies])
    theirs = sm.OLS(means["score"].to_numpy(), design).fit()
    row = found["B", "pooled", "noise"]
    assert row["df"] == theirs.df_resid
    assert row["p"] == pytest.approx(theirs.pvalues[0], rel=1e-6)


def test_strategies_that_differ_in_level_alone_do_not_correlate():
    frame = study(3, slopes={"a": 0.0, "b": 0.0}, sd=0.0).with_columns(
        score=pl.col("score") + (pl.col("strategy") == "a") + 1e-3 * (pl.col("diversity") == 33)
    )
    metrics = measured(frame).with_columns(kinds=100.0 * (pl.col("strategy") == "a"))
    found, _ = correlated(frame, metrics)
    assert found["B", "pooled", "kinds"]["r"] is None


def test_draws_without_metrics_and_empty_cells_are_left_out():
    frame = study(4)
    metrics = measured(frame)[3:].with_columns(
        noise=pl.when(pl.col("diversity") == 67).then(None).otherwise(pl.col("noise"))
    )
    found, without = correlated(frame, metrics)
    assert without == 3
    assert found["A", "micro-response", "noise"]["n"] == 2
    assert found["A", "micro-response", "noise"]["r"] is None
    assert found["A", "micro-response", "kinds"]["n"] == 3


def test_metrics_without_a_regime_hold_for_all():
    frame = study(5)
    metrics = measured(frame).filter(pl.col("regime") == "A").drop("regime")
    found, without = correlated(frame, metrics)
    assert without == 0
    assert found["B", "micro-response", "kinds"]["n"] == 4


def test_texts_are_no_metrics_and_contradictions_are_refused():
    metrics = measured(study(6)).with_columns(name=pl.lit("x"))
    assert metrics_of(metrics).left_out == ["name"]
    doubled = pl.concat([metrics, metrics.with_columns(kinds=pl.col("kinds") + 1)])
    with pytest.raises(DataError, match="two rows of micro-response"):
        metrics_of(doubled)
    with pytest.raises(DataError, match="no column of numbers"):
        metrics_of(metrics.select([*KEYS, "name"]))
    with pytest.raises(DataError, match="lacks the column seed"):
        metrics_of(metrics.drop("seed"))
