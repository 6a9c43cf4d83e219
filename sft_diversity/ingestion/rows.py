"""What readers yield: a row, or why it is none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

_DETAIL = 200  # characters: a key may be a megabyte
RAW_LIMIT = 65_536  # bytes of a bad row that the quarantine keeps

#: Reason codes of the quarantine, and what each means.
REASONS = {
    "not-json": "the text is not JSON",
    "cut-row": "the file ends in the middle of a row",
    "truncated-file": "the file ends in the middle; what came before was kept",
    "invalid-utf8": "the bytes are not UTF-8",
    "lone-surrogate": "half of a UTF-16 pair, which is no character",
    "too-deep": "nested deeper than the JSON reader goes",
    "too-long": "longer than `max_row_mb`",
    "duplicate-key": "a key is given twice in one object",
    "not-an-object": "a list item or line that is no object",
    "bad-quotes": "a quoted CSV field that is not closed, or goes on after its quote",
    "wrong-columns": "another number of fields than the header has",
    "missing-column": "a column of the format is not there",
    "null-text": "null (or NaN) where text is due",
    "not-text": "a number, list or object where text is due",
    "bad-turns": "the turns are no list of objects",
    "unknown-role": "a turn by a speaker of no known name",
}


class BadRow(Exception):
    """The row cannot become a sample; `reason` is a key of `REASONS`."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail[:_DETAIL]


class Unreadable:
    """A cell that Python has no value for, such as a date of the year 30,000."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __str__(self) -> str:
        return self._text


class Row(NamedTuple):
    """One row of a file: its value, or a `BadRow` in its place.

    `offset` counts bytes of the unpacked file up to the row, None where rows are no byte ranges
    (Parquet, Arrow). `raw` is the row's text, whole or cut to `RAW_LIMIT`; `size` its full length.
    """

    offset: int | None
    value: dict[str, Any] | BadRow
    raw: bytes
    size: int


class Block(NamedTuple):
    """Rows that follow one another, read in one go where none of them has a fault.

    `values` are then their objects, and `rows` reads the same text again with care, row by row: so
    many rows, with these values, and what a bad one needs besides, its offset and its text. Where
    `values` is None only `rows` tells what they are.
    """

    values: Sequence[dict[str, Any]] | None
    rows: Callable[[], Iterable[Row]]


def one_row(row: Row) -> Block:
    """Return a row that was read with care as a block."""
    return Block(None, lambda: (row,))


def plain_blocks(rows: Iterator[Row], size: int = 1_000) -> Iterator[Block]:
    """Yield rows that have no offset and no text, `size` at a time."""
    while held := list(islice(rows, size)):
        yield block_of(held)


def block_of(rows: Sequence[Row]) -> Block:
    """Return rows that are at hand as a block."""
    values = [row.value for row in rows if not isinstance(row.value, BadRow)]
    return Block(values if len(values) == len(rows) else None, lambda: rows)


@dataclass(frozen=True)
class Limits:
    """How much a reader swallows before it calls a row or a file bad."""

    row_bytes: int
    expanded_bytes: int
    keep_truncated: bool
