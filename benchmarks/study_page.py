"""The tables and the plot of a finished study, for docs/experiments.

python benchmarks/study_page.py STUDY --out docs/experiments/miniature

STUDY may be that folder itself: then its committed records are fitted anew.

Writes `results.csv` and `metrics.csv` as the study has them, `fit.json`, `levels.md`
(mean and spread of the score by regime, strategy and level, slopes beside the published ones,
what each level's runs read) and `scores.png`.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import matplotlib
import polars as pl

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from sft_diversity.fitting import stage as fitting
from sft_diversity.fitting.config import FitConfig

BASELINES = ("base", "random", "random-common", "longest")
INK = {"micro-response": "#1f6f8b", "micro-instruction": "#b3541e", "macro-response": "#4f7942"}


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in lines)


def by_draw(results: pl.DataFrame) -> pl.DataFrame:
    """Return one row a subset: training seeds of one draw averaged."""
    keys = ["regime", "strategy", "diversity", "seed"]
    return results.group_by(keys, maintain_order=True).agg(pl.col(pl.Float64, pl.Int64).mean())


def score_table(draws: pl.DataFrame, figure: str = "score") -> str:
    """Return mean ± standard deviation over draws of each level and baseline."""
    cells = draws.group_by("regime", "strategy", "diversity", maintain_order=True).agg(
        pl.col(figure).mean().alias("mean"),
        pl.col(figure).std().alias("sd"),
        pl.len().alias("n"),
    )
    shown = {
        (row["regime"], row["strategy"], row["diversity"]): f"{row['mean']:.4f}"
        + (f" ± {row['sd']:.4f}" if row["n"] > 1 else "")
        for row in cells.iter_rows(named=True)
    }
    levels = sorted(draws["diversity"].drop_nulls().unique().to_list())
    rows = [
        [regime, strategy, *(shown.get((regime, strategy, level), "") for level in levels)]
        for regime in ("A", "B")
        for strategy in INK
        if (regime, strategy, levels[0]) in shown
    ]
    found = [
        f"{strategy}{f', {regime}' if regime else ''} {shown[regime, strategy, None]}"
        for regime in (None, "A", "B")
        for strategy in BASELINES
        if (regime, strategy, None) in shown
    ]
    head = ["regime", "strategy", *(f"{level:g} %" for level in levels)]
    return table(head, rows) + "\n\nBaselines: " + "; ".join(found) + "."


def slope_table(fit: dict[str, Any]) -> str:
    """Return each slope with its interval beside the published one; * stands after correction."""
    rows = []
    for row in sorted(fit["slopes"], key=lambda row: (row["regime"] != "B", row["strategy"])):
        best = row["best_level"]
        share = (row["best_level_share"] or {}).get(f"{best or 0:g}")
        rows.append(
            [
                str(row["regime"]),
                row["strategy"],
                f"{100 * row['slope']:+.4f}{_star(row)}",
                f"{100 * row['ci_low']:+.4f} to {100 * row['ci_high']:+.4f}",
                "-" if row["p_adjusted"] is None else f"{row['p_adjusted']:.3f}",
                f"{row['pearson_r']:+.2f}",
                "-"
                if best is None
                else f"{best:g} %"
                + (f" ({share:.0%})" if share else "")
                + _star(row["best_margin"]),
                f"{row['ends']['difference']:+.4f}{_star(row['ends'])}",
                f"{row['published']['10000']:+.2f}",
            ]
        )
    head = ["regime", "strategy", "slope", "95 %", "p, Holm", "r", "best level"]
    return table([*head, "ends", "published"], rows)


def _star(tested: dict[str, Any] | None) -> str:
    return " \\*" if tested and tested["claimed"] else ""


def read_table(draws: pl.DataFrame) -> str:
    """Return what the runs of each level read, means over draws."""
    columns = ["response_tokens", "response_tokens_mean", "instruction_tokens_mean", "kinds"]
    cells = (
        draws.filter(pl.col("strategy").is_in(list(INK)))
        .group_by("regime", "strategy", "diversity", maintain_order=True)
        .agg(pl.col(columns).mean())
        .sort("regime", "strategy", "diversity")
    )
    rows = [
        [row["regime"], row["strategy"], f"{row['diversity']:g} %"]
        + [f"{row[name]:,.0f}" if row[name] is not None else "-" for name in columns]
        for row in cells.iter_rows(named=True)
    ]
    head = ["regime", "strategy", "diversity", "response tokens trained on"]
    return table([*head, "response tokens a sample", "instruction tokens", "kinds"], rows)


def draw(draws: pl.DataFrame, fit: dict[str, Any], out: Path) -> None:
    """Draw score against diversity: draws, level means, the Bayesian band, random's range."""
    plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    figure, panels = plt.subplots(2, len(INK), figsize=(9, 5.2), sharex=True, sharey=True)
    fits = {(row["regime"], row["strategy"]): row for row in fit["slopes"]}
    for line, regime in zip(panels, ("A", "B"), strict=True):
        for panel, (strategy, ink) in zip(line, INK.items(), strict=True):
            here = draws.filter((pl.col("regime") == regime) & (pl.col("strategy") == strategy))
            fitted = fits.get((regime, strategy))
            if fitted and fitted["bayes"]:
                x, middle, low, high = zip(*fitted["bayes"]["band"], strict=True)
                panel.fill_between(x, low, high, color=ink, alpha=0.18, linewidth=0)
                panel.plot(x, middle, color=ink, linewidth=1)
            panel.plot(here["diversity"], here["score"], "o", color=ink, markersize=3, alpha=0.6)
            means = here.group_by("diversity").agg(pl.col("score").mean()).sort("diversity")
            panel.plot(means["diversity"], means["score"], "_", color=ink, markersize=14)
            for name, style in (("random", "--"), ("random-common", ":")):
                wanted = (pl.col("strategy") == name) & pl.col("regime").is_in([regime])
                value = draws.filter(wanted)["score"].mean()
                if isinstance(value, float):
                    panel.axhline(value, color="#777777", linewidth=0.9, linestyle=style)
            panel.set_title(f"{strategy}, regime {regime}", fontsize=9, loc="left")
            panel.set_xticks([0, 33, 67, 100])
    figure.supxlabel("diversity, % of the strategy's own range", fontsize=9)
    figure.supylabel("score: minus nats a token, higher is better", fontsize=9)
    figure.tight_layout()
    figure.savefig(out, dpi=110)


def main() -> None:
    """Write the files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    for name in ("results.csv", "metrics.csv") if given.study != given.out else ():
        if (given.study / name).exists() and (given.study / name).read_text("utf-8").strip():
            shutil.copyfile(given.study / name, given.out / name)
    results = pl.read_csv(given.out / "results.csv", infer_schema_length=None)
    fit = fitting.fit(given.out, FitConfig())
    (given.out / "fit.json").write_text(json.dumps(fit, indent=1, sort_keys=True) + "\n", "utf-8")
    draws = by_draw(results)
    parts = ["## Verdict", "\n".join(f"- {said}" for said in fit["verdict"])]
    parts += ["## Score", score_table(draws), "## Slopes", slope_table(fit)]
    if "response_tokens" in draws.columns:
        parts += ["## What was read", read_table(draws)]
    (given.out / "levels.md").write_text("\n\n".join(parts) + "\n", "utf-8")
    draw(draws, fit, given.out / "scores.png")


if __name__ == "__main__":
    main()
