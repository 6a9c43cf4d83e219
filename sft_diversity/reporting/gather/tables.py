"""Reads the tables and logs of a study's folder; what a run did not write is not there."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sft_diversity.core.errors import DataError

Row = dict[str, Any]
_POINTS = 80  # of a training curve
CURVES = ("loss", "lr", "grad_norm", "grad_ratio", "kkt_gap", "box_share")


def rows(path: Path) -> list[Row]:
    """Return a CSV's rows; numbers as numbers, empty cells as None; no file, no rows.

    Raises
    ------
    DataError
        If it is not a CSV of UTF-8 text.
    """
    if not path.is_file():
        return []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return [{k: _cell(v) for k, v in row.items() if k} for row in csv.DictReader(file)]
    except (UnicodeDecodeError, csv.Error) as fault:
        raise DataError(f"report: {path.name} is no table: {fault}; make it anew") from None


def _cell(text: Any) -> Any:
    if not isinstance(text, str) or text.strip() in ("", "nan", "null"):
        return None
    for kind in (int, float):
        try:
            value = kind(text)
        except ValueError:
            continue
        return value if np.isfinite(value) else None
    return text


def json_of(path: Path) -> Row:
    """Return a JSON object; {} where there is none.

    Raises
    ------
    DataError
        If the file is no JSON object.
    """
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise DataError(f"report: {path.name} is no JSON object; make it anew with `sftdiv fit`")
    return value


def lines_of(path: Path) -> list[Row]:
    """Return the objects of a JSONL file, up to the first line that is not whole."""
    found: list[Row] = []
    if path.is_file():
        for line in path.read_text("utf-8", "replace").splitlines():
            try:
                value = json.loads(line)
            except (ValueError, RecursionError):
                break
            if isinstance(value, dict):
                found.append(value)
    return found


def curve(path: Path, points: int = _POINTS) -> Row | None:
    """Return a run's training log in at most `points` bins of steps, each figure its mean there."""
    log = [line for line in lines_of(path) if isinstance(line.get("step"), int)]
    if not log:
        return None
    parts = np.array_split(np.arange(len(log)), min(points, len(log)))
    told: Row = {"steps": [_mean([log[i]["step"] for i in part]) for part in parts]}
    for name in CURVES:
        if any(isinstance(line.get(name), int | float) for line in log):
            told[name] = [_mean([log[i].get(name) for i in part]) for part in parts]
    return told


def _mean(values: Sequence[Any]) -> float | None:
    there = [v for v in values if isinstance(v, int | float) and np.isfinite(v)]
    return float(f"{np.mean(there):.5g}") if there else None
