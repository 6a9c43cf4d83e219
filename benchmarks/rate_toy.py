"""How rates and betas are set from the number of steps K, and a problem whose gradient is known.

The problem: f(x) = Σ_j h_j φ(u_j), u = Qx, φ(u) = u²/2 + (5/9)(1 − cos 3u), Q a random rotation
of 64 dimensions and h from 0.1 to 1. φ″ runs from −4 to 6, so f is not convex; it has local minima.
A step sees ∇f(x) and Gaussian noise of deviation 2 in every coordinate.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import small_models as small
import torch

from sft_diversity.core import seeding
from sft_diversity.training import schedules

Name = Literal["lion", "adamw", "sgd"]

DIMENSION, NOISE, SPREAD, DECAY = 64, 2.0, 3.0, 0.01


@dataclass(frozen=True)
class Scaling:
    """Powers of K: η ∝ K^-lr, 1 − β1 = K^-first, 1 − β2 = K^-second; a constant rate in a run.

    `betas_at` fixes the betas as they are for that K, for the control.
    """

    optimizer: Name
    lr: float
    first: float = 0.0
    second: float = 0.0
    betas_at: int | None = None

    def betas(self, steps: int) -> tuple[float, float] | None:
        """Return the betas for K steps; SGD keeps its momentum."""
        if self.optimizer == "sgd":
            return None
        k = self.betas_at or steps
        return 1.0 - k**-self.first, 1.0 - k**-self.second

    def rate(self, at_anchor: float, anchor: int, steps: int) -> float:
        """Return the rate for K steps, given that for `anchor` steps."""
        return float(at_anchor * (steps / anchor) ** -self.lr)


ANCHOR = 1_024  # the K at which the toy's rates are chosen

SCALINGS = {
    "lion": Scaling("lion", 0.75, first=0.25, second=0.5),
    "adamw": Scaling("adamw", 0.5, first=0.5, second=0.5),
    "adamw, η as LION's": Scaling("adamw", 0.75, first=0.5, second=0.5),
    "sgd": Scaling("sgd", 0.5),
    "lion, nothing scaled": Scaling("lion", 0.0, first=0.25, second=0.5, betas_at=ANCHOR),
}

KS = tuple(2**power for power in range(4, 17, 2))
LOSS_STEPS = 1_024
SEEDS, VALIDATION_SEEDS = range(16), range(100, 108)
GRID: dict[Name, tuple[float, ...]] = {
    "lion": tuple(10 ** (-3 + i / 4) for i in range(9)),
    "adamw": tuple(10 ** (-2.5 + i / 4) for i in range(9)),
    "sgd": tuple(10 ** (-3.5 + i / 4) for i in range(9)),
}


@functools.cache
def rotation() -> torch.Tensor:
    """Return Q."""
    square = seeding.generator(0, "toy").normal(size=(DIMENSION, DIMENSION))
    return torch.from_numpy(np.linalg.qr(square)[0]).float()


class Problem:
    """Many starts at once: one row each, with noise of its own."""

    def __init__(self, seeds: range) -> None:
        self.rotation = rotation()
        self.heights = torch.linspace(0.1, 1.0, DIMENSION)
        starts = [seeding.generator(seed, "toy start").normal(size=DIMENSION) for seed in seeds]
        self.start = SPREAD * torch.from_numpy(np.stack(starts)).float()
        self.noise = torch.Generator().manual_seed(seeds[0])

    def loss(self, x: torch.Tensor) -> torch.Tensor:
        """Return f of every row."""
        u = x @ self.rotation.T
        return (self.heights * (u**2 / 2 + 5 / 9 * (1 - torch.cos(3 * u)))).sum(1)

    def gradient(self, x: torch.Tensor) -> torch.Tensor:
        """Return ∇f of every row, exactly."""
        u = x @ self.rotation.T
        return (self.heights * (u + 5 / 3 * torch.sin(3 * u))) @ self.rotation


def descend(
    name: Name,
    lr: float,
    steps: int,
    seeds: range,
    betas: tuple[float, float] | None = None,
    annealed: bool = False,
) -> dict[str, Any]:
    """Run K steps from every start.

    Returns
    -------
    dict
        Of every seed: the exact ‖∇f‖₁ and ‖∇f‖₁/‖∇f‖₂ averaged over the run, and the last loss.
        `box`: the largest λ|x| met.
    """
    problem = Problem(seeds)
    x = torch.nn.Parameter(problem.start.clone())
    optimizer = small.make_optimizer(name, [{"params": [x], "weight_decay": DECAY}], lr, betas)
    factor = schedules.Schedule("uba" if annealed else "constant", steps)
    l1, ratio, box = torch.zeros(len(seeds)), torch.zeros(len(seeds)), 0.0
    for step in range(steps):
        with torch.no_grad():
            gradient = problem.gradient(x)
            norm = gradient.abs().sum(1)
            l1 += norm / steps
            ratio += norm / gradient.norm(dim=1) / steps
            if step % 64 == 0:
                box = max(box, DECAY * float(x.abs().max()))
            x.grad = gradient + NOISE * torch.randn(x.shape, generator=problem.noise)
        optimizer.param_groups[0]["lr"] = lr * factor(step)
        optimizer.step()
    with torch.no_grad():
        last = problem.loss(x)
    return {
        "steps": steps,
        "lr": lr,
        "betas": betas,
        "l1": l1.tolist(),
        "l1_over_l2": ratio.tolist(),
        "loss": [value if math.isfinite(value) else None for value in last.tolist()],
        "box": box,
    }


def best_rate(name: Name, steps: int, score: str, **options: Any) -> dict[str, Any]:
    """Return the rate with the least mean score over the validation seeds, and all tried."""
    tried = {}
    for lr in GRID[name]:
        values = descend(name, lr, steps, VALIDATION_SEEDS, **options)[score]
        mean = math.inf if None in values else sum(values) / len(values)
        tried[float(f"{lr:.4g}")] = mean if math.isfinite(mean) else None
    best = min((mean, lr) for lr, mean in tried.items() if mean is not None)[1]
    return {"best": best, "tried": {str(lr): mean for lr, mean in tried.items()}}


def sweep(title: str) -> dict[str, Any]:
    """Choose the rate at one K, scale it to the others, fit log mean ‖∇f‖₁ against log K."""
    scaling = SCALINGS[title]
    chosen = best_rate(scaling.optimizer, ANCHOR, "l1", betas=scaling.betas(ANCHOR))
    rows = [
        descend(
            scaling.optimizer,
            scaling.rate(chosen["best"], ANCHOR, steps),
            steps,
            SEEDS,
            scaling.betas(steps),
        )
        for steps in KS
    ]
    means = [sum(row["l1"]) / len(row["l1"]) for row in rows]
    by_seed = [small.slope(KS, [row["l1"][i] for row in rows])["slope"] for i in range(len(SEEDS))]
    return {
        "title": title,
        "rate": chosen,
        "rows": rows,
        "means": means,
        "fit": small.slope(KS, means),
        "slope_by_seed": [min(by_seed), max(by_seed)],
        "local": local_slopes(KS, means),
    }


def local_slopes(steps: tuple[int, ...], means: list[float]) -> list[float]:
    """Return the slope between every two neighbouring K."""
    local: list[float] = (np.diff(np.log(means)) / np.diff(np.log(steps))).round(3).tolist()
    return local


def compare(name: Name) -> dict[str, Any]:
    """Return the last losses of an optimizer at its best rate under UBA with φ = 2."""
    chosen = best_rate(name, LOSS_STEPS, "loss", annealed=True)
    found = descend(name, chosen["best"], LOSS_STEPS, SEEDS, annealed=True)
    return {"optimizer": name, "rate": chosen, "losses": found["loss"]}
