"""How often a kind of score picked the better of two subsets in public runs.

    python benchmarks/score_worth.py

Pairs are two selection methods at one size, of one pool, model and task. Which is better is what
the task's metric says, the mean over three seeds. Held against it: minus the loss on the
development and on the test references, means over the same seeds; and the metric of one seed of
each, against the mean over the other two. Ties on either side are left out. A pair is clear where a
t test with three seeds a side tells its scores apart at 5 %.
Writes sft_diversity/fitting/score_worth.json.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy import stats

from sft_diversity.core.hashing import file_key

Floats = npt.NDArray[np.float64]
ROOT = Path(__file__).parents[1]
RUNS = ROOT / "data" / "runs" / "targeted_selection.csv"
WORTH = ROOT / "sft_diversity" / "fitting" / "score_worth.json"
LOSSES = ("dev_loss", "test_loss")


def pairs(frame: pl.DataFrame) -> Iterator[dict[str, Any]]:
    """Yield, for each pair, its task, whether it is clear, and what each kind of score picked."""
    places = frame.filter(pl.col("method") != "base").group_by("pool", "model", "task", "samples")
    for names, rows in places:
        own = {
            str(name[0]): {column: one[column].to_numpy() for column in ("score", *LOSSES)}
            for name, one in rows.sort("seed").group_by("method")
        }
        for first, second in itertools.combinations(sorted(own), 2):
            a, b = own[first], own[second]
            difference = a["score"].mean() - b["score"].mean()
            spread = np.sqrt((a["score"].var(ddof=1) + b["score"].var(ddof=1)) / len(a["score"]))
            limit = stats.t.ppf(0.975, 2 * len(a["score"]) - 2)
            yield {
                "task": names[2],
                "clear": bool(abs(difference) > limit * spread),
                **{name: [(b[name].mean() - a[name].mean(), difference)] for name in LOSSES},
                "one_seed": list(by_one_seed(a["score"], b["score"])),
            }


def by_one_seed(a: Floats, b: Floats) -> Iterator[tuple[float, float]]:
    """Yield the difference of one seed, and that of the means of the others."""
    for seed in range(len(a)):
        rest = [np.delete(scores, seed).mean() for scores in (a, b)]
        yield float(a[seed] - b[seed]), float(rest[0] - rest[1])


def counted(votes: Iterable[tuple[float, float]]) -> dict[str, Any]:
    """Return how many pairs were no tie, and the share of them in which the pick was right."""
    right = [said * true > 0 for said, true in votes if said * true != 0]
    return {"pairs": len(right), "right": round(float(np.mean(right)), 3)}


def worth(frame: pl.DataFrame) -> dict[str, Any]:
    """Return, for each kind of score, how often it picked the better subset, by task too."""
    rows = list(pairs(frame))
    tasks = sorted({row["task"] for row in rows})
    found = {}
    for kind in (*LOSSES, "one_seed"):

        def of(chosen: Iterable[dict[str, Any]], kind: str = kind) -> dict[str, Any]:
            return counted(vote for row in chosen for vote in row[kind])

        found[kind] = of(rows)
        if kind in LOSSES:  # the seed itself has a part in whether a pair is clear
            found[kind]["clear"] = of(row for row in rows if row["clear"])
        found[kind]["tasks"] = {task: of(r for r in rows if r["task"] == task) for task in tasks}
    return found


def main() -> None:
    """Count, and write the table."""
    found = {"source": {"file": RUNS.name, "sha256": file_key(RUNS)}, **worth(pl.read_csv(RUNS))}
    WORTH.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
