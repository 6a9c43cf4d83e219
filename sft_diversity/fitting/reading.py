"""A CSV of scores or metrics, read as text: what a cell means is decided where its column is."""

from __future__ import annotations

import csv
from pathlib import Path

import polars as pl

from sft_diversity.core.errors import DataError, UsageError

_MAX_BYTES = 256 << 20


def there(path: Path) -> Path:
    """Return the path of a file that is there, or raise `UsageError`."""
    if not path.is_file():
        raise UsageError(f"fit: {path} is no file; name a CSV of scores or the folder of a study")
    return path


def read_csv(path: Path) -> pl.DataFrame:
    """Return a CSV with all its columns as text; empty cells are null, blank lines are skipped.

    Raises
    ------
    UsageError
        If there is no such file.
    DataError
        If it is empty, is not UTF-8 text, or its rows do not fit its header.
    """
    if there(path).stat().st_size > _MAX_BYTES:
        raise DataError(f"fit: {path} has over {_MAX_BYTES >> 20} MB; is it a table of scores?")
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            rows = [row for row in csv.reader(handle, strict=True) if any(map(str.strip, row))]
    except UnicodeDecodeError:
        raise DataError(f"fit: {path} is not UTF-8 text; save it as CSV in UTF-8") from None
    except (csv.Error, OSError) as fault:
        raise DataError(f"fit: {path} is no readable CSV: {fault}") from None
    if not rows:
        raise DataError(f"fit: {path} is empty; it needs a header and one row a run")
    head, *body = [[cell.strip() for cell in row] for row in rows]
    _check_shape(path, head, body)
    columns = {
        name: pl.Series([row[i] or None for row in body], dtype=pl.String)
        for i, name in enumerate(head)
    }
    return pl.DataFrame(columns)


def _check_shape(path: Path, head: list[str], body: list[list[str]]) -> None:
    marks = [mark for mark in ";\t|" if len(head) == 1 and mark in head[0]]
    if marks:
        raise DataError(
            f"fit: {path} is separated by {marks[0]!r}; write it with commas (and decimal points)"
        )
    repeated = sorted({name for name in head if head.count(name) > 1})
    if repeated:
        raise DataError(f"fit: {path} has the column {repeated[0]!r} twice; keep one")
    for number, row in enumerate(body, start=1):
        if len(row) != len(head):
            raise DataError(
                f"fit: {path}: row {number:,} has {len(row)} cells, the header {len(head)}; "
                "quote cells that hold commas"
            )
