"""How often `fit` claims something of tables in which nothing differs, and how often of others.

    python benchmarks/verdict_rates.py

Tables of a study's form: strategies with levels and draws, five random subsets, three of the common
pool, the longest, the base model, metrics that follow the dial and others that do not. Without an
effect every score is one normal variable and the base model's is its mean. Each goes through the
real `fit_table`; a kind of claim is counted once a table, as the sentences of the verdict make it
(those that the verdict does not word: as `claims` lists it; both must agree). A count is held
against 5 % by a one-sided binomial test at 1 %, corrected over the lay-outs. In tables with an
effect the score of the first strategy rises by six standard deviations over the dial.

What makes no claim (Bayesian line, mixed model, Spearman's rho, Dunnett's interval) is left out,
and resamples are 200: most of the time.
Writes benchmarks/results/verdict_rates.json.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import polars as pl
from scipy import stats

from sft_diversity.core import folder, machine, seeding
from sft_diversity.core.cells import BASELINES
from sft_diversity.fitting import baselines, slopes
from sft_diversity.fitting.config import FitConfig
from sft_diversity.fitting.table import fit_table

RESULTS = Path(__file__).parent / "results" / "verdict_rates.json"
RATE, SIGNIFICANCE = 0.05, 0.01
RISE = 6.0  # standard deviations of a draw, over the dial
CONFIG = FitConfig(draws=200)
NAMES = (
    "micro-response", "macro-response", "meso-response", "micro-instruction", "meso-instruction",
    "macro-instruction",
)  # fmt: skip
UNCLAIMED: dict[str, Any] = {
    "bayes": lambda x, y: None,
    "mixed_line": lambda levels, confidence: None,
    "spearman": lambda x, y: (None, None),
}
KEYS = ["regime", "strategy", "size", "diversity", "seed"]


@contextlib.contextmanager
def claims_alone() -> Iterator[None]:
    """Leave out of fits what makes no claim."""
    with (
        patch.multiple(slopes, **UNCLAIMED),
        patch.object(baselines, "critical", lambda *_: 0.0),
    ):
        yield


class Layout(NamedTuple):
    """The form of a table."""

    levels: int
    draws: int
    strategies: int


LAYOUTS = [Layout(*one) for one in itertools.product((2, 3, 4, 7), (2, 3, 5), (1, 6))]
_SAYS = {
    "slope": r"the score (\(.*?\) rises|falls) by",
    "ends differ": r"is (above|below) its own",
    "no line": r"departs from a line",
    "best level clear": r"the best level is clear",
    "metric, within": r"within a strategy: [1-9][\d,]* of",
    "metric, pooled": r"fixed effect: [1-9][\d,]* of",
}
_AGAINST = re.compile(
    r"(?:.*?: )?(?P<sides>.* (?:is|are) .*?)"
    r"(?P<how>, at the highest level|, at the best level \(corrected for choosing it\))?\."
)
_SIDE = re.compile(r".* (?:is|are) (?:above|below) (?P<rival>[a-z-]+)")


def said(result: Mapping[str, Any]) -> set[str]:
    """Return the kinds of claim that the sentences of a verdict make."""
    text = "\n".join(result["verdict"])
    found = {kind for kind, words in _SAYS.items() if re.search(words, text)}
    for sentence in result["verdict"]:
        match = _AGAINST.fullmatch(sentence)
        if match and sentence not in result["headlines"]:
            how = (match["how"] or "only").split()[-1]
            chosen = {"level": "highest", "it)": "best"}.get(how, how)
            sides = (_SIDE.fullmatch(side) for side in match["sides"].split("; "))
            found |= {f"against {side['rival']}, {chosen}" for side in sides if side}
        elif match and re.search(r"\) (is|are) (above|below) random", sentence):
            tied = all(  # where the levels of a dial are equal none is best: the highest is named
                row["chosen"] != "best"
                for row in result["baselines"]
                if f"{row['strategy']} at" in sentence and row["baseline"] == "random"
            )
            found.add(f"against random, {'highest' if tied else 'best'}")
    return found


def claimed(result: Mapping[str, Any]) -> set[str]:
    """Return the kinds of claim in a result; refuse one whose sentences say other than its list."""
    listed = {one["kind"] for one in result["claims"]}
    worded = {kind for kind in listed if "against " not in kind or _worded(kind)}
    if (words := said(result)) != worded:
        raise AssertionError(f"sentences claim {words}, the list {worded}: {result['verdict']}")
    return listed


def _worded(kind: str) -> bool:
    return kind.startswith("against random,") or kind.endswith(" highest")


def tables(layout: Layout, rise: float, seed: int) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    """Yield tables of scores and of metrics; the first strategy rises by `rise` over the dial."""
    rng = seeding.generator(seed, "verdict-rates", *layout)
    dial = np.linspace(0, 100, layout.levels).round()
    cells = [
        {"strategy": name, "diversity": at, "seed": draw}
        for name, at, draw in itertools.product(
            NAMES[: layout.strategies], dial.tolist(), range(layout.draws)
        )
    ]
    counts = zip(BASELINES, (5, 3, 1, 1), strict=True)
    rivals = [
        {"strategy": name, "diversity": None, "seed": draw}
        for name, count in counts
        for draw in range(count)
    ]
    keys = pl.DataFrame([*cells, *rivals], infer_schema_length=None).with_columns(
        pl.lit("B").alias("regime"), pl.lit(10_000).alias("size")
    )
    at = keys["diversity"].fill_null(0).to_numpy() / 100
    lifted = (keys["strategy"] == NAMES[0]).to_numpy() * rise * at
    known = (keys["strategy"] == "base").to_numpy()
    subsets = keys.head(len(cells))
    while True:
        scores = np.where(known, 0.0, rng.normal(size=len(keys))) + lifted
        metrics = {
            f"metric_{i}": pull * at[: len(cells)] + rng.normal(size=len(cells))
            for i, pull in enumerate((0.0, 0.0, 5.0, 5.0))
        }
        yield keys.with_columns(score=scores), subsets.with_columns(**metrics)


def counts(layout: Layout, times: int, rise: float = 0.0, seed: int = 0) -> Counter[str]:
    """Return in how many of so many tables each kind of claim was made."""
    found: Counter[str] = Counter()
    for frame, metrics in itertools.islice(tables(layout, rise, seed), times):
        found.update(claimed(fit_table(frame, CONFIG, metrics)))
    return found


def excess(count: int, times: int) -> float:
    """Return the one-sided binomial p of a count where 5 % are stated."""
    return float(stats.binomtest(count, times, RATE, alternative="greater").pvalue)


def summary(
    by_layout: Mapping[Layout, Counter[str]], times: int
) -> tuple[dict[str, Any], list[str]]:
    """Return, by kind, the shares of all lay-outs and the highest; and what is above its rate."""
    kinds = sorted({kind for found in by_layout.values() for kind in found})
    rows, above = {}, []
    for kind in kinds:
        here = {layout: found[kind] for layout, found in by_layout.items()}
        top = max(here, key=lambda layout: here[layout])
        p = excess(here[top], times)
        rows[kind] = {
            "share": round(sum(here.values()) / times / len(here), 4),
            "highest": round(here[top] / times, 4),
            "highest_at": list(top),
            "p": float(f"{p:.3g}"),
        }
        if p * len(by_layout) < SIGNIFICANCE:
            above.append(f"{kind} at {top}: {here[top]} of {times}")
    return rows, above


def main() -> None:
    """Simulate, test, write; exit 1 if a kind of claim is above its rate."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tables", type=int, default=1_000)
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args()
    none: dict[Layout, Counter[str]] = {}
    some: dict[Layout, Counter[str]] = {}

    start = time.process_time()
    with claims_alone():
        for layout in LAYOUTS:
            none[layout] = counts(layout, asked.tables)
            some[layout] = counts(layout, asked.tables // 10, RISE, seed=1)
            print(tuple(layout), f"{time.process_time() - start:.0f} s", flush=True)
    kinds, above = summary(none, asked.tables)
    power, _ = summary(some, asked.tables // 10)
    report = {
        "benchmark": "verdict_rates",
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine.measured_on(),
        "cpu_s": round(time.process_time() - start),
        "tables": asked.tables,
        "stated_rate": RATE,
        "significance": SIGNIFICANCE,
        "layouts": len(LAYOUTS),
        "without_effect": kinds,
        "above_rate": above,
        "with_effect": {kind: {"share": row["share"]} for kind, row in power.items()},
        "rise_in_sd": RISE,
        "counts": [
            {**layout._asdict(), "without": dict(sorted(none[layout].items())),
             "with": dict(sorted(some[layout].items()))}
            for layout in LAYOUTS
        ],
    }  # fmt: skip
    asked.out.write_text(folder.dump_json(report), "utf-8")
    for kind, row in kinds.items():
        print(f"{kind:32} {row['share']:.1%}, at most {row['highest']:.1%} at {row['highest_at']}, "
              f"with an effect {power.get(kind, {'share': 0.0})['share']:.0%}")  # fmt: skip
    print("above the stated rate:", "; ".join(above) or "none")
    raise SystemExit(bool(above))


if __name__ == "__main__":
    main()
