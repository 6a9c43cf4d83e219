"""The pictures of docs/experiments/convergence-rate.md."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import numpy as np

COLORS = {"lion": "tab:orange", "adamw": "tab:blue", "sgd": "tab:green"}
OTHERS = {"adamw, η as LION's": ("tab:blue", ":"), "lion, nothing scaled": ("tab:orange", ":")}


def sweeps(report: dict[str, Any], path: Path) -> None:
    """Draw mean ‖∇f‖₁ against K, both problems, each with a line of slope −1/4."""
    plt = _pyplot()
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    for axis, title, found in (
        (axes[0], "Toy, exact gradient, 16 seeds", report["toy"]["sweeps"]),
        (axes[1], "Small Llama, gradient over all 256 samples", report["model"]["sweeps"]),
    ):
        for row in found:
            color, style = OTHERS.get(row["title"], (COLORS.get(row["title"]), "-"))
            steps = np.array(sorted({run["steps"] for run in row["rows"]}))
            fit = row["fit"]
            label = f"{row['title']}: {fit['slope']:.2f} ({fit['low']:.2f} to {fit['high']:.2f})"
            axis.loglog(steps, row["means"], color=color, ls=style, marker="o", ms=4, label=label)
            for run in row["rows"] if "seed" in row["rows"][0] else ():
                axis.loglog(run["steps"], run["l1"], ".", color=color, ms=4, alpha=0.5)
        highest = max(max(row["means"]) for row in found) * 1.15
        axis.loglog(steps, highest * (steps / steps[0]) ** -0.25, "k--", lw=1, label="slope −1/4")
        axis.set_xscale("log", base=2)
        axis.set(xlabel="steps K of the run", ylabel="‖∇f‖₁, mean over the run", title=title)
        axis.legend(fontsize=7)
    axes[1].set_yticks((80, 100, 150, 200), ("80", "100", "150", "200"))
    axes[1].minorticks_off()
    figure.savefig(path, dpi=110)


def losses(report: dict[str, Any], path: Path) -> None:
    """Draw the toy's last losses and the model's training curves, each at its best rate."""
    plt = _pyplot()
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
    names = [row["optimizer"] for row in report["toy"]["losses"]]
    values = [row["losses"] for row in report["toy"]["losses"]]
    boxes = axes[0].boxplot(values, tick_labels=names, patch_artist=True)
    for box, name in zip(boxes["boxes"], names, strict=True):
        box.set_facecolor(COLORS[name])
    for line in boxes["medians"]:
        line.set_color("black")
    axes[0].set(title="Toy: last loss, 16 seeds", ylabel="f after the last step")
    for row in report["model"]["losses"]:
        curve = np.mean(row["curves"], axis=0)
        steps = 16 * np.arange(1, len(curve) + 1)
        test = statistics.fmean(row["losses"])
        label = f"{row['optimizer']}, rate {row['rate']['best']:g}: test {test:.3f}"
        axes[1].plot(steps, curve, color=COLORS[row["optimizer"]], label=label)
    axes[1].set(title="Small Llama: training batches, mean of three seeds", xlabel="step")
    axes[1].set_ylabel("nats per labelled token")
    axes[1].legend(fontsize=8)
    figure.savefig(path, dpi=110)


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt
