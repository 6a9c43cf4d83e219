"""Text as the exact-duplicate rule sees it, and the keys made from it."""

from __future__ import annotations

import hashlib
import struct
import unicodedata
from collections.abc import Iterable, Sequence

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


def normal_texts(texts: Sequence[str], raws: Sequence[bytes]) -> list[bytes]:
    """Return `normal_bytes` of many texts, those in ASCII as one text, a NUL between two."""
    foreign = [place for place, ascii in enumerate(map(str.isascii, texts)) if not ascii]
    plain = list(raws)
    for place in foreign:
        plain[place] = b""
    folded = b"\0".join(plain).translate(_ASCII)
    while b"  " in folded:
        folded = folded.replace(b"  ", b" ")
    found = folded.replace(b" \0", b"\0").replace(b"\0 ", b"\0").strip(b" ").split(b"\0")
    if len(found) != len(plain):  # a text holds a NUL
        return [normal_bytes(text, raw) for text, raw in zip(texts, raws, strict=True)]
    for place in foreign:
        found[place] = normalise(texts[place]).encode()
    return found


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
