"""Texts to a stream of words and breaks: the ground on which units are counted.

Words are runs of letters (with their combining marks and digits); what stands between them breaks
phrases. Program text, markup and scripts without spaces each have a rule:

- Tags, web addresses and character references go; identifiers in snake_case or camelCase are the
  words they are made of, so that `isArithmeticProgression` holds "arithmetic progression".
- A run of Han, kana, Thai, Lao, Khmer or Burmese letters is its overlapping pairs, each a word
  that forms no phrases: they need no dictionary and match where words would.
- The heading of a list of choices ("Options:") is marked: what follows is rarely the topic.
- Runs of more than 40 letters (keys, encoded bytes) are breaks.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from sft_diversity.levels import words
from sft_diversity.levels.candidates import (
    BREAK,
    FUNCTION,
    NOUN_NEXT,
    NUMBER,
    OPTIONS,
    SENTENCE,
    TRANSPARENT,
    VERB_NEXT,
)

_SAMPLE, _CHOICES = "\x00", "\x01"
_LONGEST_WORD = 40
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\U00020000-\U0003134f"
)
_ENDINGS = ("'re", "'ll", "'ve", "'d", "'m", "n't", "'s")


@dataclass(frozen=True)
class Stream:
    """The words of some texts, end to end.

    Attributes
    ----------
    codes : int32 array, shape (m,)
        Word numbers, or the negative codes of `candidates`; every text is followed by a SENTENCE.
    starts : int64 array, shape (n + 1,)
        Where each text begins in `codes`.
    words : list of str
        The distinct words as written, in order of first occurrence.
    """

    codes: npt.NDArray[np.int32]
    starts: npt.NDArray[np.int64]
    words: list[str]


def read_stream(texts: Sequence[str]) -> Stream:
    """Return the word stream of `texts`.

    Time and memory O(characters); a few hundred thousand words a second in the regular
    expressions, the rest per distinct token.
    """
    vocabulary: dict[str, int] = {}
    tokens = _tokens(texts)
    codes = np.fromiter(
        (vocabulary.setdefault(token, len(vocabulary)) for token in tokens),
        dtype=np.int32,
        count=len(tokens),
    )
    del tokens
    distinct: dict[str, int] = {}
    expansions = [_expand(token, distinct) for token in vocabulary]
    sizes = np.array([len(e) for e in expansions], dtype=np.int64)
    flat = np.array([code for e in expansions for code in e], dtype=np.int32)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    repeats = sizes[codes]
    begins = np.concatenate([[0], np.cumsum(repeats)])
    within = np.arange(begins[-1]) - np.repeat(begins[:-1], repeats)
    stream = flat[np.repeat(offsets[codes], repeats) + within]
    ends = begins[1:][codes == vocabulary.get(_SAMPLE, -1)]
    starts = np.concatenate([[0], ends]).astype(np.int64)
    return Stream(stream, starts, list(distinct))


def _tokens(texts: Sequence[str]) -> list[str]:
    """Return words, numbers and marks of all texts, each text closed by a NUL."""
    joined = "".join(f"{text.replace(_SAMPLE, ' ')}\n{_SAMPLE}" for text in texts)
    joined = html.unescape(joined).replace("’", "'").replace("_", " ").replace(_CHOICES, " ")
    joined = _CHOICE_LIST.sub(f" {_CHOICES} ", joined)
    for pattern in _MARKUP:
        joined = pattern.sub(" | ", joined)
    joined = _HYPHEN.sub(" ", joined)
    return _pattern().findall(joined)


#: Each pattern begins with plain characters, which `re` looks for much faster than anything else.
_MARKUP = tuple(
    re.compile(pattern)
    for pattern in (
        r"https?://[^\s\x00]+",
        r"www\.[^\s\x00]+",
        r"<[a-zA-Z/|][^<>\x00]{0,200}>",
        r"\\[a-zA-Z]+",
    )
)
_CHOICE_LIST = re.compile(r"[OoCcPp](?:ptions|hoices|andidates|ossible answers) ?:\s*\n")
_HYPHEN = re.compile(r"-(?<=[^\W\d]-)(?=[^\W\d])")


@lru_cache(maxsize=1)
def _pattern() -> re.Pattern[str]:
    """Return the token pattern; `re` leaves combining marks out of its word class."""
    marks = "".join(
        chr(c) for c in range(0x300, 0x10000) if unicodedata.category(chr(c)) in ("Mn", "Mc")
    )
    letters = rf"[^\W\d][\w{marks}]*(?:'[^\W\d]+)?"
    return re.compile(rf"[CcFf]#|[Cc]\+\+|{letters}|\d[\w.,:%]*|[\x00\x01]|\n+|[^\s\w]")


_UNSPACED_RUN = re.compile(f"[{_UNSPACED}]+")
_CAMEL = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")


def _expand(token: str, distinct: dict[str, int]) -> list[int]:
    """Return the codes of one token; new words are added to `distinct`."""
    if token == _SAMPLE or token[0] == "\n" or token in ".?!。！？।":
        return [SENTENCE]
    if token == _CHOICES:
        return [OPTIONS]
    if token[0].isdigit():
        return [NUMBER]
    if not token[0].isalpha():
        return [BREAK]
    if _UNSPACED_RUN.search(token):
        return _pairs(token, distinct)
    if len(token) > _LONGEST_WORD:
        return [BREAK]
    codes = [_code(part, distinct) for part in _parts(token)]
    return [FUNCTION, *codes, FUNCTION] if len(codes) > 1 else codes


def _code(word: str, distinct: dict[str, int]) -> int:
    low = word.lower()
    if "'" in low:
        stem = low.split("'")[0]
        if low.endswith("n't") or (stem in words.FUNCTION and low.endswith(_ENDINGS)):
            return VERB_NEXT
        if low.endswith(_ENDINGS) or len(low) - len(stem) <= 3:
            word, low = word[: len(stem)], stem
    if low in words.TRANSPARENT:
        return TRANSPARENT
    if low in words.FUNCTION:
        if low in words.PREPOSITIONS:
            return NOUN_NEXT
        return VERB_NEXT if low in words.BEFORE_VERBS else FUNCTION
    if len(low) < 2:
        return BREAK
    return distinct.setdefault(word, len(distinct))


def _parts(token: str) -> list[str]:
    """Return the words of a camelCase identifier; names such as JavaScript stay whole."""
    if not token.isascii() or token.islower() or "'" in token:
        return [token]
    humps = _CAMEL.findall(token)
    starts_low = token[0].islower() and len(humps) > 1 and len(humps[0]) > 1
    return humps if starts_low or len(humps) > 2 else [token]


def _pairs(token: str, distinct: dict[str, int]) -> list[int]:
    """Return a run of unspaced script as overlapping pairs, kept apart by breaks."""
    codes = [BREAK]
    for run in _UNSPACED_RUN.findall(token):
        cut = [run[i : i + 2] for i in range(len(run) - 1)] or [run]
        for pair in cut:
            codes += [distinct.setdefault(pair, len(distinct)), BREAK]
    return codes
