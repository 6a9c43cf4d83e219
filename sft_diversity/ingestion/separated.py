"""Rows of CSV and TSV streams."""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator

from sft_diversity.core.errors import DataError
from sft_diversity.ingestion.config import Table
from sft_diversity.ingestion.rows import RAW_LIMIT, REASONS, BadRow, Row
from sft_diversity.ingestion.streams import Line, lines


def separated_rows(
    blocks: Iterator[bytes], table: Table, delimiter: str, max_bytes: int, label: str
) -> Iterator[Row]:
    """Yield the rows of a CSV or TSV stream; all values are text, blank lines are no rows.

    A quoted field may hold line breaks. A quote that is never closed, or that swallows lines and
    leaves a wrong number of fields, spoils its own line only: those after it are read again.

    Raises
    ------
    DataError
        If the header cannot be read or names a column twice.
    """
    records = _Records(lines(blocks, max_bytes), delimiter, table.quoting == "minimal", max_bytes)
    columns = list(table.columns)
    if table.header:
        names = records.read()
        if names is None:
            return
        if isinstance(names, BadRow):
            why = f"{REASONS[names.reason]} ({names.detail or names.reason})"
            raise DataError(f"ingest: {label}: the header is no row: {why}; mend the file")
        columns = columns or [name.strip() for name in names]
        if len(set(columns)) < len(columns):
            twice = next(name for name in columns if columns.count(name) > 1)
            raise DataError(
                f"ingest: {label}: the header names column {twice!r:.80} twice; name all with "
                "`table.columns` of the source"
            )
    while (fields := records.read()) is not None:
        if not isinstance(fields, BadRow) and len(fields) != len(columns):
            detail = f"{len(fields)} fields, {len(columns)} expected"
            fields = BadRow("wrong-columns", detail)
        if isinstance(fields, BadRow):
            records.give_back()
            first = records.used[0]
            yield Row(first.offset, fields, first.line[:RAW_LIMIT], first.size)
        else:
            raw = b"\n".join(line.line for line in records.used)
            row = dict(zip(columns, fields, strict=True))
            yield Row(records.used[0].offset, row, raw, len(raw))


class _Records:
    """Lines joined to records. `used` holds the lines of the last one."""

    def __init__(
        self, source: Iterator[Line], delimiter: str, quoted: bool, max_bytes: int
    ) -> None:
        self._source, self._returned = source, deque[Line]()
        self._delimiter, self._quoted, self._max = delimiter, quoted, max_bytes
        self.used: list[Line] = []
        csv.field_size_limit(max(csv.field_size_limit(), max_bytes))

    def read(self) -> list[str] | BadRow | None:
        """Return the fields of the next record, None at the end."""
        self.used = []
        while (line := self._pull()) is not None and not line.line.strip():
            pass
        if line is None:
            return None
        self.used.append(line)
        if line.size > self._max:
            return BadRow("too-long", f"{line.size:,} bytes")
        if self._quoted and b'"' in line.line:
            try:
                fields = next(csv.reader(self._texts(), delimiter=self._delimiter, strict=True))
            except csv.Error as fault:
                return BadRow("bad-quotes", str(fault))
        else:
            fields = _text(line).split(self._delimiter)
        try:
            "".join(fields).encode()
        except UnicodeEncodeError:
            return BadRow("invalid-utf8")
        return fields

    def give_back(self) -> None:
        """Let the lines after the first of the last record be read again."""
        self._returned.extendleft(reversed(self.used[1:]))
        del self.used[1:]

    def _pull(self) -> Line | None:
        return self._returned.popleft() if self._returned else next(self._source, None)

    def _texts(self) -> Iterator[str]:
        yield _text(self.used[0]) + "\n"
        size = self.used[0].size
        while size <= self._max and (line := self._pull()) is not None:
            self.used.append(line)
            size += line.size
            yield _text(line) + "\n"


def _text(line: Line) -> str:
    return line.line.decode("utf-8", "surrogateescape")
