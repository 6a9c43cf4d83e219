"""What the models of a study answered and what each run took, as far as that lies in its folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sft_diversity.core.cells import BASE, Cell, Run
from sft_diversity.core.seeding import rows_drawn
from sft_diversity.reporting import reading
from sft_diversity.reporting.config import ReportConfig
from sft_diversity.reporting.reading import Row

STAGES = ("finetune", "score", "generate")


def run_of(row: Row) -> Run:
    """Return the run of a row of results."""
    named = None if row["strategy"] == BASE else Cell.of(row)
    return Run(named, row.get("train_seed") or 0)


def run_times(place: Path, rows: Sequence[Row]) -> dict[str, Any]:
    """Return the seconds that runs took by stage, each and in all; of those whose logs are here."""
    told = []
    for row in rows:
        name = run_of(row).name
        took = reading.json_of(place / "logs" / f"{name}.seconds.json")
        if took:
            stages = {stage: took.get(stage) for stage in STAGES}
            told.append({"run": name, **stages, "all": sum(took.values())})
    names = (*STAGES, "all")
    return {"runs": told, "total": {n: sum(one[n] or 0.0 for one in told) for n in names}}


def answers_to_read(
    place: Path, rows: Sequence[Row], labels: Sequence[str], config: ReportConfig
) -> list[dict[str, Any]]:
    """Return prompts drawn by seed, each with what the models of some rows answered to it.

    Returns
    -------
    list of dict
        One a set of prompts: `set`, and `prompts`, each `prompt` and `answers` (`of`, `answer`,
        `characters`, `status`, and `verdict` in words, as it was checked).
    """
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for row, label in zip(rows, labels, strict=True):
        for path in sorted((place / "generated" / run_of(row).name / "answers").glob("*.jsonl")):
            asked = found.setdefault(path.stem, {})
            for line in reading.lines_of(path):
                one = asked.setdefault(line["record"], {"prompt": line["prompt"], "answers": []})
                one["answers"].append(_answer(line, label, config))
    told = []
    for name, asked in found.items():
        prompts = list(asked.values())
        drawn = rows_drawn(len(prompts), config.samples, config.seed, "report", "answers", name)
        told.append({"set": name, "prompts": [_shortened(prompts[i], config) for i in drawn]})
    return [one for one in told if one["prompts"]]


def _shortened(one: dict[str, Any], config: ReportConfig) -> dict[str, Any]:
    cut = one["prompt"][: config.characters]
    return one | {"prompt": cut, "characters": len(one["prompt"])}


def _answer(line: Row, label: str, config: ReportConfig) -> dict[str, Any]:
    verdict = None
    if "rules" in line:
        verdict = f"{sum(line['strict'])} of {len(line['rules'])} instructions kept"
    elif "exact" in line:
        verdict = "right" if line["exact"] else "wrong"
    return {
        "of": label,
        "answer": line["answer"][: config.characters],
        "characters": len(line["answer"]),
        "status": line["status"],
        "verdict": verdict,
    }
