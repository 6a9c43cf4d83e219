from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from sft_diversity.fitting.baselines import critical, p_value


@pytest.mark.parametrize(
    ("sizes", "baseline"), [((3, 3, 3, 3), 5), ((3,) * 7, 5), ((2, 3, 5), 4), ((3, 3), 2)]
)
def test_p_values_are_those_of_scipys_dunnett(sizes, baseline):
    rng = np.random.default_rng(len(sizes))
    groups = [rng.normal(i, 1, n) for i, n in enumerate(sizes)]
    control = rng.normal(0, 1, baseline)
    theirs = stats.dunnett(*groups, control=control, rng=np.random.default_rng(0))
    df = sum(sizes) + baseline - len(sizes) - 1
    ours = [p_value(float(t), sizes, baseline, df) for t in theirs.statistic]
    assert ours == pytest.approx(list(theirs.pvalue), abs=2e-4)  # scipy's is by quasi Monte Carlo


def test_intervals_are_those_of_scipys_dunnett():
    rng = np.random.default_rng(1)
    groups, control = [rng.normal(0, 1, 3) for _ in range(4)], rng.normal(0, 1, 5)
    theirs = stats.dunnett(*groups, control=control, rng=np.random.default_rng(0))
    width = float((theirs.confidence_interval(0.95).high[0]) - (groups[0].mean() - control.mean()))
    pooled = sum(((g - g.mean()) ** 2).sum() for g in [*groups, control]) / 12
    assert critical(0.95, (3,) * 4, 5, 12) * math.sqrt(pooled * (1 / 3 + 1 / 5)) == pytest.approx(
        width, rel=2e-3
    )


@pytest.mark.parametrize("df", [1, 2, 8, 40])
def test_one_level_is_students_t(df):
    assert critical(0.95, (3,), 5, df) == pytest.approx(stats.t.ppf(0.975, df), abs=1e-9)
    assert p_value(2.0, (3,), 5, df) == pytest.approx(2 * stats.t.sf(2.0, df), abs=1e-12)


@pytest.mark.parametrize("df", [1, 2, 8, 200])
def test_a_baseline_known_without_error_leaves_independent_levels(df):
    # one spread for all: P = E over s of (2 Φ(ts) − 1)^k, by another quadrature
    from scipy import integrate

    def inside(s):
        return (
            (2 * stats.norm.cdf(2.5 * s) - 1) ** 3
            * stats.chi.pdf(s * math.sqrt(df), df)
            * math.sqrt(df)
        )

    expected = 1 - integrate.quad(inside, 0, 12, points=[0.5, 1, 2], limit=200)[0]
    assert p_value(2.5, (3, 3, 3), math.inf, df) == pytest.approx(expected, abs=1e-6)


def test_a_chosen_level_needs_more_than_a_fixed_one():
    fixed, chosen = critical(0.95, (3,), 5, 12), critical(0.95, (3,) * 4, 5, 12)
    assert fixed < chosen < stats.t.ppf(1 - 0.025 / 4, 12)
    assert p_value(chosen, (3,) * 4, 5, 12) == pytest.approx(0.05, abs=1e-8)
