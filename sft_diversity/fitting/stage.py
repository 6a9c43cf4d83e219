"""Fit: a CSV of scores in, slopes, comparisons and a verdict out, and a folder if one is named."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sft_diversity.core import folder, progress
from sft_diversity.core.hashing import file_sha256
from sft_diversity.fitting.config import FitConfig
from sft_diversity.fitting.reading import read_csv, there
from sft_diversity.fitting.table import fit_table

__all__ = ["FitConfig", "fit", "fit_table", "plan"]

VERSION = 3
STAGE = "fit"
_SLOPES = (
    "regime", "strategy", "size", "n", "slope", "ci_low", "ci_high", "ci_kind", "p", "p_adjusted",
    "pearson_r", "spearman_r", "best_level",
)  # fmt: skip


def plan(
    results: Path, config: FitConfig, metrics: Path | None = None, out: Path | None = None
) -> dict[str, Any]:
    """Say what `fit` would do; touches nothing."""
    table, metrics = _inputs(results, metrics)
    rows = read_csv(table).height
    cached = False
    if out is not None and folder.stage_of(out) == STAGE:
        cached = folder.read_manifest(out).get("key") == _work(table, metrics, config).key
    return {
        "stage": STAGE,
        "rows": rows,
        "cached": cached,
        "seconds": 0.0 if cached else round(1 + rows * config.draws * 4e-7, 1),
        "bytes": 0 if out is None else 2_000 * rows,
        "out": str(out or "-"),
    }


def fit(
    results: Path,
    config: FitConfig,
    metrics: Path | None = None,
    out: Path | None = None,
    say: Callable[[str], None] = progress.say,
) -> dict[str, Any]:
    """Fit a CSV of scores, or the `results.csv` and `metrics.csv` of a study's folder.

    Parameters
    ----------
    results : Path
        CSV with the columns `strategy, size, diversity, seed` and the score, maybe `regime` and
        `train_seed`; or a folder that holds `results.csv`.
    metrics : Path, optional
        CSV with the columns `strategy, size, diversity, seed` and one a metric.
    out : Path, optional
        Folder to write: `fit.json` (all of the result), `slopes.csv`, `verdict.txt`, manifest.

    Returns
    -------
    dict
        See `fit_table`.

    Raises
    ------
    UsageError
        If a file is not there, or `out` is something else.
    DataError
        If a table cannot be read as one of scores or metrics.
    """
    table, metrics = _inputs(results, metrics)
    if out is None:
        return _fit(table, metrics, config)
    work = _work(table, metrics, config)
    done = folder.stage_of(out) == STAGE and folder.read_manifest(out).get("key") == work.key
    found = {} if done else _fit(table, metrics, config)  # a faulty table leaves no folder
    draft = folder.open_draft(out, work, keep_partial=False)
    say(f"fit: {draft.reason}")
    if draft.reused:
        reused: dict[str, Any] = json.loads((out / "fit.json").read_text("utf-8"))
        return reused
    draft.write_json("fit.json", found)
    _write_slopes(draft, found)
    with draft.writing("verdict.txt") as path:
        path.write_text("\n".join([*found["verdict"], *found["notes"]]) + "\n", "utf-8")
    rows = found["rows"]
    dropped = {"no score": rows["no_score"], "repeated": rows["repeated"]}
    draft.commit(
        rows=folder.rows_account(rows["in"], rows["used"], dropped),
        seeds={"seed": config.seed},
        result={"verdict": found["verdict"], "slopes": len(found["slopes"])},
    )
    return found


def _fit(table: Path, metrics: Path | None, config: FitConfig) -> dict[str, Any]:
    return fit_table(read_csv(table), config, None if metrics is None else read_csv(metrics))


def _inputs(results: Path, metrics: Path | None) -> tuple[Path, Path | None]:
    """Return the two files; a folder stands for those it holds."""
    if not results.is_dir():
        return results, metrics
    beside = results / "metrics.csv"
    return results / "results.csv", metrics or (beside if beside.is_file() else None)


def _work(table: Path, metrics: Path | None, config: FitConfig) -> folder.Work:
    inputs = {"results": file_sha256(there(table))}
    if metrics is not None:
        inputs["metrics"] = file_sha256(there(metrics))
    return folder.Work(STAGE, VERSION, inputs, config.model_dump(mode="json"))


def _write_slopes(draft: folder.Draft, found: dict[str, Any]) -> None:
    with draft.writing("slopes.csv") as path, path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_SLOPES)
        writer.writerows([row[name] for name in _SLOPES] for row in found["slopes"])
