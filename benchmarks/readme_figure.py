"""The picture of README, from committed results: where chance stands on the dial, and the score.

    python benchmarks/readme_figure.py [--out docs/dial.png]

Left: `benchmarks/results/select_laws_reference.json`; right: the runs of the study in miniature
with response lengths held (`docs/experiments/miniature/results.csv`).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib
import polars as pl

matplotlib.use("Agg")
from matplotlib import pyplot as plt

ROOT = Path(__file__).resolve().parents[1]
LAWS = ROOT / "benchmarks/results/select_laws_reference.json"
RUNS = ROOT / "docs/experiments/miniature/results.csv"
INK = {
    "micro-response": "#1f6f8b", "micro-instruction": "#b3541e", "macro-response": "#4f7942",
    "meso-response": "#7a5195", "meso-instruction": "#c49000", "macro-instruction": "#8c564b",
}  # fmt: skip


def places(axes: Any) -> None:
    """Draw where N random samples stand on the dial of each strategy."""
    cells = pl.DataFrame(json.loads(LAWS.read_text())["cells"], infer_schema_length=None)
    cells = cells.unique(["strategy", "size"]).sort("size")
    for strategy, ink in INK.items():
        line = cells.filter(pl.col("strategy") == strategy)
        axes.plot(line["size"], line["random_percent"], "o-", ms=3, color=ink, label=strategy)
    axes.set(xscale="log", ylim=(0, 103), xlabel="N, samples picked of 117,000",
             ylabel="random samples' place on the dial, %",
             title="Where chance stands on the dial")  # fmt: skip
    axes.set_xticks([100, 1_000, 10_000], ["100", "1,000", "10,000"])
    axes.legend(frameon=False, fontsize=7, loc="lower right")


def pays(axes: Any) -> None:
    """Draw the score of each draw over the dial, lengths held, beside random and no training."""
    runs = pl.read_csv(RUNS)
    base = runs.filter(pl.col("strategy") == "base")["score"].item()
    held = runs.filter(pl.col("regime") == "B")
    keys = ["strategy", "diversity", "seed"]
    held = held.group_by(keys).agg(pl.col("score").mean())  # training seeds are no draws
    chance = held.filter(pl.col("strategy") == "random")["score"]
    mean, spread = float(chance.mean()), float(chance.std())  # type: ignore[arg-type]
    axes.axhspan(mean - spread, mean + spread, color="0.8", lw=0)
    axes.axhline(mean, color="0.45", ls="--", lw=1)
    axes.annotate(
        "random 10,000: five draws, mean ± sd", (50, mean), (57, mean - 0.075), fontsize=7,
        color="0.3", arrowprops={"arrowstyle": "-", "color": "0.6"},
    )  # fmt: skip
    axes.axhline(base, color="0.45", ls=":", lw=1)
    axes.text(99, base + 0.006, "no fine-tuning", fontsize=7, color="0.3", ha="right")
    for strategy in ("micro-response", "micro-instruction", "macro-response"):
        dots = held.filter(pl.col("strategy") == strategy)
        means = dots.group_by("diversity").agg(pl.col("score").mean()).sort("diversity")
        axes.plot(means["diversity"], means["score"], color=INK[strategy], lw=1.5, label=strategy)
        axes.plot(dots["diversity"], dots["score"], "o", ms=3, color=INK[strategy], alpha=0.7)
    axes.set(xlabel="diversity of the 10,000 samples trained on, %",
             ylabel="minus held-out loss, nats a token",
             title="Score over the dial, response lengths held")  # fmt: skip
    axes.legend(frameon=False, fontsize=7, loc="lower right")


def main() -> None:
    """Draw both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "docs/dial.png")
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    places(left)
    pays(right)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.title.set_fontsize(10)
        axes.xaxis.label.set_fontsize(8)
        axes.yaxis.label.set_fontsize(8)
        axes.tick_params(labelsize=8)
    figure.savefig(parser.parse_args().out, dpi=150, metadata={"Software": None})


if __name__ == "__main__":
    main()
