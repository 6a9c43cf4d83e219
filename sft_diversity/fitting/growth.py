"""How scores grow with the number of samples: curves of a group of series, and their uncertainty.

A group is one model on one task; its series are the strategies. With n the size and n1 the smallest
of the group, the score of series s is

    f_s(n) = level + (b + b_s) h(n) + d_s (h(n) + 1) + w(n) + w_s(n),     h(n) = -(n / n1)^-c
    b   ~ N(drift R, R^2)          the rise from n1 on that all share
    b_s ~ N(0, (own_rise R)^2)     each one's own: series that differ at n1 come together
    d_s ~ N(0, (F R)^2)            or part from n1 on
    w, w_s                         Wiener processes of scales W and own_walk W, in the time
                                   t(n) = (1 - (n / n1)^-slowing) / (slowing log 2): doublings at
                                   first, then ever slower

and a run's score is f_s(n) plus noise of standard deviation E. The level has a flat prior. Given
the curvature c, the rise R, the walk W, the noise E and the fork F all is Gaussian; these have a
prior on a grid, learnt from public runs (`growth.json`, by benchmarks/advise_check.py). So the
posterior is a mixture of Gaussians, each weighted by how well it explains the scores at hand.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib import resources
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

AXES = ("curvature", "rise", "walk", "noise", "fork")
SHAPE = ("drift", "own_rise", "own_walk", "slowing")
_AT_ONCE = 2_000_000  # numbers of a block of covariances
_LIGHT = 1e-7  # weight below which a Gaussian is left out of a mixture


@dataclass(frozen=True)
class Cells:
    """Mean scores of a group, one cell a series and size; points of a benchmark.

    Attributes
    ----------
    series, size, mean, runs : arrays, shape (c,)
        Number of the series, samples, mean score and number of runs of a cell.
    within : float
        Sum of the squares of all runs about the means of their cells.
    """

    series: Ints
    size: Floats
    mean: Floats
    runs: Ints
    within: float

    def scaled(self, by: float) -> Cells:
        """Return the cells with scores times `by`."""
        return Cells(self.series, self.size, self.mean * by, self.runs, self.within * by * by)


@dataclass(frozen=True)
class Growth:
    """The prior: values of the `AXES` of a grid, their weights, and what all share."""

    values: tuple[Floats, ...]
    weights: tuple[Floats, ...]
    shape: dict[str, float]

    @classmethod
    def of(cls, said: dict[str, Any]) -> Growth:
        """Return the prior of a mapping as `growth.json` holds it."""
        values, weights = (
            tuple(np.array(said[name][what], np.float64) for name in AXES)
            for what in ("values", "weights")
        )
        return cls(values, weights, {name: float(said[name]) for name in SHAPE})

    @cached_property
    def grid(self) -> Floats:
        """All combinations of the values, shape (g, 5)."""
        return np.stack(np.meshgrid(*self.values, indexing="ij"), -1).reshape(-1, len(AXES))

    @cached_property
    def log_prior(self) -> Floats:
        """Logarithm of their weights, shape (g,)."""
        logs = np.meshgrid(*(np.log(one) for one in self.weights), indexing="ij")
        total: Floats = np.sum(logs, axis=0)
        return total.ravel()


@lru_cache
def learnt() -> dict[str, Any]:
    """Return `growth.json`: the prior, where it was learnt, and how spread scores were there."""
    place = resources.files("sft_diversity.fitting").joinpath("growth.json")
    said: dict[str, Any] = json.loads(place.read_text("utf-8"))
    return said


@dataclass(frozen=True)
class Mixture:
    """A mixture of g Gaussians over q scores: weights (g,), means (g, q), covariances (g, q, q)."""

    weights: Floats
    means: Floats
    covariances: Floats

    @classmethod
    def join(cls, several: Sequence[Mixture], weights: Floats) -> Mixture:
        """Return the mixture of mixtures of the same scores."""
        return cls(
            np.concatenate([w * one.weights for w, one in zip(weights, several, strict=True)]),
            np.concatenate([one.means for one in several]),
            np.concatenate([one.covariances for one in several]),
        )

    def scaled(self, by: float) -> Mixture:
        """Return the mixture of the scores times `by`."""
        return Mixture(self.weights, self.means * by, self.covariances * by**2)

    def mean(self) -> Floats:
        """Return the means of the scores, shape (q,)."""
        found: Floats = self.weights @ self.means
        return found

    def of(self, rows: npt.ArrayLike) -> Mixture:
        """Return the mixture of linear combinations of the scores, one a row."""
        by = np.asarray(rows, np.float64)
        return Mixture(self.weights, self.means @ by.T, by @ self.covariances @ by.T)

    def above(self, limit: float, which: int = 0) -> float:
        """Return the probability that a score is above a limit."""
        from scipy.special import ndtr

        spread = np.sqrt(np.maximum(self.covariances[:, which, which], 1e-18))
        return float(self.weights @ ndtr((self.means[:, which] - limit) / spread))

    def quantile(self, share: float, which: int = 0) -> float:
        """Return a quantile of a score, by bisection."""
        spread = np.sqrt(np.maximum(self.covariances[:, which, which], 0))
        low = float((self.means[:, which] - 9 * spread).min())
        high = float((self.means[:, which] + 9 * spread).max())
        while high - low > 1e-9 * max(1.0, abs(low), abs(high)):
            middle = (low + high) / 2
            if self.above(middle, which) > 1 - share:
                low = middle
            else:
                high = middle
        return (low + high) / 2


@dataclass(frozen=True)
class Posterior:
    """What is known after the scores of a group.

    Attributes
    ----------
    evidence : float
        Log density of the scores, up to a constant that hangs on their number alone.
    scores : Mixture
        Scores f_s(n) of the series and sizes that were asked for.
    noise : float array, shape (g,)
        Standard deviation of a run about them.
    """

    evidence: float
    scores: Mixture
    noise: Floats

    def observed(self, runs: float) -> Mixture:
        """Return the mixture of means of so many runs."""
        extra = np.eye(self.scores.means.shape[1]) * (self.noise**2 / runs)[:, None, None]
        return Mixture(self.scores.weights, self.scores.means, self.scores.covariances + extra)


def posterior(cells: Cells, series: Ints, size: Floats, prior: Growth) -> Posterior:
    """Return what scores say of those of `series` at `size`, arrays of shape (q,).

    Notes
    -----
    Time O(g c^3) for c cells and g points of the grid: 40 ms for 24 cells. Sizes below the smallest
    of the cells are not for this model.
    """
    from scipy.special import logsumexp

    fit = log_fits(cells, prior) + prior.log_prior
    evidence = float(logsumexp(fit))
    kept = fit > evidence + np.log(_LIGHT)
    _, means, covariances = _conditioned(cells, series, size, prior.grid[kept], prior.shape)
    weights = np.exp(fit[kept] - evidence)
    scores = Mixture(weights / weights.sum(), means, covariances)
    return Posterior(evidence, scores, prior.grid[kept, 3])


def log_fits(cells: Cells, prior: Growth) -> Floats:
    """Return the log density of the scores at each point of the grid, shape (g,)."""
    none, step = np.empty(0), max(1, _AT_ONCE // len(cells.mean) ** 2)
    parts = [
        _conditioned(cells, none.astype(np.int64), none, prior.grid[at : at + step], prior.shape)[0]
        for at in range(0, len(prior.grid), step)
    ]
    return np.concatenate(parts)


def _conditioned(
    cells: Cells, series: Ints, size: Floats, grid: Floats, shape: dict[str, float]
) -> tuple[Floats, Floats, Floats]:
    """Return log density, means (g, q) and covariances (g, q, q), each point of the grid apart.

    The flat level is integrated out as in REML: with residuals r about the rise and K their
    covariance, the density is that of K, of 1'K^-1 1, and of r about its weighted mean.
    """
    at, asked = (cells.series, cells.size), (series, size)
    noise, first, count = grid[:, 3] ** 2, cells.size.min(), len(cells.mean)
    own = _covariance(at, at, first, grid, shape)
    own[:, range(count), range(count)] += noise[:, None] / cells.runs
    drift = shape["drift"] * grid[:, 1, None]
    left = cells.mean - drift * _bend(cells.size, first, grid)
    cross = _covariance(at, asked, first, grid, shape)  # (g, c, q)
    ones = np.ones((len(grid), count, 1))
    solved = np.linalg.solve(own, np.concatenate([left[:, :, None], ones, cross], 2))
    precision = solved[:, :, 1].sum(1)  # of the level
    level = solved[:, :, 0].sum(1) / precision
    free = int(cells.runs.sum()) - count
    log_density = -0.5 * (
        np.linalg.slogdet(own)[1]
        + np.log(precision)
        + np.einsum("gc,gc->g", left, solved[:, :, 0])
        - level**2 * precision
        + free * np.log(noise)
        + cells.within / noise
    )
    weights = solved[:, :, 0] - level[:, None] * solved[:, :, 1]
    means = drift * _bend(size, first, grid) + level[:, None]
    means = means + np.einsum("gcq,gc->gq", cross, weights)
    rest = 1 - solved[:, :, 2:].sum(1)  # how much of the level a score still takes
    covariances = (
        _covariance(asked, asked, first, grid, shape)
        - np.einsum("gcq,gcr->gqr", cross, solved[:, :, 2:])
        + rest[:, :, None] * rest[:, None, :] / precision[:, None, None]
    )
    return log_density, means, covariances


def _bend(size: Floats, first: float, grid: Floats) -> Floats:
    """Return h(n), shape (g, c): -1 at the first size, 0 at last."""
    curvature = grid[:, 0, None]
    found: Floats = -((size / first) ** -curvature)
    return found


def _covariance(
    one: tuple[Ints, Floats],
    other: tuple[Ints, Floats],
    first: float,
    grid: Floats,
    shape: dict[str, float],
) -> Floats:
    """Return the prior covariance of scores of two lists of series and sizes, shape (g, c, q)."""
    rise, walk = grid[:, 1, None, None], grid[:, 2, None, None]
    same = (one[0][:, None] == other[0]).astype(np.float64)
    bends = [_bend(size, first, grid) for _, size in (one, other)]
    slowing = shape["slowing"]
    steps = [(1 - (size / first) ** -slowing) / (slowing * np.log(2)) for _, size in (one, other)]
    rises = bends[0][:, :, None] * bends[1][:, None, :] * (1 + shape["own_rise"] ** 2 * same)
    apart = [bend + 1 for bend in bends]
    rises += grid[:, 4, None, None] ** 2 * apart[0][:, :, None] * apart[1][:, None, :] * same
    walks = np.minimum.outer(*steps) * (1 + shape["own_walk"] ** 2 * same)
    found: Floats = rise**2 * rises + walk**2 * walks
    return found
