"""The elements of one long JSON list, in a stream, each on its own.

Elements are cut out by looking at strings and brackets only; each then meets the JSON parser alone,
so that no file needs to fit in memory. Where one is broken in a way that hides its end (a quote or
bracket too many), the next place is sought from where a good row can be read again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from sft_diversity.ingestion.rows import RAW_LIMIT, BadRow, Block, Row, one_row
from sft_diversity.ingestion.streams import TruncatedFile

Parse = Callable[[bytes], "dict[str, Any] | BadRow"]
Flat = Callable[[bytes], "dict[str, Any] | BadRow | None"]
Many = Callable[[bytes], "list[dict[str, Any]] | None"]

_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]|"', re.DOTALL)  # a lone ": no end yet
_GAP = re.compile(rb"[\s,]*")
_LIST_END = re.compile(rb"\s*\]\s*\Z")
_SCALAR_END = re.compile(rb"[,\]\n]")
_OBJECT_END = re.compile(rb"\}(?=\s*(?:,\s*\{|\]\s*\Z))")
_OBJECT_AFTER_COMMA = re.compile(rb",\s*(?=\{)")
_WINDOW = 1 << 20  # rows longer than this are not used to find the way back
_TRIES = 1_000
_NEAR, _GUESSES = 1 << 17, 8  # where an element's end is looked for, and how often
_QUOTE, _BRACE, _LIST_CLOSE = ord('"'), ord("{"), ord("]")
_OPEN, _BRACKETS = frozenset(b"[{"), frozenset(b"[]{}")


def list_blocks(
    chunks: Iterator[bytes], max_bytes: int, parse: Parse, flat: Flat, many: Many | None
) -> Iterator[Block]:
    """Yield the elements of the list that the stream holds, as rows.

    Parameters
    ----------
    max_bytes : int
        Longer elements are bad rows and are not held in memory.
    parse : callable
        Returns what an element's bytes stand for.
    flat : callable
        The same for bytes that may be no whole element: then None. Most elements end at their first
        closing brace, and one look there is quicker than going through their strings.
    many : callable, optional
        Returns the objects of several elements' bytes, or None where that is not what they are.

    Raises
    ------
    TruncatedFile
        Where the stream itself breaks off, after the rows before.

    Notes
    -----
    Memory: one element and one block, or twice `max_bytes` behind a broken element. Time: linear;
    behind a broken element at most `_TRIES` further looks of `_WINDOW` bytes.
    """
    cutter = _Cutter(chunks, max_bytes, parse, flat, many)
    yield from cutter.blocks()
    if cutter.fault is not None:
        raise cutter.fault


class _Cutter:
    """A buffer that moves over the stream. Positions are offsets in the stream, not the buffer."""

    def __init__(
        self, chunks: Iterator[bytes], max_bytes: int, parse: Parse, flat: Flat, many: Many | None
    ) -> None:
        self._chunks, self._max = chunks, max_bytes
        self._parse, self._flat, self._many = parse, flat, many
        self._buffer, self._base = b"", 0
        self._at = 0  # where the element at hand begins; nothing before it is kept
        self._eof = False
        self._one_by_one_to = 0  # a look at many elements that begin before has failed
        self._keys: frozenset[str] = frozenset()  # of the last good row
        self.fault: TruncatedFile | None = None

    def blocks(self) -> Iterator[Block]:
        while (opening := self._buffer.find(b"[")) < 0:
            self._read(1)
        self._at = opening + 1
        cut = False
        while self._to_next():
            if self._many is not None and self._at >= self._one_by_one_to:
                yield from self._several()
                continue
            end = self._first_brace()
            value = self._flat(self._bytes(self._at, end)) if end >= 0 else None
            if value is None:
                end = self._end()
                value = self._value(end)
            if isinstance(value, BadRow) and value.reason not in ("duplicate-key", "not-an-object"):
                cut = value.reason == "cut-row"
                yield one_row(self._bad(value, end))
                continue
            if isinstance(value, dict):
                self._keys = frozenset(value)
            raw = self._bytes(self._at, end)
            yield one_row(Row(self._at, value, raw, len(raw)))
            self._at = end
        if self._at >= self._stop and self.fault is None and not cut:
            fault = BadRow("cut-row", "the list has no closing bracket")
            yield one_row(Row(self._at, fault, b"", 0))

    def _several(self) -> Iterator[Block]:
        """Yield the elements from here to the last that ends in the buffer, if all are good.

        Where that one ends is guessed, and the parser says whether it was: a guess inside of an
        element leaves a string or bracket open.
        """
        assert self._many is not None
        start = self._at - self._base
        stop = min(len(self._buffer), start + self._max)
        near = max(start, stop - _NEAR)
        for found in [*_OBJECT_END.finditer(self._buffer, near, stop)][: -_GUESSES - 1 : -1]:
            text = self._buffer[start : found.start() + 1]
            values = self._many(text)
            if values:
                self._keys = frozenset(values[-1])
                yield Block(values, partial(self._again, text, self._at))
                self._at += len(text)
                return
        self._one_by_one_to = self._stop

    def _again(self, text: bytes, offset: int) -> Iterator[Row]:
        """Yield the rows of a part of the list, read with care."""
        for block in list_blocks(iter([b"[%b]" % text]), self._max, self._parse, self._flat, None):
            for row in block.rows():
                assert row.offset is not None
                yield row._replace(offset=row.offset + offset - 1)

    @property
    def _stop(self) -> int:
        return self._base + len(self._buffer)

    def _bytes(self, start: int, end: int) -> bytes:
        return self._buffer[start - self._base : end - self._base]

    def _read(self, want: int) -> bool:
        """Append at least `want` bytes if there are any; forget what is before the element."""
        pieces = [self._bytes(self._at, self._stop)]
        self._base = max(self._base, self._at)
        got = 0
        while got < want and not self._eof:
            try:
                chunk = next(self._chunks, None)
            except TruncatedFile as fault:
                self.fault, chunk = fault, None
            self._eof = chunk is None
            pieces.append(chunk or b"")
            got += len(pieces[-1])
        self._buffer = b"".join(pieces)
        return got > 0

    def _to_next(self) -> bool:
        """Move to the next element; False at the list's end or where the stream stops short."""
        while True:
            gap = _GAP.match(self._buffer, self._at - self._base)
            assert gap is not None
            self._at = self._base + gap.end()
            if self._at < self._stop:
                break
            if not self._read(1):
                return False
        if self._buffer[self._at - self._base] != _LIST_CLOSE:
            return True
        while not self._eof and not self._bytes(self._at + 1, self._stop).strip():
            self._read(1)
        return bool(self._bytes(self._at + 1, self._stop).strip())  # more text: that was no end

    def _first_brace(self) -> int:
        """Return where the first closing brace of the element at hand ends, -1 if far away."""
        at = self._at - self._base
        brace = self._buffer.find(b"}", at, min(at + self._max, at + _WINDOW))
        return -1 if brace < 0 or self._buffer[at] != _BRACE else self._base + brace + 1

    def _end(self) -> int:
        """Return where the element at hand ends, reading on as needed; -1 if it does not."""
        while True:
            end = _element_end(self._buffer, self._at - self._base, len(self._buffer))
            if end >= 0:
                return self._base + end
            held = self._stop - self._at
            if self._eof or held > self._max:
                return -1
            self._read(max(1, held))  # doubling: rescans add up to linear

    def _value(self, end: int) -> dict[str, Any] | BadRow:
        if end < 0 and self._eof and self._stop - self._at <= self._max:
            return BadRow("cut-row", "the file ends in the middle of a list item")
        if end < 0 or end - self._at > self._max:
            return BadRow("too-long", f"over {self._max:,} bytes")
        return self._parse(self._bytes(self._at, end))

    def _bad(self, verdict: BadRow, end: int) -> Row:
        """Return the bad row at hand and move to where rows can be read again."""
        start, head = self._at, self._bytes(self._at, min(self._at + RAW_LIMIT, self._stop))
        if end >= 0 and self._goes_on_well(end):
            self._at = end
        else:
            known_end = end
            found = self._seek_good_row()
            self._at = found if found >= 0 else max(known_end, start + 1)
            if found < 0 and known_end < 0:
                self._at = self._stop
        raw = head[: self._at - start].rstrip(b", \t\r\n")
        return Row(start, verdict, raw, max(len(raw), self._at - start - 1))

    def _goes_on_well(self, end: int) -> bool:
        """Whether a good row, or the list's end, follows directly after `end`."""
        while not self._eof and self._stop - end < _WINDOW:
            self._read(_WINDOW)
        if _LIST_END.match(self._buffer, end - self._base):
            return True
        following = _OBJECT_AFTER_COMMA.match(self._buffer, end - self._base)
        return following is not None and self._good_at(following.end())

    def _seek_good_row(self) -> int:
        """Return where the next good row behind the bad one begins, -1 if none does."""
        tries, seek = 0, self._at + 1
        start = self._at
        while tries < _TRIES:
            while not self._eof and self._stop - seek < 2 * _WINDOW:
                self._at = max(start, seek - 1)  # what is before is given up
                self._read(2 * _WINDOW)
            for match in _OBJECT_AFTER_COMMA.finditer(self._buffer, seek - self._base):
                tries += 1
                if self._good_at(match.end()):
                    return self._base + match.end()
                if tries >= _TRIES or (
                    not self._eof and self._stop - self._base - match.end() < _WINDOW
                ):
                    break
            if self._eof and self._stop - seek <= 2 * _WINDOW:
                break
            seek = max(seek + 1, self._stop - _WINDOW)
        return -1

    def _good_at(self, index: int) -> bool:
        """Whether a row like the last good one begins at `index` of the buffer."""
        end = _element_end(self._buffer, index, min(index + _WINDOW, len(self._buffer)))
        if end < 0:
            return False
        value = self._parse(self._buffer[index:end])
        return isinstance(value, dict) and (not self._keys or not self._keys.isdisjoint(value))


def _element_end(buffer: bytes, start: int, stop: int) -> int:
    """Return where the element beginning at `start` ends, -1 if not before `stop`."""
    first = buffer[start]
    if first not in _BRACKETS and first != _QUOTE:
        scalar = _SCALAR_END.search(buffer, start + 1, stop)
        return scalar.start() if scalar else -1
    depth = 0
    for token in _TOKEN.finditer(buffer, start, stop):
        at = token.start()
        byte = buffer[at]
        if byte == _QUOTE:
            if token.end() - at == 1:
                return -1  # a string that is not whole yet
            if depth == 0:
                return token.end()
        elif byte in _OPEN:
            depth += 1
        else:
            depth -= 1
            if depth <= 0:
                return at + 1
    return -1
