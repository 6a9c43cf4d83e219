"""The tables and the plot of a finished study, for docs/experiments.

python benchmarks/study_page.py STUDY --out docs/experiments/miniature
python benchmarks/study_page.py STUDY --out DIR --score transfer_first64 --lower

STUDY may be that folder itself: then its committed records are fitted anew.

Writes `results.csv`, `metrics.csv` and `runs.jsonl` as the study has them, `fit.json`, `levels.md`
(mean and spread of the score by regime, strategy and level, slopes beside the published ones,
what each level's runs read) and `scores.png`; of another score than the study's own the last three
with its name: `levels-transfer_first64.md`.
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
INKS = ("#1f6f8b", "#b3541e", "#4f7942", "#6a4c93", "#9a6b00", "#555555")


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in lines)


def strategies(draws: pl.DataFrame) -> list[str]:
    """Return the strategies of a grid, in order."""
    with_dial = draws.filter(pl.col("diversity").is_not_null())
    return with_dial["strategy"].unique(maintain_order=True).to_list()


def regimes(draws: pl.DataFrame) -> list[str]:
    """Return the regimes of a grid, with its sizes where it has several."""
    return sorted(draws["regime"].drop_nulls().unique().to_list(), key=lambda one: (len(one), one))


def with_sizes(results: pl.DataFrame, fit: dict[str, Any]) -> pl.DataFrame:
    """Return rows whose regime names its size as well, where there are several; fits' likewise."""
    if results["size"].drop_nulls().n_unique() < 2:
        return results
    for row in fit["slopes"]:
        row["regime"] = f"{row['regime']}, {row['size']}"
    return results.with_columns(
        pl.format("{}, {}", "regime", pl.col("size").cast(int)).alias("regime")
    )


def by_draw(results: pl.DataFrame) -> pl.DataFrame:
    """Return one row a draw: its training seeds averaged, and subsets that hardly differ."""
    if "draw" in results.columns:
        results = results.with_columns(pl.coalesce("draw", "seed").alias("seed"))
    keys = ["regime", "strategy", "diversity", "seed"]
    for by in ([*keys, "train_seed"], keys):
        results = results.group_by(by, maintain_order=True).agg(
            pl.col(pl.Float64, pl.Int64).exclude(by).mean()
        )
    return results


def score_table(draws: pl.DataFrame, figure: str = "score") -> str:
    """Return mean ± standard deviation over draws of each level and baseline."""
    digits = 4 if draws.select(pl.col(figure).abs().max()).item() < 10 else 2
    cells = draws.group_by("regime", "strategy", "diversity", maintain_order=True).agg(
        pl.col(figure).mean().alias("mean"),
        pl.col(figure).std().alias("sd"),
        pl.len().alias("n"),
    )
    shown = {
        (row["regime"], row["strategy"], row["diversity"]): f"{row['mean']:.{digits}f}"
        + (f" ± {row['sd']:.{digits}f}" if row["n"] > 1 else "")
        for row in cells.iter_rows(named=True)
    }
    levels = sorted(draws["diversity"].drop_nulls().unique().to_list())
    rows = [
        [regime, strategy, *(shown.get((regime, strategy, level), "") for level in levels)]
        for regime in regimes(draws)
        for strategy in strategies(draws)
        if (regime, strategy, levels[0]) in shown
    ]
    found = [
        f"{strategy}{f', {regime}' if regime else ''} {shown[regime, strategy, None]}"
        for regime in (None, *regimes(draws))
        for strategy in BASELINES
        if (regime, strategy, None) in shown
    ]
    head = ["regime", "strategy", *(f"{level:g} %" for level in levels)]
    return table(head, rows) + "\n\nBaselines: " + "; ".join(found) + "."


def slope_table(fit: dict[str, Any]) -> str:
    """Return each slope with its interval beside the published one; * stands after correction."""
    rows = []
    for row in sorted(fit["slopes"], key=lambda row: (row["regime"][0] != "B", row["strategy"])):
        best = row["best_level"]
        share = (row["best_level_share"] or {}).get(f"{best or 0:g}")
        rows.append(
            [
                str(row["regime"]),
                row["strategy"],
                f"{100 * row['slope']:+.4f}{_star(row)}",
                "-"
                if row["ci_low"] is None
                else f"{100 * row['ci_low']:+.4f} to {100 * row['ci_high']:+.4f}",
                "-" if row["p_adjusted"] is None else f"{row['p_adjusted']:.3f}",
                "-" if row["pearson_r"] is None else f"{row['pearson_r']:+.2f}",
                "-"
                if best is None
                else f"{best:g} %"
                + (f" ({share:.0%})" if share else "")
                + _star(row["best_margin"]),
                f"{row['ends']['difference']:+.4f}{_star(row['ends'])}" if row["ends"] else "-",
                f"{row['published']['10000']:+.2f}" if row["published"] else "-",
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
        draws.filter(pl.col("diversity").is_not_null())
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


def draw(draws: pl.DataFrame, fit: dict[str, Any], figure: str, said: str, out: Path) -> None:
    """Draw score against diversity: draws, level means, the Bayesian band, random's mean."""
    plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    lines, columns = regimes(draws), strategies(draws)
    size = (max(3 * len(columns), 4.5), max(2.6 * len(lines), 3.2))
    plot, panels = plt.subplots(
        len(lines), len(columns), figsize=size, sharex=True, sharey=True, squeeze=False
    )
    fits = {(row["regime"], row["strategy"]): row for row in fit["slopes"]}
    for line, regime in zip(panels, lines, strict=True):
        for panel, strategy, ink in zip(line, columns, INKS, strict=False):
            here = draws.filter((pl.col("regime") == regime) & (pl.col("strategy") == strategy))
            fitted = fits.get((regime, strategy))
            if fitted and fitted["bayes"]:
                x, middle, low, high = zip(*fitted["bayes"]["band"], strict=True)
                panel.fill_between(x, low, high, color=ink, alpha=0.18, linewidth=0)
                panel.plot(x, middle, color=ink, linewidth=1)
            panel.plot(here["diversity"], here[figure], "o", color=ink, markersize=3, alpha=0.6)
            means = here.group_by("diversity").agg(pl.col(figure).mean()).sort("diversity")
            panel.plot(means["diversity"], means[figure], "_", color=ink, markersize=14)
            for name, style in (("random", "--"), ("random-common", ":")):
                wanted = (pl.col("strategy") == name) & pl.col("regime").is_in([regime])
                value = draws.filter(wanted)[figure].mean()
                if isinstance(value, float):
                    panel.axhline(value, color="#777777", linewidth=0.9, linestyle=style)
            panel.set_title(f"{strategy}, regime {regime}", fontsize=9, loc="left")
            panel.set_xticks(means["diversity"].to_list())
    plot.supxlabel("diversity, % of the strategy's own range", fontsize=9)
    plot.supylabel(said, fontsize=9)
    plot.tight_layout()
    plot.savefig(out, dpi=110)


def records(study: Path) -> str:
    """Return the records of a study's runs, a line each."""
    files = sorted((study / "runs").glob("*.json"))
    return "".join(
        json.dumps(json.loads(f.read_text("utf-8")), sort_keys=True) + "\n" for f in files
    )


def main() -> None:
    """Write the files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--score", default="score", help="column to fit (%(default)s)")
    parser.add_argument("--lower", action="store_true", help="a lower score is better")
    parser.add_argument(
        "--said", default="score: minus nats a token, higher is better", help="below the plot"
    )
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    if given.study != given.out:
        for name in ("results.csv", "metrics.csv"):
            if (given.study / name).exists() and (given.study / name).read_text("utf-8").strip():
                shutil.copyfile(given.study / name, given.out / name)
        (given.out / "runs.jsonl").write_text(records(given.study), "utf-8")
    results = pl.read_csv(given.out / "results.csv", infer_schema_length=None)
    if given.lower:
        results = results.with_columns(-pl.col(given.score))
    fit = fitting.fit(given.out, FitConfig(score=given.score, lower_is_better=given.lower))
    name = "" if given.score == "score" else f"-{given.score}"
    fitted = json.dumps(fit, indent=1, sort_keys=True) + "\n"
    (given.out / f"fit{name}.json").write_text(fitted, "utf-8")
    draws = by_draw(with_sizes(results, fit))
    parts = ["## Verdict", "\n".join(f"- {said}" for said in fit["verdict"])]
    parts += ["## Score", score_table(draws, given.score), "## Slopes", slope_table(fit)]
    if "response_tokens" in draws.columns:
        parts += ["## What was read", read_table(draws)]
    (given.out / f"levels{name}.md").write_text("\n\n".join(parts) + "\n", "utf-8")
    draw(draws, fit, given.score, given.said, given.out / f"scores{name}.png")


if __name__ == "__main__":
    main()
