"""Rows of CSV and TSV streams."""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator
from functools import partial

from sft_diversity.core.errors import DataError
from sft_diversity.ingestion.config import Table
from sft_diversity.ingestion.rows import RAW_LIMIT, REASONS, BadRow, Block, Row, one_row
from sft_diversity.ingestion.streams import Line, Piece, pieces


def separated_blocks(
    chunks: Iterator[bytes], table: Table, delimiter: str, max_bytes: int, label: str
) -> Iterator[Block]:
    """Yield the rows of a CSV or TSV stream; all values are text, blank lines are no rows.

    A quoted field may hold line breaks. A quote that is never closed, or that swallows lines and
    leaves a wrong number of fields, spoils its own line only: those after it are read again.

    Raises
    ------
    DataError
        If the header cannot be read or names a column twice.
    """
    source = pieces(chunks, max_bytes)
    records = _Records(source, delimiter, table.quoting == "minimal", max_bytes)
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
    while (piece := records.next_piece()) is not None:
        values = _objects(piece, columns, records)
        if values is not None:
            yield Block(values, partial(_again, piece, columns, records))
            continue
        records.take(piece)
        for row in _rows(records, columns):
            yield one_row(row)


def _objects(piece: Piece, columns: list[str], records: _Records) -> list[dict[str, str]] | None:
    """Return what the lines hold where each is a row without quotes, else None."""
    if (records.quoted and b'"' in piece.text) or piece.size > len(piece.text):
        return None
    lines = [line.removesuffix(b"\r") for line in piece.text.split(b"\n")]
    if max(map(len, lines)) >= records.max_bytes:
        return None
    try:
        rows = [line.decode().split(records.delimiter) for line in lines if line.strip()]
    except UnicodeDecodeError:
        return None
    if {*map(len, rows)} - {len(columns)}:
        return None
    return [dict(zip(columns, fields, strict=True)) for fields in rows]


def _again(piece: Piece, columns: list[str], like: _Records) -> Iterator[Row]:
    """Yield the rows of a piece, read with care."""
    records = _Records(iter(()), like.delimiter, like.quoted, like.max_bytes)
    records.take(piece)
    return _rows(records, columns)


def _rows(records: _Records, columns: list[str]) -> Iterator[Row]:
    """Yield rows up to the end of the piece at hand, or of the one that the last row ends in."""
    while not records.between_pieces and (fields := records.read()) is not None:
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
        self, source: Iterator[Piece], delimiter: str, quoted: bool, max_bytes: int
    ) -> None:
        self._source, self._lines = source, deque[Line]()
        self.delimiter, self.quoted, self.max_bytes = delimiter, quoted, max_bytes
        self._taken = Piece(0, b"", 0, True)
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
        if line.size > self.max_bytes:
            return BadRow("too-long", f"{line.size:,} bytes")
        if self.quoted and b'"' in line.line:
            try:
                fields = next(csv.reader(self._texts(), delimiter=self.delimiter, strict=True))
            except csv.Error as fault:
                return BadRow("bad-quotes", str(fault))
        else:
            fields = _text(line).split(self.delimiter)
        try:
            "".join(fields).encode()
        except UnicodeEncodeError:
            return BadRow("invalid-utf8")
        return fields

    def give_back(self) -> None:
        """Let the lines after the first of the last record be read again."""
        self._lines.extendleft(reversed(self.used[1:]))
        del self.used[1:]

    @property
    def between_pieces(self) -> bool:
        """Whether all lines of the pieces so far are used."""
        return not self._lines

    def next_piece(self) -> Piece | None:
        """Return the lines that come next as a piece, None at the end."""
        if not self._lines:
            return next(self._source, None)
        whole, read = self._taken, self._lines[0].offset - self._taken.offset  # by the header
        self._lines.clear()
        return Piece(whole.offset + read, whole.text[read:], whole.size - read, whole.ended)

    def take(self, piece: Piece) -> None:
        """Read the lines of a piece next."""
        self._taken = piece
        self._lines.extend(piece.lines(self.max_bytes))

    def _pull(self) -> Line | None:
        if not self._lines and (piece := next(self._source, None)) is not None:
            self.take(piece)
        return self._lines.popleft() if self._lines else None

    def _texts(self) -> Iterator[str]:
        yield _text(self.used[0]) + "\n"
        size = self.used[0].size
        while size <= self.max_bytes and (line := self._pull()) is not None:
            self.used.append(line)
            size += line.size
            yield _text(line) + "\n"


def _text(line: Line) -> str:
    return line.line.decode("utf-8", "surrogateescape")
