"""How ‖g‖₁/‖g‖₂ grows with the number of parameters d: the papers say as √d.

    python benchmarks/gradient_norms.py --corpus reference/corpus

Llama models of several widths with random weights are trained for a short run on real samples, with
AdamW and LION at the product's default rates. At every step after warm-up the norms of the gradient
are taken as the training log takes them, over all parameters and over the matrices of the blocks
alone; twice a run also those of the gradient over 128 fixed samples. Finished runs are kept in
--work and not run again. Writes benchmarks/results/gradient_norms.json and the picture of
docs/experiments/gradient-norms.md.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any, Literal

import small_models as small
import torch

from sft_diversity.core import folder, machine, seeding
from sft_diversity.training import optimizers, schedules, theory

WIDTHS, SEEDS = (32, 64, 128, 256, 384), (0, 1)
STEPS, WARMUP, LEFT_OUT, BATCH = 80, 10, 20, 8
PROBE_AT, TRAIN, PROBE = (40, 80), 2_000, 128
GAUSSIAN = (2 / torch.pi) ** 0.5
NAMES: tuple[Literal["adamw", "lion"], ...] = ("adamw", "lion")
PARTS = {"all": "all parameters", "blocks": "block matrices"}


def main() -> None:
    """Run what is not yet run, fit, write figures and the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path(".bench/gradient-norms"))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    texts = small.read_texts(asked.corpus, TRAIN + PROBE)
    runs = [
        small.kept(asked.work, f"{name}-{width}-{seed}", run, texts, name, width, seed)
        for seed in SEEDS
        for width in WIDTHS
        for name in NAMES
    ]
    report = {
        "benchmark": "gradient_norms",
        "machine": machine.measured_on(),
        "versions": {k: v for k, v in folder.versions().items() if k in ("torch", "transformers")},
        "steps": STEPS,
        "steps_left_out": LEFT_OUT,
        "batch": BATCH,
        "probe": PROBE,
        "gaussian": GAUSSIAN,
        "fits": fits(runs),
        "by_width": by_width(runs),
        "runs": runs,
    }
    path = small.ROOT / "benchmarks/results/gradient_norms.json"
    path.write_text(folder.dump_json(report), "utf-8")
    draw(report, small.ROOT / "docs/experiments/gradient-norms.png")
    for fit in report["fits"]:
        print(fit)


def run(texts: small.Texts, name: Literal["adamw", "lion"], width: int, seed: int) -> Any:
    """Train one model; return the means of the norms after the first steps."""
    model = small.make_model(width, seed)
    settings = optimizers.settings_for(name, width, False, None, None)
    everything = small.groups(model, settings.weight_decay)
    blocks = small.block_matrices(model)
    optimizer = small.make_optimizer(name, everything, settings.lr)
    factor = schedules.Schedule("uba", STEPS, WARMUP)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    train, probe = texts.part(0, TRAIN), texts.part(TRAIN, TRAIN + PROBE)
    rng = seeding.generator(seed, "gradient-norms")
    seen: dict[str, list[theory.GradientFigures]] = {}
    losses = []
    for step in range(1, STEPS + 1):
        optimizer.zero_grad()
        loss = small.loss_of(model, train, rng.integers(TRAIN, size=BATCH).tolist())
        loss.backward()  # type: ignore[no-untyped-call]
        if step > LEFT_OUT:
            note(seen, "step", everything, blocks)
        losses.append(loss.item())
        optimizer.step()
        schedule.step()
        if step in PROBE_AT:
            small.full_gradient(model, probe)
            note(seen, "probe", everything, blocks)
    found: dict[str, Any] = {
        "optimizer": name,
        "width": width,
        "seed": seed,
        "lr": settings.lr,
        "loss_first": statistics.fmean(losses[:5]),
        "loss_last": statistics.fmean(losses[-10:]),
        "d": {"all": size(everything), "blocks": size(blocks)},
    }
    for key, figures in seen.items():
        found[key] = {
            "l1_over_l2": statistics.fmean(f.grad_l1 / f.grad_l2 for f in figures),
            "ratio": statistics.fmean(f.grad_ratio for f in figures),
        }
    return found


def note(
    seen: dict[str, list[theory.GradientFigures]],
    kind: str,
    everything: small.Groups,
    blocks: small.Groups,
) -> None:
    """Add the figures of the gradient that the parameters hold."""
    for part, groups in (("all", everything), ("blocks", blocks)):
        seen.setdefault(f"{kind}_{part}", []).append(theory.gradient_figures(groups, box=False))


def size(groups: small.Groups) -> int:
    """Count parameters."""
    return sum(p.numel() for group in groups for p in group["params"])


def fits(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Fit log ‖g‖₁/‖g‖₂ against log √d, over the widths' means, so that n is the widths."""
    found = []
    for name in NAMES:
        for gradient in ("step", "probe"):
            for part in PARTS:
                rows = [row for row in by_width(runs) if row["optimizer"] == name]
                roots = [row["d"][part] ** 0.5 for row in rows]
                ratios = [row[f"{gradient}_{part}"]["l1_over_l2"] for row in rows]
                fit = small.slope(roots, ratios)
                found.append({"optimizer": name, "gradient": gradient, "part": part, **fit})
    return found


def by_width(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Average over seeds, with the spread of the ratio between them."""
    rows = []
    for name in NAMES:
        for width in sorted({run["width"] for run in runs}):
            cell = [r for r in runs if (r["optimizer"], r["width"]) == (name, width)]
            row: dict[str, Any] = {"optimizer": name, "width": width, "d": cell[0]["d"]}
            row |= {k: statistics.fmean(r[k] for r in cell) for k in ("loss_first", "loss_last")}
            for key in (f"{g}_{p}" for g in ("step", "probe") for p in PARTS):
                ratios = [r[key]["ratio"] for r in cell]
                row[key] = {
                    "l1_over_l2": statistics.fmean(r[key]["l1_over_l2"] for r in cell),
                    "ratio": statistics.fmean(ratios),
                    "ratio_sd": statistics.stdev(ratios),
                }
            rows.append(row)
    return rows


def draw(report: dict[str, Any], path: Path) -> None:
    """Draw ‖g‖₁/‖g‖₂ against √d, and its share of √d by width."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    colors, marks = {"adamw": "tab:blue", "lion": "tab:orange"}, {"all": "o", "blocks": "s"}
    for name in NAMES:
        rows = [row for row in report["by_width"] if row["optimizer"] == name]
        for part, title in PARTS.items():
            roots = [row["d"][part] ** 0.5 for row in rows]
            fit = next(
                f
                for f in report["fits"]
                if (f["optimizer"], f["gradient"], f["part"]) == (name, "step", part)
            )
            slope = f"{fit['slope']:.2f} ({fit['low']:.2f} to {fit['high']:.2f})"
            style = {"color": colors[name], "marker": marks[part], "ls": "-"}
            values = [row[f"step_{part}"] for row in rows]
            ratios = [value["l1_over_l2"] for value in values]
            left.loglog(roots, ratios, label=f"{name}, {title}: slope {slope}", **style)
            widths = [row["width"] for row in rows]
            spread = [value["ratio_sd"] for value in values]
            share = [value["ratio"] for value in values]
            right.errorbar(widths, share, spread, label=f"{name}, {title}, step", **style)
            style["ls"] = ":"
            share = [row[f"probe_{part}"]["ratio"] for row in rows]
            right.plot(widths, share, label=f"{name}, {title}, 128 samples", **style)
    ends = torch.tensor(left.get_xlim())
    left.loglog(ends, GAUSSIAN * ends, "k--", lw=1, label="Gaussian: 0.798 √d")
    left.set(xlabel="√d", ylabel="‖g‖₁ / ‖g‖₂", title="Slope 1 is the papers' Θ(√d)")
    ticks = (200, 500, 1_000, 2_000, 3_000)
    left.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    left.minorticks_off()
    left.legend(fontsize=7)
    right.axhline(GAUSSIAN, color="k", ls="--", lw=1)
    right.set_xscale("log")
    right.set_xticks(WIDTHS, list(map(str, WIDTHS)))
    right.minorticks_off()
    right.set(xlabel="hidden size", ylabel="‖g‖₁ / (√d ‖g‖₂)", ylim=(0, 1.1))
    right.set_title("Share of √d; the dashed line is a Gaussian's 0.798")
    right.legend(fontsize=6, ncols=2, loc="upper center")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
