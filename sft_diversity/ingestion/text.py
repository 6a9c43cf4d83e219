"""Text as the exact-duplicate rule sees it, and the keys made from it."""

from __future__ import annotations

import hashlib
import struct
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

import numpy as np

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


def normal_texts(raws: Sequence[bytes]) -> list[bytes]:
    """Return `normalise` of many texts, given and returned in UTF-8, all as one, NULs between."""
    whole = b" \0 ".join(raws)
    if whole.count(b"\0") >= len(raws):  # a text holds one, or there is none at all
        return [normalise(raw.decode()).encode() for raw in raws]
    folded = np.frombuffer(b"".join(_folded(b" %b " % whole)).translate(_ASCII_OF_UTF8), np.uint8)
    word = folded != _SPACE
    kept = np.ones(len(word), np.bool_)  # of spaces, those that no other comes before
    np.logical_or(word[1:], word[:-1], out=kept[1:])
    texts = folded[kept].tobytes().split(b"\0")
    return [one[1:-1] for one in texts]  # each has a space on either side


def _folded(raw: bytes) -> Iterator[bytes]:
    """Yield a text between two spaces in pieces, its letters beyond ASCII in normal form.

    What stands in ASCII composes with what comes after it and with nothing before it, so a run of
    other letters is normalised with the one before.
    """
    foreign = np.frombuffer(raw, np.uint8) >= 128
    edges = np.flatnonzero(foreign[1:] != foreign[:-1]) + 1
    end = 0
    for begin, stop in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        yield raw[end : begin - 1]
        yield _normal_run(raw[begin - 1 : stop])
        end = stop
    yield raw[end:]


_SPACE = 32
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
    size, hashed = struct.Struct("<Q").pack, hashlib.blake2b
    user, assistant = (size(len(name)) + name for name in (b"user", b"assistant"))
    return [
        hashed(
            b"".join((user, size(len(one)), one, assistant, size(len(other)), other)),
            digest_size=16,
        ).digest()
        for one, other in zip(asked, answered, strict=True)
    ]


def digest_of_normal(parts: Iterable[bytes]) -> bytes:
    """Return 16 bytes that identify a sequence of normalised texts, which hold no double space."""
    return hashlib.blake2b(b"  ".join(parts), digest_size=16).digest()
