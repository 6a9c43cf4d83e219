"""`advise`: scores at some sizes in, predictions and advice out, a folder too if named."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from sft_diversity.core import folder, stopping
from sft_diversity.core.hashing import file_key
from sft_diversity.core.spreadsheet import quoted
from sft_diversity.core.stage import Ask, Job, Result, Stage
from sft_diversity.fitting.advice import advise_table
from sft_diversity.fitting.advice_plot import draw_advice
from sft_diversity.fitting.advice_words import advice_sentences
from sft_diversity.fitting.config import AdviseConfig
from sft_diversity.fitting.reading import naming, read_csv, table_at, there
from sft_diversity.fitting.worth import rests_on

VERSION = 2
STAGE = "advise"
_RESULT = "advice.json"


@stopping.at_once(STAGE)
def advise(scores: Path, config: AdviseConfig) -> dict[str, Any]:
    """Advise on a CSV of scores, or on the `results.csv` of a study's folder.

    Returns
    -------
    dict
        See `advise_table`.

    Raises
    ------
    UsageError
        If the file is not there, or a size asked for is below those measured.
    DataError
        If the table cannot be read as one of scores at two or more sizes.
    """
    table = table_at(scores)
    with naming(table, STAGE):
        result = advise_table(read_csv(table), config)
    result["rests_on"] = rests_on(result["score_kind"])
    return result | {"verdict": [*advice_sentences(result), result["rests_on"]["sentence"]]}


def needs(config: AdviseConfig, ask: Ask) -> None:
    """Read the table, and refuse a faulty one: of that no draft is begun."""
    table = table_at(Path(ask.subject))
    with naming(table, STAGE):
        ask.key("results", file_key(there(table)))
        read_csv(table)


def join(job: Job[AdviseConfig]) -> Result:
    """Write `advice.json` (all of the result), `predictions.csv`, `verdict.txt`, `advice.png`."""
    result = advise(Path(job.subject), job.config)
    job.draft.write_json(_RESULT, result)
    with (
        job.writing("predictions.csv") as path,
        path.open("w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(result["predictions"][0])
        writer.writerows([quoted(one) for one in row.values()] for row in result["predictions"])
    with job.writing("verdict.txt") as path:
        path.write_text("\n".join([*result["verdict"], *result["notes"]]) + "\n", "utf-8")
    with job.writing("advice.png") as path:
        draw_advice(result, path)
    rows = result["rows"]
    dropped = {name: rows[name] for name in rows if name not in ("in", "used")}
    return Result(
        rows=folder.rows_account(rows["in"], rows["used"], dropped),
        figures={"verdict": result["verdict"], "predictions": len(result["predictions"])},
    )


def advice_at(place: Path) -> dict[str, Any]:
    """Return the result of a finished stage, as `advise` returned it."""
    result: dict[str, Any] = folder.read_json(place / _RESULT)
    return result


def _cost(config: AdviseConfig, ask: Ask) -> dict[str, Any]:
    table = table_at(Path(ask.subject))
    with naming(table, STAGE):
        rows = read_csv(table).height
    return {"rows": rows, "seconds": round(2 + rows * 5e-3, 1), "bytes": 100_000 + 500 * rows}


ADVISE = Stage(
    STAGE, VERSION, AdviseConfig, needs=needs, join=join, cost=_cost,
)  # fmt: skip
