"""Texts as runs of words: what near-duplicates and n-gram overlap compare."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

import numpy as np

from sft_diversity.cleaning.compiled import Bounds, Hashes
from sft_diversity.cleaning.hashes import word_hashes

# Thai, Lao, Burmese, kana and Han are written without spaces: each character is a word.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_WORDS = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")
_WORDS_AND_SYMBOLS = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+|[^\w\s]")


def folded(text: str, symbols: bool) -> bytes:
    """Return `text` after NFKC and casefold, in UTF-8, so that `word_hashes` finds its words."""
    if text.isascii():
        return text.lower().encode()
    pattern = _WORDS_AND_SYMBOLS if symbols else _WORDS
    found = pattern.findall(unicodedata.normalize("NFKC", text).casefold())
    return " ".join(found).encode("utf-8", "replace")


def hashed(texts: Sequence[str], symbols: bool) -> tuple[Hashes, Bounds]:
    """Return the 64-bit hash of every word of `texts`, and the bounds of each text's words.

    Parameters
    ----------
    symbols : bool
        Whether punctuation and signs are words (`x - 2` and `x + 2` then differ) or only part them.

    Notes
    -----
    About 40 million characters a second where texts are ASCII. Two words of one text collide with
    probability 2^-64.
    """
    parts = [folded(text, symbols) for text in texts]
    bounds = np.zeros(len(parts) + 1, np.int64)
    np.cumsum([len(part) for part in parts], out=bounds[1:])
    return word_hashes(np.frombuffer(b"".join(parts), np.uint8), bounds, symbols)


def spelled(text: str) -> list[str]:
    """Return the words of `text` as `hashed` sees them without symbols."""
    return _WORDS.findall(unicodedata.normalize("NFKC", text).casefold())
