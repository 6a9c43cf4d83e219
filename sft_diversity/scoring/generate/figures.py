"""The figures of the suite `generate`, in percent of prompts or of instructions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from sft_diversity.core import parquet, schema, seeding
from sft_diversity.core.numbers import Floats, draw, interval

#: One answer a row: `rules` with `strict` and `loose`, or `exact`, as its set is checked; the share
#: `distinct` of its runs of four words, and `loop`, the words of its longest loop.
CHECKED = pa.schema(
    {
        "set": pa.string(),
        "record": pa.int32(),
        "prompt": pa.string(),
        "status": pa.string(),
        "tokens": pa.int32(),
        "words": pa.int32(),
        "distinct": pa.float64(),
        "loop": pa.int32(),
        "rules": pa.list_(pa.string()),
        "strict": pa.list_(pa.bool_()),
        "loose": pa.list_(pa.bool_()),
        "exact": pa.bool_(),
    }
)
OVER_LENGTH = "over-length"
_LOOPING = 0.5  # share of an answer's words in one loop from which it counts as looping


class _Answers:
    """Checked answers, those without an answer left out, and draws of their prompts."""

    def __init__(self, table: pa.Table, draws: int, seed: int) -> None:
        self.rows = [row for row in table.to_pylist() if row["status"] != OVER_LENGTH]
        rng = seeding.generator(seed, "score", "bootstrap")
        self.draws = draw([row["prompt"] for row in self.rows], draws, rng)

    def percent(self, above: Sequence[float], below: Sequence[float]) -> dict[str, Any]:
        """Return 100 Σ above / Σ below over the answers, with its interval over prompts.

        `below` is 0 where an answer takes no part.
        """
        part, whole = (np.asarray(one, dtype=np.float64) for one in (above, below))
        drawn: Floats = 100 * self.draws.ratios(part, whole)
        low, high = interval(drawn) if whole.any() else (None, None)
        value = float(100 * part.sum() / whole.sum()) if whole.any() else None
        return {"value": value, "low": low, "high": high, "of": int(whole.sum())}

    def where(self, name: str | None) -> list[bool]:
        """Return which answers are of a set, or of any."""
        return [name in (None, row["set"]) for row in self.rows]


def summarise(checked: pa.Table, draws: int, seed: int) -> dict[str, Any]:
    """Return all figures of the suite.

    Parameters
    ----------
    checked : table of CHECKED
    draws : int
        Bootstrap draws over prompts; intervals are 95 % percentiles.

    Returns
    -------
    dict
        `headline`: of all sets together `instruction_strict`, `instruction_loose`,
        `prompt_strict`, `prompt_loose`, `exact`, each `value, low, high` in percent and `of`, how
        many are counted (value None where no set is checked so), and `ended, looping, distinct,
        tokens, words`; `sets`: the same of each; `rules`: of each rule; `skipped`.
    """
    answers = _Answers(schema.check(checked, CHECKED, "score"), draws, seed)
    names = list(dict.fromkeys(checked["set"].to_pylist()))
    counts = parquet.counts(checked, "status")
    return {
        "headline": _figures(answers, None),
        "sets": {name: _figures(answers, name) for name in names},
        "rules": _rules(answers),
        "skipped": {OVER_LENGTH: counts[OVER_LENGTH]} if counts.get(OVER_LENGTH) else {},
    }


def _figures(answers: _Answers, name: str | None) -> dict[str, Any]:
    here = answers.where(name)
    rows = answers.rows
    ruled = [inside and row["rules"] is not None for inside, row in zip(here, rows, strict=True)]
    found: dict[str, Any] = {}
    for how in ("strict", "loose"):
        kept = [row[how] if one else [] for one, row in zip(ruled, rows, strict=True)]
        found[f"instruction_{how}"] = answers.percent(
            [sum(k) for k in kept], [len(k) for k in kept]
        )
        whole = [one and all(k) for one, k in zip(ruled, kept, strict=True)]
        found[f"prompt_{how}"] = answers.percent(whole, ruled)
    counted = [one and row["exact"] is not None for one, row in zip(here, rows, strict=True)]
    right = [one and bool(row["exact"]) for one, row in zip(counted, rows, strict=True)]
    found["exact"] = answers.percent(right, counted)
    ended = [one and row["status"] == "ended" for one, row in zip(here, rows, strict=True)]
    found["ended"] = answers.percent(ended, here)
    looping = [
        one and row["loop"] > 0 and row["loop"] >= _LOOPING * row["words"]
        for one, row in zip(here, rows, strict=True)
    ]
    found["looping"] = answers.percent(looping, here)
    own = [row for one, row in zip(here, rows, strict=True) if one]
    found["answers"] = len(own)
    for figure in ("distinct", "tokens", "words"):
        values = [row[figure] for row in own if row[figure] is not None]
        found[f"{figure}_mean"] = float(np.mean(values)) if values else None
    return found


def _rules(answers: _Answers) -> dict[str, dict[str, int]]:
    """Return for each rule how often it was asked for, and kept to, strictly and loosely."""
    found: dict[str, dict[str, int]] = {}
    for row in answers.rows:
        for rule, strict, loose in zip(
            *(row[n] or () for n in ("rules", "strict", "loose")), strict=True
        ):
            own = found.setdefault(rule, {"asked": 0, "strict": 0, "loose": 0})
            own["asked"] += 1
            own["strict"] += strict
            own["loose"] += loose
    return dict(sorted(found.items()))
