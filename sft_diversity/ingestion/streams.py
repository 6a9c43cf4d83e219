"""Files as byte chunks and lines: unpacked, UTF-8, in bounded memory."""

from __future__ import annotations

import codecs
import gzip
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from sft_diversity.core.errors import DataError
from sft_diversity.ingestion.rows import RAW_LIMIT, Limits

_CHUNK = 1 << 20
_GZIP = 16  # of zlib: what is packed has gzip's head and its sums
_ZSTD = re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18")  # a frame, or one to skip
_ZSTD_BLOCK = 1 << 10  # unpacked in one go: a bomb of zeros makes 40 MB of it, not gigabytes
_MAX_WINDOW = 1 << 27  # zstd may ask for this much memory, as its own command line allows
_BOMS = (  # UTF-32 first: its mark begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8-sig"),
)


class TruncatedFile(Exception):
    """The compressed file ends in the middle, or is damaged from here on."""


class Line(NamedTuple):
    """A line without its end; `line` is only a head of it where `size` says that it is longer."""

    offset: int
    line: bytes
    size: int
    ended: bool


def head(path: Path, size: int = 65_536) -> bytes:
    """Return the first unpacked bytes of a file, without a byte-order mark."""
    got = b""
    try:
        for chunk in chunks(path, Limits(size, 1 << 40, keep_truncated=True)):
            got += chunk
            if len(got) >= size:
                break
    except TruncatedFile:
        pass
    return got[:size]


def chunks(path: Path, limits: Limits) -> Iterator[bytes]:
    """Yield the unpacked bytes of a file as UTF-8 without a byte-order mark.

    Compression is told by the first bytes, not by the name. Bytes that are not valid in the file's
    encoding stay invalid UTF-8 here, so that the row they are in is found.

    Raises
    ------
    TruncatedFile
        Where a compressed file breaks off; all bytes before have been yielded.
    DataError
        If the file unpacks to more than `limits.expanded_bytes`.
    """
    total = 0
    unpacked = _unpacked(path)
    first = next(unpacked, b"")
    while len(first) < 4 and (more := next(unpacked, b"")):
        first += more
    encoding = next((name for mark, name in _BOMS if first.startswith(mark)), None)
    decoder = None
    if encoding == "utf-8-sig":
        first = first[3:]
    elif encoding is not None:
        decoder = codecs.getincrementaldecoder(encoding)("surrogatepass")
    chunk: bytes | None = first
    while chunk is not None:
        total += len(chunk)
        check_size(path, total, limits)
        yield chunk if decoder is None else _recoded(decoder, chunk)
        chunk = next(unpacked, None)


def check_size(path: Path, size: int, limits: Limits) -> None:
    """Refuse a file that unpacks to more than `limits.expanded_bytes`."""
    if size > limits.expanded_bytes:
        raise DataError(
            f"ingest: {path.name} unpacks to more than {limits.expanded_bytes / (1 << 30):g} "
            "GB; raise `max_expanded_gb` if that is meant"
        )


def _recoded(decoder: codecs.IncrementalDecoder, chunk: bytes) -> bytes:
    try:
        return decoder.decode(chunk).encode("utf-8", "surrogatepass")
    except UnicodeDecodeError as fault:
        raise TruncatedFile(f"not {fault.encoding} from here on: {fault.reason}") from None


def _unpacked(path: Path) -> Iterator[bytes]:
    with path.open("rb") as handle:
        magic = handle.read(4)
    if magic[:2] == b"\x1f\x8b":
        yield from _gunzipped(path)
    elif _ZSTD.match(magic):
        yield from _unzstd(path)
    else:
        with path.open("rb") as handle:
            while chunk := handle.read(_CHUNK):
                yield chunk


def _gunzipped(path: Path) -> Iterator[bytes]:
    """Yield what a file of one whole member unpacks to; of others the standard module tells.

    Its own reading goes by eight kilobytes at a time, which takes half as long again.
    """
    size = 0
    with path.open("rb") as handle:
        member = zlib.decompressobj(zlib.MAX_WBITS | _GZIP)
        packed = handle.read(_CHUNK)
        try:
            while packed and not member.eof:
                chunk = member.decompress(packed, _CHUNK)
                packed = member.unconsumed_tail or handle.read(_CHUNK)
                size += len(chunk)
                yield chunk
            if member.eof and not member.unused_data and not packed:
                return
        except zlib.error:
            pass  # the same is met below, and has a name there
    yield from _gunzipped_from(path, size)


def _gunzipped_from(path: Path, start: int) -> Iterator[bytes]:
    """Yield what a file of any members unpacks to, from a place on."""
    with gzip.open(path) as handle:
        while True:
            try:
                chunk = handle.read1(_CHUNK)
            except (EOFError, gzip.BadGzipFile, zlib.error) as fault:
                raise TruncatedFile(f"gzip: {fault}") from None
            if not chunk:
                return
            if len(chunk) > start:
                yield chunk[start:]
            start = max(0, start - len(chunk))


def _unzstd(path: Path) -> Iterator[bytes]:
    import zstandard

    with path.open("rb") as handle:
        reader = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW)
        frame = reader.decompressobj()
        packed = handle.read(_ZSTD_BLOCK)
        while packed:
            try:
                chunk = frame.decompress(packed)
            except zstandard.ZstdError as fault:
                raise TruncatedFile(f"zstd: {fault}") from None
            yield chunk
            packed = frame.unused_data if frame.eof else b""
            if frame.eof:
                packed = packed or handle.read(_ZSTD_BLOCK)
                if packed:
                    frame = reader.decompressobj()
                else:
                    return
            else:
                packed = handle.read(_ZSTD_BLOCK)
        raise TruncatedFile("zstd: the last frame has no end")


class Piece(NamedTuple):
    """Whole lines with their ends, or one line without: the last, or the head of a long one.

    `size` is the length of `text`, of a long line's head that of the line.
    """

    offset: int
    text: bytes
    size: int
    ended: bool

    def lines(self, max_bytes: int) -> Iterator[Line]:
        """Yield the lines on the terms of `lines`."""
        if not self.text.endswith(b"\n"):
            line = self.text if self.ended else self.text.removesuffix(b"\r")
            yield Line(self.offset, line, self.size, self.ended)
            return
        offset = self.offset
        for line in self.text[:-1].split(b"\n"):
            size = len(line)
            short = line.removesuffix(b"\r") if size <= max_bytes else line[:RAW_LIMIT]
            yield Line(offset, short, size, True)
            offset += size + 1


def lines(blocks: Iterator[bytes], max_bytes: int) -> Iterator[Line]:
    """Yield lines; they end at \n only, a \r before it is taken off.

    U+2028, U+0085 and a bare \r are text. Of a line longer than `max_bytes` only the first
    `RAW_LIMIT` bytes are held. A `TruncatedFile` passes through after the line it broke.
    """
    for piece in pieces(blocks, max_bytes):
        yield from piece.lines(max_bytes)


def pieces(blocks: Iterator[bytes], max_bytes: int) -> Iterator[Piece]:
    """Yield the lines of a stream, many at a time, on the terms of `lines`."""
    held: list[bytes] = []
    size = offset = 0
    fault: TruncatedFile | None = None
    while True:
        try:
            block = next(blocks, None)
        except TruncatedFile as broken:
            fault, block = broken, None
        if block is None:
            break
        if size > max_bytes and (end := block.find(b"\n")) >= 0:
            size += end
            yield Piece(offset, b"".join([*held, block[:end]])[:RAW_LIMIT], size, True)
            offset += size + 1
            held, size, block = [], 0, block[end + 1 :]
        if cut := block.rfind(b"\n") + 1:
            text = b"".join([*held, block[:cut]])
            yield Piece(offset, text, len(text), True)
            offset += len(text)
            held, size, block = [], 0, block[cut:]
        if block:
            size += len(block)
            held.append(block)
            if size > max_bytes:
                held = [b"".join(held)[:RAW_LIMIT]]
    if size:
        yield Piece(offset, b"".join(held), size, False)
    if fault is not None:
        raise fault
