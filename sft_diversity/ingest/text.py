"""Text as the exact-duplicate rule sees it, and the keys made from it."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable


def normalise(text: str) -> str:
    """Return `text` after NFKC, casefold, white-space runs to one space, ends trimmed."""
    if text.isascii():  # NFKC changes nothing and casefold is lower(): five times faster
        return " ".join(text.lower().split())
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def digest(parts: Iterable[str]) -> bytes:
    """Return 16 bytes that identify a sequence of texts (the raw form of `hashing.text_key`)."""
    pieces: list[bytes] = []
    for part in parts:
        raw = part.encode()
        pieces += (len(raw).to_bytes(8, "little"), raw)
    return hashlib.blake2b(b"".join(pieces), digest_size=16).digest()
