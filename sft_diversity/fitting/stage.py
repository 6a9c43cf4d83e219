"""`fit`: a table of scores in, slopes and comparisons and a verdict out, a folder too if named."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from sft_diversity.core import folder, stopping
from sft_diversity.core.hashing import file_key
from sft_diversity.core.spreadsheet import quoted
from sft_diversity.core.stage import Ask, Job, Result, Stage
from sft_diversity.fitting.config import FitConfig
from sft_diversity.fitting.correlations import metrics_of
from sft_diversity.fitting.reading import draws_of, naming, read_csv, table_at, there
from sft_diversity.fitting.table import fit_table

VERSION = 9
STAGE = "fit"
_RESULT = "fit.json"
_SLOPES = (
    "regime", "strategy", "size", "n", "slope", "ci_low", "ci_high", "ci_kind", "p", "p_adjusted",
    "pearson_r", "spearman_r", "best_level",
)  # fmt: skip


@stopping.at_once(STAGE)
def fit(results: Path, config: FitConfig) -> dict[str, Any]:
    """Fit a CSV of scores, or the `results.csv` and `metrics.csv` of a study's folder.

    Parameters
    ----------
    results : Path
        CSV with the columns `strategy, size, diversity, seed` and the score, maybe `regime` and
        `train_seed`; or a folder that holds `results.csv`.

    Returns
    -------
    dict
        See `fit_table`.

    Raises
    ------
    UsageError
        If a file is not there.
    DataError
        If a table cannot be read as one of scores or metrics.
    """
    table, metrics = _files(results, config)
    measured = None if metrics is None else read_csv(metrics)
    if measured is not None:
        with naming(metrics):
            metrics_of(measured)
    with naming(table):
        return fit_table(read_csv(table), config, measured)


def fitted(place: Path) -> dict[str, Any]:
    """Return the result of a finished fit, as `fit` returned it."""
    found: dict[str, Any] = folder.read_json(place / _RESULT)
    return found


def needs(config: FitConfig, ask: Ask) -> None:
    """Read one or two tables, and refuse faulty ones: of those no draft is begun."""
    table, metrics = _files(Path(ask.subject), config)
    ask.key("results", file_key(there(table)))
    with naming(table):
        draws_of(read_csv(table), config.score)
    if metrics is not None:
        ask.key("metrics", file_key(there(metrics)))
        with naming(metrics):
            metrics_of(read_csv(metrics))


def join(job: Job[FitConfig]) -> Result:
    """Write `fit.json` (all of the result), `slopes.csv` and `verdict.txt`."""
    found = fit(Path(job.subject), job.config)
    job.draft.write_json(_RESULT, found)
    with job.writing("slopes.csv") as path, path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_SLOPES)
        writer.writerows([quoted(row[name]) for name in _SLOPES] for row in found["slopes"])
    with job.writing("verdict.txt") as path:
        path.write_text("\n".join([*found["verdict"], *found["notes"]]) + "\n", "utf-8")
    rows = found["rows"]
    dropped = {"no score": rows["no_score"], "repeated": rows["repeated"]}
    return Result(
        rows=folder.rows_account(rows["in"], rows["used"], dropped),
        seeds={"seed": job.config.seed},
        figures={"verdict": found["verdict"], "slopes": len(found["slopes"])},
    )


def _files(results: Path, config: FitConfig) -> tuple[Path, Path | None]:
    """Return the two files; a folder stands for those it holds."""
    if not results.is_dir():
        return results, config.metrics
    beside = results / "metrics.csv"  # without a column where a study measured nothing
    measured = beside.is_file() and beside.stat().st_size > 1
    return table_at(results), config.metrics or (beside if measured else None)


def _cost(config: FitConfig, ask: Ask) -> dict[str, Any]:
    rows = read_csv(_files(Path(ask.subject), config)[0]).height
    seconds = round(1 + rows * config.draws * 4e-7, 1)
    return {"rows": rows, "seconds": seconds, "bytes": 2_000 * rows}


FIT = Stage(
    STAGE, VERSION, FitConfig, needs=needs, join=join, cost=_cost,
    options=lambda config: config.model_dump(mode="json", exclude={"metrics"}),
)  # fmt: skip
