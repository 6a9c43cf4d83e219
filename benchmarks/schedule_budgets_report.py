"""Tables, plots and results of `schedule_budgets.py`.

    python benchmarks/schedule_budgets_report.py --scratch DIR
    python benchmarks/schedule_budgets_report.py        # the tables of the committed results alone

A schedule's rate in a cell (optimizer × budget) is the one of lowest mean validation loss over the
first three seeds. Differences of test loss are paired by seed; intervals are Student's, 95 %, and
p-values are adjusted after Holm over all differences of the table.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import schedule_budgets as study
import schedule_budgets_plan as plan
from scipy import stats

from sft_diversity.core import folder

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "schedule_budgets.json"
PLOTS = HERE.parent / "docs" / "experiments"
OURS, OTHERS = ("UBA 0.5", "UBA 1", "UBA 5"), ("cosine", "linear", "WSD")
OPTIMIZERS = {"adamw": "AdamW", "lion": "LION"}

Done = dict[plan.Job, dict[str, Any]]
Cell = tuple[Any, str]


def losses(done: Done, cell: Cell, schedule: str, rate: float | None = None) -> dict[int, float]:
    """Return the test loss by seed at the chosen rate, or another."""
    rate = plan.chosen((*cell, schedule), done) if rate is None else rate
    return {
        job.seed: run["test"] for job, run in done.items() if job[:4] == (*cell, schedule, rate)
    }


def paired(a: dict[int, float], b: dict[int, float]) -> dict[str, Any]:
    """Return mean, 95 % interval and p of a − b over the seeds both have."""
    seeds = sorted(a.keys() & b.keys())
    gaps = np.array([a[seed] - b[seed] for seed in seeds])
    if len(gaps) < 2:
        return {"mean": float(gaps.mean()), "low": None, "high": None, "p": None, "seeds": seeds}
    low, high = stats.t.interval(0.95, len(gaps) - 1, gaps.mean(), stats.sem(gaps))
    p = stats.ttest_1samp(gaps, 0.0).pvalue
    return {
        "mean": float(gaps.mean()),
        "low": float(low),
        "high": float(high),
        "p": float(p),
        "seeds": seeds,
    }


def holm(values: list[float]) -> list[float]:
    """Return p-values adjusted for their number (Holm 1979)."""
    adjusted, largest = [0.0] * len(values), 0.0
    for rank, i in enumerate(np.argsort(values)):
        largest = max(largest, min(1.0, (len(values) - rank) * values[i]))
        adjusted[i] = largest
    return adjusted


def summary(done: Done) -> dict[str, Any]:
    """Return the choices of rate and all differences."""
    chosen, gaps = [], []
    cells = list(itertools.product(OPTIMIZERS, reversed(plan.TOKENS)))
    for cell in cells:
        for schedule in plan.SCHEDULES:
            found = losses(done, cell, schedule)
            rate = plan.chosen((*cell, schedule), done)
            rates = sorted({job.rate for job in done if job[:3] == (*cell, schedule)})
            chosen.append(
                {
                    "optimizer": cell[0],
                    "budget": cell[1],
                    "schedule": schedule,
                    "rates": rates,
                    "rate": rate,
                    "at_edge": rate in (rates[0], rates[-1]),
                    "test": {str(seed): round(found[seed], 5) for seed in sorted(found)},
                    "mean": round(float(np.mean(list(found.values()))), 5),
                    "sd": round(float(np.std(list(found.values()), ddof=len(found) > 1)), 5),
                }
            )
        pairs = itertools.chain(itertools.product(OURS, OTHERS), [("linear", "cosine")])
        for one, other in [*pairs, ("WSD", "cosine")]:
            gap = paired(losses(done, cell, one), losses(done, cell, other))
            gaps.append({"optimizer": cell[0], "budget": cell[1], "of": one, "from": other} | gap)
    tested = [gap for gap in gaps if gap["of"] in OURS and gap["p"] is not None]
    for gap, p in zip(tested, holm([gap["p"] for gap in tested]), strict=True):
        gap["p_holm"] = p
    return {"chosen": chosen, "differences": gaps}


def tables(report: dict[str, Any]) -> str:
    """Return both tables in Markdown."""
    lines = [
        "| | " + " | ".join(plan.SCHEDULES) + " |",
        "| --- |" + " --- |" * len(plan.SCHEDULES),
    ]
    for cell in itertools.product(OPTIMIZERS, reversed(plan.TOKENS)):
        row = [c for c in report["chosen"] if (c["optimizer"], c["budget"]) == cell]
        least = min(c["mean"] for c in row)
        texts = []
        for c in row:
            mean = f"{c['mean']:.3f}"
            mean = f"**{mean}**" if c["mean"] == least else mean
            texts.append(f"{mean} ± {c['sd']:.3f} ({c['rate']:g}{'*' if c['at_edge'] else ''})")
        lines.append(f"| {OPTIMIZERS[cell[0]]}, {cell[1]} | " + " | ".join(texts) + " |")
    lines += ["", "| | φ | " + " | ".join(f"− {other}" for other in OTHERS) + " |"]
    lines += ["| --- | --- |" + " --- |" * len(OTHERS)]
    for (optimizer, budget), one in itertools.product(
        itertools.product(OPTIMIZERS, reversed(plan.TOKENS)), OURS
    ):
        texts = []
        for other in OTHERS:
            gap = next(
                g
                for g in report["differences"]
                if (g["optimizer"], g["budget"], g["of"], g["from"])
                == (optimizer, budget, one, other)
            )
            texts.append(interval(gap))
        lines.append(
            f"| {OPTIMIZERS[optimizer]}, {budget} | {one.split()[1]} | " + " | ".join(texts) + " |"
        )
    return "\n".join(lines)


def interval(gap: dict[str, Any]) -> str:
    """Return a difference with its interval in thousandths, bold if zero is outside."""
    text = f"{1000 * gap['mean']:+.0f}"
    if gap["low"] is None:
        return text
    text += f" ({1000 * gap['low']:+.0f} to {1000 * gap['high']:+.0f})"
    if gap.get("p_holm", 1.0) < 0.05:
        text += " †"
    return f"**{text}**" if gap["low"] > 0 or gap["high"] < 0 else text


def surviving(report: dict[str, Any]) -> str:
    """Return how many differences survive Holm, and those that do."""
    tested = [gap for gap in report["differences"] if gap.get("p_holm") is not None]
    kept = [gap for gap in tested if gap["p_holm"] < 0.05]
    lines = [
        f"- {OPTIMIZERS[gap['optimizer']]}, {gap['budget']}: {gap['of']} less {gap['from']} "
        f"{1000 * gap['mean']:+.0f} ({1000 * gap['low']:+.0f} to {1000 * gap['high']:+.0f}), "
        f"p {gap['p_holm']:.3f}"
        for gap in kept
    ]
    return "\n".join([f"{len(kept)} of {len(tested)} differences survive Holm:", *lines])


def _grid(title: str) -> tuple[Any, list[tuple[Cell, Any]]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.5, 6), layout="constrained")
    axes = figure.subplots(2, 2).ravel()
    cells = itertools.product(OPTIMIZERS, reversed(plan.TOKENS))
    panels = list(zip(cells, axes, strict=True))
    for (optimizer, budget), axis in panels:
        axis.set_title(f"{OPTIMIZERS[optimizer]}, {budget} of the tokens", fontsize=10)
    figure.suptitle(title, fontsize=11)
    return figure, panels


def draw_differences(done: Done, path: Path) -> None:
    """Draw every schedule's test loss less cosine's, seeds as dots."""
    figure, panels = _grid("Test loss less cosine's, same seeds: below 0 is better than cosine")
    names = [name for name in plan.SCHEDULES if name != "cosine"]
    for cell, axis in panels:
        for at, name in enumerate(names):
            one, cosine = losses(done, cell, name), losses(done, cell, "cosine")
            gap = paired(one, cosine)
            axis.plot([at] * len(gap["seeds"]), [one[s] - cosine[s] for s in gap["seeds"]], ".",
                      color="0.6")  # fmt: skip
            if gap["low"] is not None:
                axis.errorbar(at + 0.15, gap["mean"],
                              [[gap["mean"] - gap["low"]], [gap["high"] - gap["mean"]]],
                              fmt="o", color="C0" if name in OURS else "C1", capsize=3)  # fmt: skip
        axis.axhline(0.0, color="0.3", linewidth=0.8)
        axis.set_xticks(range(len(names)), names)
        axis.set_ylabel("nats per response token")
    figure.savefig(path, dpi=110)


def draw_rates(done: Done, path: Path) -> None:
    """Draw the validation loss of the first seed over the peak learning rate."""
    figure, panels = _grid("Validation loss over the peak learning rate, first seed")
    for cell, axis in panels:
        for name in plan.SCHEDULES:
            tried = sorted({job.rate for job in done if job[:3] == (*cell, name)})
            found = [done[plan.Job(*cell, name, rate, plan.SEEDS[0])]["valid"] for rate in tried]
            style = "o-" if name in OURS or name == "cosine" else "s--"
            axis.plot(tried, found, style, label=name, markersize=4, linewidth=1.2)
        axis.set_xscale("log", base=2)
        ticks = sorted({job.rate for job in done if job[:2] == cell})
        axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axis.set_xlabel("peak learning rate")
        axis.set_ylabel("nats per response token")
    handles, labels = panels[0][1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=6, fontsize=9)
    figure.savefig(path, dpi=90)


def main() -> None:
    """Write results and plots, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scratch", type=Path)
    asked = parser.parse_args()
    if asked.scratch is None:
        report = json.loads(RESULTS.read_text("utf-8"))
        print(tables(report), surviving(report), sep="\n\n")
        return
    done = plan.read_runs(asked.scratch / "runs.jsonl")
    report = summary(done)
    settings = {
        "date": datetime.now(UTC).date().isoformat(),
        "sizes": study.SIZES,
        "tokens": plan.TOKENS,
        "vocabulary": study.VOCABULARY,
        "max_length": study.MAX_LENGTH,
        "batch": study.BATCH,
        "warmup": study.WARMUP,
        "clip": study.CLIP,
        "parameters": sum(p.numel() for p in study.fresh_model(0).parameters()),
        "versions": {k: v for k, v in folder.versions().items() if k in ("torch", "transformers")},
        "runs": len(done),
        "cpu_s": round(sum(run["cpu_s"] for run in done.values())),
    }
    rows = [
        {k: (round(v, 5) if k in ("valid", "test") and math.isfinite(v) else v)
         for k, v in run.items() if v != math.inf}
        for run in done.values()
    ]  # fmt: skip
    head = json.dumps({"settings": settings, **report}, indent=1)
    body = ",\n  ".join(json.dumps(row) for row in rows)  # one run a line
    RESULTS.write_text(head[:-2] + f',\n "runs": [\n  {body}\n ]\n}}\n', "utf-8")
    draw_differences(done, PLOTS / "schedules-differences.png")
    draw_rates(done, PLOTS / "schedules-rates.png")
    print(tables(report), surviving(report), sep="\n\n")
    print(json.dumps(settings))


if __name__ == "__main__":
    main()
