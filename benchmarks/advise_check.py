"""Learns the prior of `advise` from public runs, and checks what it would have said of them.

    python benchmarks/advise_check.py            # checks, by leaving out models and pools
    python benchmarks/advise_check.py --learn    # writes sft_diversity/fitting/growth.json first

Learning is by marginal likelihood of all scores: weights of the grid by EM, the shape by a simplex.
The public table is balanced, so its covariance falls apart into that of the mean over strategies
and that of the differences from it; the test holds this against the posterior that `advise` uses.

Checks learn all anew without what they predict. From scores at a few sizes that at a larger one is
predicted, the mean over the seeds, and held against carrying the last score forward and a line in
the logarithm of the size. Advice to stop is priced: going on to the size that it names, against
always staying and always going to 10,000, in points lost to the best choice in hindsight.
Writes benchmarks/results/advise_check.json.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.optimize import minimize
from scipy.special import logsumexp

from sft_diversity.core import folder
from sft_diversity.core.hashing import file_key
from sft_diversity.fitting.growth import AXES, SHAPE, Cells, Growth, posterior

Floats = npt.NDArray[np.float64]
ROOT = Path(__file__).parents[1]
RUNS = ROOT / "data" / "runs" / "targeted_selection.csv"
LEARNT = ROOT / "sft_diversity" / "fitting" / "growth.json"
RESULTS = Path(__file__).parent / "results" / "advise_check.json"
VALUES = {
    "curvature": [0.05, 0.35, 1, 2, 4],
    "rise": [0.5, 1, 2, 4, 8, 16, 32, 64],
    "walk": [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4],
    "noise": [0.2, 0.3, 0.45, 0.7, 1, 1.5, 2.2, 3.3, 5, 7.5],
    "fork": [0, 1],
}
START = {"drift": 1.0, "own_rise": 1.0, "own_walk": 2.0, "slowing": 0.5}
PSEUDO = 2.0  # groups that every weight is counted as having had besides


@dataclass(frozen=True)
class Group:
    """The runs of a pool, model and task: scores by strategy, size and seed."""

    pool: str
    model: str
    task: str
    strategies: tuple[str, ...]
    sizes: Floats
    scores: Floats  # (strategies, sizes, seeds)

    def cells(self, low: float, high: float, seeds: int = 3, only: int | None = None) -> Cells:
        """Return the cells of sizes from `low` to `high`, of the first seeds, of one strategy."""
        chosen = (self.sizes >= low) & (self.sizes <= high)
        scores = self.scores[:, chosen, :seeds]
        scores = scores if only is None else scores[[only]]
        means = scores.mean(2)
        rows, columns = np.indices(means.shape)
        return Cells(
            rows.ravel(), self.sizes[chosen][columns.ravel()], means.ravel(),
            np.full(means.size, seeds), float(((scores - means[:, :, None]) ** 2).sum()),
        )  # fmt: skip

    def at(self, size: float) -> Floats:
        """Return the mean scores at a size, shape (strategies,)."""
        found: Floats = self.scores[:, self.sizes == size].mean((1, 2))
        return found


def groups_of(path: Path) -> list[Group]:
    """Return the groups of the public table, without the base models."""
    frame = pl.read_csv(path).filter(pl.col("method") != "base")
    found = []
    for names, rows in sorted(frame.group_by("pool", "model", "task")):
        ordered = rows.sort("method", "samples", "seed")
        strategies = tuple(ordered["method"].unique(maintain_order=True).to_list())
        sizes = np.sort(ordered["samples"].unique().to_numpy()).astype(np.float64)
        scores = ordered["score"].to_numpy().reshape(len(strategies), len(sizes), -1)
        pool, model, task = map(str, names)
        found.append(Group(pool, model, task, strategies, sizes, scores))
    return found


# ---- learning


def balanced_fits(groups: Sequence[Group], grid: Floats, shape: Mapping[str, float]) -> Floats:
    """Return the log density of each group's scores at each point of the grid, shape (n, g)."""
    series, sizes, seeds = groups[0].scores.shape
    curvature, rise, walk, noise, fork = grid.T[:, :, None, None]
    size = groups[0].sizes / groups[0].sizes.min()
    slowing = shape["slowing"]
    time = (1 - size**-slowing) / (slowing * np.log(2))
    bend = -(size ** -curvature[:, 0])
    outer, steps = bend[:, :, None] * bend[:, None, :], np.minimum.outer(time, time)
    own = (rise * shape["own_rise"]) ** 2 * outer + noise**2 / seeds * np.eye(sizes)
    own = own + (walk * shape["own_walk"]) ** 2 * steps
    own = own + (rise * fork) ** 2 * (bend + 1)[:, :, None] * (bend + 1)[:, None, :]
    whole = series * (rise**2 * outer + walk**2 * steps) + own
    (own_inverse, own_log), (whole_inverse, whole_log) = (
        (np.linalg.inv(one), np.linalg.slogdet(one)[1]) for one in (own, whole)
    )
    precision = series * whole_inverse.sum((1, 2))
    drift = shape["drift"] * rise[:, 0] * bend
    found = []
    for group in groups:
        means = group.scores.mean(2)
        within = ((group.scores - means[:, :, None]) ** 2).sum()
        left = np.sqrt(series) * (means.mean(0) - drift)
        apart = means - means.mean(0)
        weighted = np.einsum("gij,gj->gi", whole_inverse, left)
        level = np.sqrt(series) * weighted.sum(1) / precision
        square = (left * weighted).sum(1) - level**2 * precision
        square += np.einsum("gij,ij->g", own_inverse, apart.T @ apart)
        logs = whole_log + (series - 1) * own_log + np.log(precision)
        runs = series * sizes * (seeds - 1)
        error = noise[:, 0, 0] ** 2
        found.append(-0.5 * (logs + square + runs * np.log(error) + within / error))
    return np.array(found)


def weighed(fits: Floats, shape: tuple[int, ...], rounds: int) -> tuple[list[Floats], float]:
    """Return the weights of each axis of the grid by EM, and the log likelihood that they give."""
    weights = [np.full(count, 1 / count) for count in shape]
    total = 0.0
    for _ in range(rounds):
        prior = np.zeros(shape)
        for axis, one in enumerate(weights):
            prior += np.expand_dims(np.log(one), [i for i in range(len(shape)) if i != axis])
        joint = fits + prior.ravel()
        each = logsumexp(joint, axis=1)
        total = float(each.sum())
        share = np.exp(joint - each[:, None]).sum(0).reshape(shape)
        counts = [
            share.sum(tuple(i for i in range(len(shape)) if i != axis)) + PSEUDO
            for axis in range(len(shape))
        ]
        weights = [one / one.sum() for one in counts]
    return weights, total


def learn(groups: Sequence[Group], start: Mapping[str, float] = START) -> dict[str, Any]:
    """Return a prior as `growth.json` holds it, learnt from groups."""
    axes = [np.array(VALUES[name], np.float64) for name in AXES]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(AXES))
    counts = tuple(map(len, axes))

    def named(logs: Floats) -> dict[str, float]:
        return dict(zip(SHAPE, np.exp(logs).tolist(), strict=True))

    def misfit(logs: Floats) -> float:
        return -weighed(balanced_fits(groups, grid, named(logs)), counts, 40)[1]

    begin = np.log([start[name] for name in SHAPE])
    simplex = np.vstack([begin, begin + 0.4 * np.eye(len(SHAPE))])
    options = {"maxfev": 250, "initial_simplex": simplex, "xatol": 0.02, "fatol": 0.05}
    best = minimize(misfit, begin, method="Nelder-Mead", options=options)
    shape = {name: round(value, 3) for name, value in named(best.x).items()}
    weights, total = weighed(balanced_fits(groups, grid, shape), counts, 200)
    return {
        **{
            name: {"values": VALUES[name], "weights": [round(float(w), 4) for w in one]}
            for name, one in zip(AXES, weights, strict=True)
        },
        **shape,
        "log_likelihood": round(total, 2),
    }


# ---- checking


@dataclass(frozen=True)
class Case:
    """What is known, and what is predicted: sizes from `low` to `high`, then `target`."""

    low: int
    high: int
    target: int
    seeds: int = 3
    alone: bool = False  # each strategy without the others


CASES = (
    Case(500, 2_500, 10_000),
    Case(500, 1_000, 10_000),
    Case(1_000, 2_500, 10_000),
    Case(500, 5_000, 10_000),
    Case(2_500, 5_000, 10_000),
    Case(500, 2_500, 10_000, seeds=1),
    Case(500, 2_500, 10_000, alone=True),
)
PRICES = (0.05, 0.1, 0.2, 0.3, 0.5)  # points for a thousand samples


def line(cells: Cells, series: int, target: float) -> float:
    """Return what a straight line in the logarithm of the size predicts."""
    own = cells.series == series
    slope, level = np.polyfit(np.log(cells.size[own]), cells.mean[own], 1)
    return float(slope * np.log(target) + level)


def predicted(group: Group, case: Case, prior: Growth) -> Iterable[dict[str, float]]:
    """Yield for each strategy what was predicted, what came, and where it stood among them."""
    number = len(group.strategies)
    truth = group.scores[:, group.sizes == case.target, : case.seeds].mean((1, 2))
    for first in range(number if case.alone else 1):
        cells = group.cells(case.low, case.high, case.seeds, first if case.alone else None)
        asked = np.arange(1 if case.alone else number)
        target = np.full(len(asked), float(case.target))
        known = posterior(cells, asked, target, prior)
        seen, random = known.observed(case.seeds), group.strategies.index("Random")
        for one in asked.tolist():
            came = truth[first + one]
            beats = math.nan
            if not case.alone and one != random:
                by = np.zeros((1, number))
                by[0, one], by[0, random] = 1, -1
                beats = known.scores.of(by).above(0.0)
            yield {
                "beats": beats,
                "beat": float(came > truth[random]),
                "came": came,
                "mean": seen.mean()[one],
                "rank": 1 - seen.above(came, one),
                "wide": seen.quantile(0.9, one) - seen.quantile(0.1, one),
                "carry": cells.mean[(cells.series == one) & (cells.size == case.high)][0],
                "line": line(cells, one, case.target),
            }


def summary(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return mean absolute errors, and how often intervals held what came."""
    column = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    error = {
        name: float(np.abs(column[name] - column["came"]).mean())
        for name in ("mean", "carry", "line")
    }
    inside = {
        f"inside_{share}": float((np.abs(column["rank"] - 0.5) < share / 200).mean())
        for share in (50, 80)
    }
    figures = {"n": len(rows), **error, **inside, "width_80": float(column["wide"].mean())}
    sure = np.abs(column["beats"] - 0.5) >= 0.4  # of being above random, or below it
    if sure.any():
        right = (column["beats"] > 0.5) == (column["beat"] > 0.5)
        figures |= {"sure": float(sure.sum()), "sure_right": float(right[sure].mean())}
    return {name: round(value, 3) for name, value in figures.items()}


def priced(group: Group, prior: Growth) -> Iterable[dict[str, float]]:
    """Yield, for each strategy and price, what policies at 2,500 samples lose in hindsight."""
    sizes = np.array([2_500.0, 5_000.0, 10_000.0])
    number = len(group.strategies)
    cells = group.cells(500, 2_500)
    asked = np.repeat(np.arange(number), len(sizes))
    scores = posterior(cells, asked, np.tile(sizes, number), prior).scores.mean()
    truth = np.stack([group.at(size) for size in sizes], 1)
    for one, expected in enumerate(scores.reshape(number, -1)):
        for price in PRICES:
            costs = price * (sizes - sizes[0]) / 1_000
            real = truth[one] - costs
            chosen = int((expected - costs).argmax())
            yield {
                "price": price,
                "advice": real.max() - real[chosen],
                "never": real.max() - real[0],
                "always": real.max() - real[-1],
                "stopped": float(chosen == 0),
                "right": float((chosen == 0) == (real.argmax() == 0)),
            }


def checked(groups: Sequence[Group], by: Callable[[Group], str]) -> dict[str, Any]:
    """Return the checks, leaving out the groups that share a name in turn."""
    rows: list[list[dict[str, float]]] = [[] for _ in CASES]
    folds: dict[str, list[dict[str, float]]] = {}
    prices: list[dict[str, float]] = []
    for name in sorted(set(map(by, groups))):
        prior = Growth.of(learn([one for one in groups if by(one) != name]))
        for group in groups:
            if by(group) == name:
                for number, case in enumerate(CASES):
                    found = list(predicted(group, case, prior))
                    rows[number] += found
                    if not number:
                        folds.setdefault(name, []).extend(found)
                prices += priced(group, prior)
        print(name, summary(folds[name]), flush=True)
    lost = ("advice", "never", "always", "stopped", "right")
    return {
        "cases": [vars(case) | summary(one) for case, one in zip(CASES, rows, strict=True)],
        "by_left_out": {name: summary(one) for name, one in folds.items()},
        "prices": [
            {"price": price}
            | {
                name: round(float(np.mean([r[name] for r in prices if r["price"] == price])), 3)
                for name in lost
            }
            for price in PRICES
        ],
    }


def main() -> None:
    """Learn where asked to, check, and write the results."""
    parser = argparse.ArgumentParser(description="Learns and checks the prior of `advise`.")
    parser.add_argument("--learn", action="store_true", help="write the prior first")
    asked = parser.parse_args()
    groups = groups_of(RUNS)
    if asked.learn:
        said = learn(groups)
        spread = float(np.median([one.scores.mean(2).std() for one in groups]))
        source = {"file": RUNS.name, "sha256": file_key(RUNS), "groups": len(groups)}
        said = {"source": source, "spread": round(spread, 3), **said}
        LEARNT.write_text(json.dumps(said, indent=1) + "\n", "utf-8")
    found: dict[str, Any] = {
        "source": file_key(RUNS),
        "models": checked(groups, lambda one: one.model),
        "pools": checked(groups, lambda one: one.pool),
    }
    folder.write_json(RESULTS, found, "advise_check")
    for left_out in ("models", "pools"):
        for row in (*found[left_out]["cases"], *found[left_out]["prices"]):
            print(left_out, row)


if __name__ == "__main__":
    main()
