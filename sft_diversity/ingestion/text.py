"""Text as the exact-duplicate rule sees it, and the keys made from it."""

from __future__ import annotations

import hashlib
import struct
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

#: What lower() and white space to one space do to ASCII letters, as a table for bytes.translate.
_ASCII = bytes(
    32 if chr(code).isspace() else ord(chr(code).lower()) if code < 128 else code
    for code in range(256)
)


def normalise(text: str) -> str:
    """Return `text` after NFKC, casefold, white-space runs to one space, ends trimmed."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def normal_bytes(text: str, raw: bytes) -> bytes:
    """Return `normalise(text)` in UTF-8; `raw` is `text` in UTF-8.

    For ASCII, where NFKC changes nothing and casefold is lower(), a table does it in a third of the
    time.
    """
    if len(raw) != len(text):
        return normalise(text).encode()
    folded = raw.translate(_ASCII)
    while b"  " in folded:
        folded = folded.replace(b"  ", b" ")
    return folded.strip(b" ")


def normal_digests(texts: Sequence[bytes], each: int) -> tuple[list[bytes], npt.NDArray[np.bool_]]:
    """Return `digest_of_normal` of every `each` of many texts, which it brings to normal form.

    Parameters
    ----------
    texts : sequence of bytes, shape (n * each,)
        In UTF-8.

    Returns
    -------
    list of bytes, shape (n,)
    bool array, shape (n, each)
        Which texts are empty in normal form.

    Notes
    -----
    All are brought there as one text, some 2 ns a byte: a word of Python a text costs as much.
    """
    if not texts:
        return [], np.empty((0, each), np.bool_)
    whole = b" %b %b" % (_BETWEEN_SPACES.join(texts), _BETWEEN)
    folded = np.frombuffer(b"".join(_folded(whole)).translate(_ASCII_OF_UTF8), np.uint8)
    word = folded != _SPACE
    kept = np.ones(len(word), np.bool_)  # of spaces, those that no other comes before
    np.logical_or(word[1:], word[:-1], out=kept[1:])
    normal = folded[kept]
    ends = np.flatnonzero(normal == _BETWEEN[0])
    stops = ends[each - 1 :: each].tolist()
    starts = [0, *(stop + 1 for stop in stops)]
    held, hashed = normal.data, hashlib.blake2b
    digests = [
        hashed(held[start:stop], digest_size=16).digest()
        for start, stop in zip(starts, stops, strict=False)
    ]
    return digests, (np.diff(ends, prepend=-1) == 2).reshape(-1, each)  # a space alone


def _folded(raw: bytes) -> Iterator[bytes]:
    """Yield texts between spaces in pieces, their letters beyond ASCII in normal form.

    What stands in ASCII composes with what comes after it and with nothing before it, so a run of
    other letters is normalised with the one before.
    """
    foreign = np.frombuffer(raw, np.uint8) - np.uint8(128) < _BETWEEN[0] - 128
    edges = np.flatnonzero(foreign[1:] != foreign[:-1]) + 1
    end = 0
    for begin, stop in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        yield raw[end : begin - 1]
        yield _normal_run(raw[begin - 1 : stop])
        end = stop
    yield raw[end:]


_SPACE = 32
#: What stands between texts: no byte of UTF-8.
_BETWEEN = b"\xff"
_BETWEEN_SPACES = b" %b " % _BETWEEN
#: `_ASCII` for UTF-8, whose other bytes are parts of letters.
_ASCII_OF_UTF8 = _ASCII[:128] + bytes(range(128, 256))


@lru_cache(maxsize=1 << 14)  # an apostrophe behind a letter, mostly
def _normal_run(run: bytes) -> bytes:
    folded = unicodedata.normalize("NFKC", run.decode()).casefold()
    return "".join(" " if letter.isspace() else letter for letter in folded).encode()


def digest(parts: Iterable[bytes]) -> bytes:
    """Return 16 bytes that identify a sequence of UTF-8 texts (`hashing.text_key`, but raw)."""
    pieces: list[bytes] = []
    for part in parts:
        pieces += (len(part).to_bytes(8, "little"), part)
    return hashlib.blake2b(b"".join(pieces), digest_size=16).digest()


def digests_of_exchanges(asked: Sequence[bytes], answered: Sequence[bytes]) -> list[bytes]:
    """Return the digest of ("user", asked, "assistant", answered) of many."""
    hashed, join = hashlib.blake2b, b"".join
    user, assistant = struct.Struct("<Q4sQ").pack, struct.Struct("<Q9sQ").pack
    return [
        hashed(
            join((user(4, b"user", len(one)), one, assistant(9, b"assistant", len(other)), other)),
            digest_size=16,
        ).digest()
        for one, other in zip(asked, answered, strict=True)
    ]


def digest_of_normal(parts: Iterable[bytes]) -> bytes:
    """Return 16 bytes that identify a sequence of normalised texts."""
    spaced = (b" %b " % part if part else b" " for part in parts)
    return hashlib.blake2b(_BETWEEN.join(spaced), digest_size=16).digest()
