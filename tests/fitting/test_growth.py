from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sft_diversity.core.hashing import file_key
from sft_diversity.fitting.growth import AXES, Cells, Growth, Mixture, learnt, log_fits, posterior

ROOT = Path(__file__).parents[2]
#: Few points, so that brute force reaches every one.
SMALL = Growth.of(
    {
        "curvature": {"values": [0.3, 1.5], "weights": [0.6, 0.4]},
        "rise": {"values": [2.0, 6.0], "weights": [0.7, 0.3]},
        "walk": {"values": [0.5, 1.5], "weights": [0.5, 0.5]},
        "noise": {"values": [0.4, 1.2], "weights": [0.5, 0.5]},
        "fork": {"values": [0, 1.0], "weights": [0.6, 0.4]},
        "drift": 1.2, "own_rise": 0.8, "own_walk": 1.5, "slowing": 0.4,
    }
)  # fmt: skip


def cells_of(scores):
    """Return the cells of scores by (series, size)."""
    keys = list(scores)
    runs = [np.array(scores[key]) for key in keys]
    return Cells(
        np.array([key[0] for key in keys]), np.array([float(key[1]) for key in keys]),
        np.array([one.mean() for one in runs]), np.array([len(one) for one in runs]),
        float(sum(((one - one.mean()) ** 2).sum() for one in runs)),
    )  # fmt: skip


def drawn(prior, sizes, series, count, rng, level=0.0):
    """Draw curves from the model's own words, step by step: (count, series, sizes), and noise."""
    picks = [
        rng.choice(v, count, p=w / w.sum())
        for v, w in zip(prior.values, prior.weights, strict=True)
    ]
    curvature, rise, walk, noise, fork = (one[:, None, None] for one in picks)
    shape, n = prior.shape, np.asarray(sizes, float) / min(sizes)
    bend = -(n**-curvature)
    shared = rise * (shape["drift"] + rng.normal(size=(count, 1, 1)))
    own = rise * shape["own_rise"] * rng.normal(size=(count, series, 1))
    time = (1 - n ** -shape["slowing"]) / (shape["slowing"] * np.log(2))
    steps = np.sqrt(np.diff(time, prepend=0.0))
    together = np.cumsum(rng.normal(size=(count, 1, len(n))) * steps, 2) * walk
    alone = np.cumsum(rng.normal(size=(count, series, len(n))) * steps, 2)
    alone = alone * walk * shape["own_walk"]
    parted = rise * fork * rng.normal(size=(count, series, 1)) * (bend - bend[:, :, :1])
    return level + (shared + own) * bend + parted + together + alone, noise


def test_the_posterior_is_that_of_brute_force():
    """Curves drawn from the prior and weighed by how well they explain the runs, one by one."""
    scores = {(0, 500): [50.0, 51.1], (0, 1000): [52.0], (1, 500): [48.0, 47.2]}
    rng, count = np.random.default_rng(0), 700_000
    curves, noise = drawn(SMALL, [500, 1000, 4000], 2, count, rng)
    place = {500: 0, 1000: 1}
    sigma = noise[:, 0, 0]
    # the flat level, by hand: residuals of all runs about curves, less their common mean
    left = np.stack(
        [run - curves[:, s, place[n]] for (s, n), own in scores.items() for run in own], 1
    )
    level = left.mean(1) + sigma / np.sqrt(left.shape[1]) * rng.normal(size=count)
    square = ((left - left.mean(1)[:, None]) ** 2).sum(1)
    fit = -square / (2 * sigma**2) - (left.shape[1] - 1) * np.log(sigma)
    weights = np.exp(fit - fit.max())
    weights /= weights.sum()
    asked = np.array([0, 1, 1]), np.array([4000.0, 4000.0, 1000.0])
    found = posterior(cells_of(scores), *asked, SMALL)
    wanted = np.stack([curves[:, 0, 2], curves[:, 1, 2], curves[:, 1, 1]], 1) + level[:, None]
    error = 1 / np.sqrt(1 / (weights**2).sum())  # of a mean, in standard deviations
    assert error < 0.02
    for column in range(3):
        order = np.argsort(wanted[:, column])
        shares = np.cumsum(weights[order])
        spread = np.sqrt(weights @ (wanted[:, column] - weights @ wanted[:, column]) ** 2)
        assert found.scores.mean()[column] == pytest.approx(
            weights @ wanted[:, column], abs=5 * error * spread
        )
        for share in (0.1, 0.25, 0.75, 0.9):
            near = wanted[order[np.searchsorted(shares, share)], column]
            assert found.scores.quantile(share, column) == pytest.approx(near, abs=0.08 * spread)
    differ = found.scores.of([[1, -1, 0]])
    assert differ.above(0.0) == pytest.approx(
        weights @ (wanted[:, 0] > wanted[:, 1]), abs=5 * error
    )


def test_intervals_hold_what_they_say_where_the_model_is_true():
    rng, sizes, inside = np.random.default_rng(1), [500, 1000, 2500, 10_000], []
    curves, noise = drawn(SMALL, sizes, 3, 400, rng, level=50.0)
    for curve, sigma in zip(curves, noise[:, 0, 0], strict=True):
        runs = curve[:, :, None] + sigma * rng.normal(size=(3, 4, 2))
        scores = {(s, n): runs[s, i] for s in range(3) for i, n in enumerate(sizes[:3])}
        found = posterior(cells_of(scores), np.arange(3), np.full(3, 1e4), SMALL).observed(2)
        inside.append(0.1 < 1 - found.above(float(runs[0, 3].mean())) < 0.9)
    assert abs(np.mean(inside) - 0.8) < 4 * np.sqrt(0.16 / len(inside))


def test_splitting_runs_of_a_cell_changes_nothing():
    """Sums of squares within cells are all that single runs say besides their means."""
    scores = {(0, 500): [50.0, 51.0, 49.5], (0, 1000): [52.0, 52.5]}
    whole = log_fits(cells_of(scores), SMALL)
    cells = cells_of(scores)
    single = Cells(
        np.zeros(5, int), np.array([500.0] * 3 + [1000.0] * 2),
        np.concatenate(list(scores.values())), np.ones(5, int), 0.0,
    )  # fmt: skip
    apart = log_fits(single, SMALL)
    # densities of runs and of means differ by what hangs on their numbers alone
    assert np.ptp(whole - apart) < 1e-8
    assert cells.within == pytest.approx(1.1666667 + 0.125)


def test_scores_in_another_unit_give_the_same_in_that_unit():
    scores = {(0, 500): [50.0, 51.0], (0, 1000): [52.0], (1, 1000): [53.0]}
    cells = cells_of(scores).scaled(0.01)
    assert cells.within == pytest.approx(0.5e-4)
    found = Mixture(np.ones(1), np.array([[2.0]]), np.array([[[4.0]]])).scaled(0.5)
    assert (found.quantile(0.5), found.above(1.0)) == (pytest.approx(1.0), pytest.approx(0.5))
    assert found.quantile(0.8413447) == pytest.approx(2.0, abs=1e-5)


def test_order_of_cells_and_names_of_series_are_nothing():
    scores = {(0, 500): [50.0], (0, 1000): [52.0], (1, 500): [48.0], (1, 2500): [49.0, 50.0]}
    one = posterior(cells_of(scores), np.array([0, 1]), np.full(2, 1e4), SMALL)
    turned = {(1 - s, n): scores[s, n] for s, n in reversed(scores)}
    other = posterior(cells_of(turned), np.array([1, 0]), np.full(2, 1e4), SMALL)
    assert one.scores.mean() == pytest.approx(other.scores.mean())
    assert one.evidence == pytest.approx(other.evidence)


def test_what_is_learnt_is_a_prior():
    said = learnt()
    prior = Growth.of(said)
    for weights in prior.weights:
        assert weights.min() > 0
        assert weights.sum() == pytest.approx(1, abs=1e-3)
    assert len(prior.grid) == np.prod([len(said[name]["values"]) for name in AXES])
    assert min(prior.shape.values()) > 0
    assert said["source"]["sha256"] == file_key(ROOT / "data/runs/targeted_selection.csv")


@pytest.fixture(scope="module")
def check():
    place = ROOT / "benchmarks" / "advise_check.py"
    spec = importlib.util.spec_from_file_location("advise_check", place)
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_script_learns_by_the_density_that_advice_uses(check):
    """Covariances that fall apart there, and whole ones here."""
    groups = check.groups_of(check.RUNS)
    prior = Growth.of(learnt())
    grid = replace(
        prior,
        values=tuple(v[::2] for v in prior.values),
        weights=tuple(w[::2] for w in prior.weights),
    )
    fits = check.balanced_fits(groups[:2], grid.grid, prior.shape)
    for group, fit in zip(groups, fits, strict=False):
        np.testing.assert_allclose(log_fits(group.cells(500, 10_000), grid), fit, rtol=1e-6)


def test_the_recorded_check_keeps_the_promise():
    """Below carrying forward and a line; intervals that hold; advice that costs less."""
    said = json.loads((ROOT / "benchmarks/results/advise_check.json").read_text())
    assert said["source"] == learnt()["source"]["sha256"]
    for left_out in ("models", "pools"):
        first = said[left_out]["cases"][0]
        assert (first["low"], first["high"], first["target"], first["n"]) == (
            500,
            2500,
            10_000,
            320,
        )
        assert first["carry"] == pytest.approx(1.864)
        assert first["line"] == pytest.approx(4.26)
        assert first["mean"] < first["carry"]
        assert 0.75 <= first["inside_80"] <= 0.85
        assert 0.45 <= first["inside_50"] <= 0.55
        price = next(row for row in said[left_out]["prices"] if row["price"] == 0.2)
        assert price["advice"] < min(price["never"], price["always"])
