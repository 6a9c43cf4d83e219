"""Does ‖∇f‖₁, averaged over a run of K steps, fall as K^-1/4 when β and η are set from K?

    python benchmarks/convergence_rate.py --corpus reference/corpus

A sweep over K, on a problem whose gradient is known (rate_toy.py) and on a small Llama model with
random weights, whose objective is the loss over 256 fixed samples and whose gradient over all of
them is taken at one random step of each sixth of a run. No exponent is fitted inside a run. Then
LION against SGD and AdamW in loss at equal steps, each at its best rate on a validation split.
Finished runs are kept in --work and not run again. Writes benchmarks/results/convergence_rate.json
and the pictures of docs/experiments/convergence-rate.md.
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
import time
from pathlib import Path
from typing import Any

import rate_draw
import rate_toy
import small_models as small
import torch
from rate_toy import Name

from sft_diversity.core import folder, machine, seeding
from sft_diversity.training import schedules, theory

WIDTH, BATCH, DECAY = 64, 8, 0.01
OBJECTIVE = 256  # samples that make f; a step draws from them, with replacement
KS, PARTS, SEEDS = tuple(2**power for power in range(4, 10)), 6, (0, 1)
SWEPT = ("lion", "adamw")

LOSS_STEPS, WARMUP, LOSS_SEEDS = 256, 8, (0, 1, 2)
FIRST, TRAIN, VALIDATION, TEST = 512, 2_000, 128, 256  # from sample 512 on, apart from f's
GRID: dict[Name, tuple[float, ...]] = {
    "lion": (1e-4, 3e-4, 1e-3, 3e-3),
    "adamw": (1e-3, 3e-3, 1e-2, 3e-2),
    "sgd": (0.03, 0.1, 0.3, 1.0),
}


def main() -> None:
    """Run what is not yet run, fit, write figures and pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path(".bench/convergence-rate"))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    toy = {
        "sweeps": [
            small.kept(asked.work, f"toy-sweep-{title}", rate_toy.sweep, title)
            for title in rate_toy.SCALINGS
        ],
        "losses": [
            small.kept(asked.work, f"toy-loss-{name}", rate_toy.compare, name)
            for name in rate_toy.GRID
        ],
    }
    texts = small.read_texts(asked.corpus, FIRST + TRAIN + VALIDATION + TEST)
    losses = [compare(texts, name, asked.work) for name in GRID]
    # Half the best annealed peak: a cosine's mean, so both rates sum to the same.
    rates = {row["optimizer"]: row["rate"]["best"] / 2 for row in losses}
    sweeps = sweep(texts, rates, asked.work)
    report = {
        "benchmark": "convergence_rate",
        "machine": machine.measured_on(),
        "versions": {k: v for k, v in folder.versions().items() if k in ("torch", "transformers")},
        "toy": toy,
        "model": {"width": WIDTH, "batch": BATCH, "sweeps": sweeps, "losses": losses},
    }
    path = small.ROOT / "benchmarks/results/convergence_rate.json"
    path.write_text(folder.dump_json(report), "utf-8")
    rate_draw.sweeps(report, small.ROOT / "docs/experiments/convergence-rate.png")
    rate_draw.losses(report, small.ROOT / "docs/experiments/lion-loss.png")
    for found in (toy["sweeps"], sweeps):
        for row in found:
            print(row["title"], row["rate"], row["fit"], row["local"])
    for found in (toy["losses"], losses):
        for row in found:
            print(row["optimizer"], row["rate"]["best"], statistics.fmean(row["losses"]))


def sweep(texts: small.Texts, at_anchor: dict[str, float], work: Path) -> list[dict[str, Any]]:
    """Run all K, seed by seed; fit log mean ‖∇f‖₁ against log K."""
    objective = texts.part(0, OBJECTIVE)
    rows: dict[str, list[dict[str, Any]]] = {title: [] for title in SWEPT}
    for seed, title, steps in itertools.product(SEEDS, SWEPT, KS):
        scaling = rate_toy.SCALINGS[title]
        lr = scaling.rate(at_anchor[title], LOSS_STEPS, steps)
        key = f"model-sweep-{title}-{lr:.3g}-{steps}-{seed}"
        rows[title].append(small.kept(work, key, probed, objective, scaling, lr, steps, seed))
    return [fitted(title, at_anchor[title], rows[title]) for title in SWEPT]


def fitted(title: str, at_anchor: float, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the runs of a scaling with the fit over their means, one for each K."""
    means = [statistics.fmean(row["l1"] for row in rows if row["steps"] == k) for k in KS]
    return {
        "title": title,
        "rate": {"at": LOSS_STEPS, "lr": at_anchor},
        "rows": rows,
        "means": means,
        "fit": small.slope(KS, means),
        "fit_from_64": small.slope(KS[2:], means[2:]),
        "slope_by_seed": [
            small.slope(KS, [r["l1"] for r in rows if r["seed"] == seed])["slope"] for seed in SEEDS
        ],
        "local": rate_toy.local_slopes(KS, means),
    }


def probed(
    texts: small.Texts, scaling: rate_toy.Scaling, lr: float, steps: int, seed: int
) -> dict[str, Any]:
    """Take K steps at a constant rate; measure the gradient of f once in each sixth of them."""
    model = small.make_model(WIDTH, seed)
    groups = small.groups(model, DECAY)
    optimizer = small.make_optimizer(scaling.optimizer, groups, lr, scaling.betas(steps))
    rng, probes = seeding.generator(seed, "rate"), seeding.generator(seed, "rate probes")
    cut = [steps * i // PARTS for i in range(PARTS + 1)]
    at = {int(probes.integers(a, b)) for a, b in itertools.pairwise(cut)}
    seen, losses, box, began = [], [], 0.0, time.process_time()
    for step in range(steps):
        if step in at:
            losses.append(small.full_gradient(model, texts))
            seen.append(theory.gradient_figures(groups, box=False))
            largest = max(float(p.detach().abs().max()) for p in groups[0]["params"])
            box = max(box, DECAY * largest)
        optimizer.zero_grad()
        rows = rng.integers(len(texts.ids), size=BATCH).tolist()
        small.loss_of(model, texts, rows).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return {
        "steps": steps,
        "seed": seed,
        "lr": lr,
        "betas": scaling.betas(steps),
        "l1": statistics.fmean(f.grad_l1 for f in seen),
        "l2": statistics.fmean(f.grad_l2 for f in seen),
        "at": sorted(at),
        "l1_at": [f.grad_l1 for f in seen],
        "loss_at": losses,
        "box": box,
        "cpu_s": round(time.process_time() - began),
    }


def compare(texts: small.Texts, name: Name, work: Path) -> dict[str, Any]:
    """Choose a rate on the validation split with one seed; report the test split with three."""
    tried: dict[str, float | None] = {}
    for lr in GRID[name]:
        run = small.kept(work, f"model-loss-{name}-{lr:g}-0", trained, texts, name, lr, 0)
        tried[f"{lr:g}"] = run["validation"]
    best = float(min((loss, lr) for lr, loss in tried.items() if loss is not None)[1])
    runs = [
        small.kept(work, f"model-loss-{name}-{best:g}-{seed}", trained, texts, name, best, seed)
        for seed in LOSS_SEEDS
    ]
    return {
        "optimizer": name,
        "rate": {"best": best, "tried": tried},
        "losses": [run["test"] for run in runs],
        "curves": [run["curve"] for run in runs],
    }


def trained(texts: small.Texts, name: Name, lr: float, seed: int) -> dict[str, Any]:
    """Train with the product's betas under UBA, φ = 2; return held-out losses in nats a token."""
    ends = [FIRST]
    for count in (TRAIN, VALIDATION, TEST):
        ends.append(ends[-1] + count)
    train, validation, test = (texts.part(a, b) for a, b in itertools.pairwise(ends))
    model = small.make_model(WIDTH, seed)
    optimizer = small.make_optimizer(name, small.groups(model, DECAY), lr)
    factor = schedules.Schedule("uba", LOSS_STEPS, WARMUP)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    rng = seeding.generator(seed, "loss")
    curve = []
    for _ in range(LOSS_STEPS):
        optimizer.zero_grad()
        loss = small.loss_of(model, train, rng.integers(TRAIN, size=BATCH).tolist())
        loss.backward()  # type: ignore[no-untyped-call]
        curve.append(loss.item())
        if not math.isfinite(curve[-1]):
            return {"validation": None, "test": None, "curve": []}
        optimizer.step()
        schedule.step()
    found = {"validation": small.full_loss(model, validation), "test": small.full_loss(model, test)}
    pieces = [curve[i : i + 16] for i in range(0, LOSS_STEPS, 16)]
    return found | {"curve": [round(statistics.fmean(piece), 4) for piece in pieces]}


if __name__ == "__main__":
    main()
