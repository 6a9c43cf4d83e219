"""Content keys: what a result depends on, as one short hash."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

_BLOCK = 1 << 20


def canonical_json(value: Any) -> str:
    """Return `value` as JSON with sorted keys and no white space: equal values, equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def content_key(value: Any) -> str:
    """Return 32 hex digits that identify a JSON value (blake2b of its canonical JSON)."""
    raw = canonical_json(value).encode("utf-8", "surrogatepass")  # paths need not be UTF-8
    return hashlib.blake2b(raw, digest_size=16).hexdigest()


def text_key(*parts: str) -> str:
    """Return 32 hex digits for a tuple of texts; `("a", "b")` and `("ab", "")` differ."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        raw = part.encode("utf-8", "surrogatepass")
        digest.update(len(raw).to_bytes(8, "little"))
        digest.update(raw)
    return digest.hexdigest()


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, read in blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while block := handle.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def file_key(path: Path) -> str:
    """Return the SHA-256 of a file, computed once in a process unless size or time change."""
    found = path.stat()
    return _file_key(path.absolute(), found.st_size, found.st_mtime_ns)


@lru_cache(maxsize=65_536)  # a source may be thousands of files, each asked for several times
def _file_key(path: Path, size: int, changed: int) -> str:
    return file_sha256(path)
