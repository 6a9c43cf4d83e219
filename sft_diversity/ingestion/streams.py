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
    with gzip.open(path) as handle:
        while True:
            try:
                chunk = handle.read1(_CHUNK)
            except (EOFError, gzip.BadGzipFile, zlib.error) as fault:
                raise TruncatedFile(f"gzip: {fault}") from None
            if not chunk:
                return
            yield chunk


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


def lines(blocks: Iterator[bytes], max_bytes: int) -> Iterator[Line]:
    """Yield lines; they end at \\n only, a \\r before it is taken off.

    U+2028, U+0085 and a bare \\r are text. Of a line longer than `max_bytes` only the first
    `RAW_LIMIT` bytes are held. A `TruncatedFile` passes through after the line it broke.
    """
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
        pieces = block.split(b"\n")
        for piece in pieces[:-1]:
            size += len(piece)
            if size > max_bytes:
                yield Line(offset, b"".join([*held, piece[:RAW_LIMIT]])[:RAW_LIMIT], size, True)
            else:
                line = b"".join([*held, piece]) if held else piece
                yield Line(offset, line.removesuffix(b"\r"), size, True)
            offset += size + 1
            held, size = [], 0
        if pieces[-1]:
            size += len(pieces[-1])
            if size <= max_bytes:
                held.append(pieces[-1])
            else:
                held = [b"".join([*held, pieces[-1][:RAW_LIMIT]])[:RAW_LIMIT]]
    if size:
        yield Line(offset, b"".join(held).removesuffix(b"\r"), size, False)
    if fault is not None:
        raise fault
