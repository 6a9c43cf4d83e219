"""What is read off an answer: sentences, capital words, language, its last number, loops."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np

# ---- sentences, words, language

#: Words that a full stop follows inside a sentence: always, or where a small letter comes next.
#: Those of two parts (e.g., U.S.) and initials count with the first.
_SHORT = (
    "adm capt cmdr col dr gen gov lt maj messrs mr mrs ms prof rep rev sen sgt vs approx fig "
    "jan feb mar apr jun jul aug sep sept oct nov dec"
)
_SHORT_OR_LAST = "ave co corp dept etc inc jr ltd no sr st a.m p.m"
_END = re.compile(r"""[.?!]+['")\]*»”’]*(?=\s)""")
_LAST_WORD = re.compile(r"\S*$")


def sentences(text: str) -> list[str]:
    """Return the sentences of a text, cut by rule: no model, no list of a language but English's.

    A sentence ends at `.`, `?` or `!` with white space behind, closing quotes and brackets
    included; a full stop ends none after a common short form or an initial, dots none before a
    small letter. A line break by itself ends none, a number with a full stop (`1.`) does.
    """
    found, begin = [], 0
    for mark in _END.finditer(text):
        if not _is_inner(text, mark):
            found.append(text[begin : mark.end()])
            begin = mark.end()
    found.append(text[begin:])
    return [one.strip() for one in found if one.strip()]


def _is_inner(text: str, mark: re.Match[str]) -> bool:
    """Whether a full stop belongs to a word in a sentence."""
    if mark.group()[0] != ".":
        return False
    word = _LAST_WORD.search(text, 0, mark.start())
    before = word.group().lstrip("(\"'[*“‘") if word else ""
    following = text[mark.end() :].lstrip()[:1]
    if mark.group().startswith("..") or before.lower() in _SHORT_OR_LAST.split():
        return following.islower()
    initial = len(before) == 1 and before.isalpha() and before != "I"
    short = before.lower() in _SHORT.split() or "." in before.strip(".") or initial
    return short and following.isalpha()


_CLITIC = re.compile(r"(?i)(?<=\w)(n't|'s|'m|'d|'ll|'re|'ve)\b")
_TOKEN = re.compile(r"[\w.'’\-/]*\w[\w.'’\-/]*")


def capital_words(text: str) -> int:
    """Return how many words are in capitals: `A`, `NASA`, `U.S.`, both of `CAN'T`; not `B-side`."""
    parts = _CLITIC.sub(lambda clitic: f" {clitic.group()}", text)
    return sum(token.isupper() for token in _TOKEN.findall(parts))


#: Languages that are told apart: those of langdetect, by which most published figures are made.
_LANGUAGES = (
    "af ar bg bn ca cs cy da de el en es et fa fi fr gu he hi hr hu id it ja kn ko lt lv mk ml mr "
    "ne nl no pa pl pt ro ru sk sl so sq sv sw ta te th tl tr uk ur vi zh"
)
_NOTHING_KNOWN = -1e30  # below any score: none of the text's bytes says anything


@functools.cache
def _identifier() -> Any:
    from py3langid import langid

    own = langid.LanguageIdentifier.from_model_file(langid.MODEL_FILE)
    own.set_languages(_LANGUAGES.split())
    return own


def language_of(text: str) -> str | None:
    """Return the language of a text, as ISO 639-1; None where nothing tells it.

    By py3langid, whose model is in its package; the text is read in lower case.
    """
    if not any(map(str.isalpha, text)):
        return None
    language, score = _identifier().classify(text.lower())
    return None if score < _NOTHING_KNOWN else str(language)


# ---- the number that an answer comes to

_NUMBER = re.compile(r"(?:(?<![\w.)])[-−])?(?<![\w.])\$?(\d[\d,]*(?:\.\d+)?|\.\d+)")
_BOXED = re.compile(r"\\boxed\s*\{([^{}]*)\}")


def final_number(answer: str) -> Decimal | None:
    """Return the number that an answer comes to, or None where it has none.

    The first after the last `####` as GSM8K writes it, else the last in the last `\\boxed{}`, else
    the last of all; `$`, `%`, commas between digits and a full stop behind are no part of it.
    """
    _, marked, tail = answer.rpartition("####")
    if marked and (found := _numbers(tail)):
        return found[0]
    for boxed in reversed(_BOXED.findall(answer)):
        if found := _numbers(boxed):
            return found[-1]
    found = _numbers(answer)
    return found[-1] if found else None


def _numbers(text: str) -> list[Decimal]:
    found = []
    for number in _NUMBER.finditer(text):
        sign = -1 if number.group()[0] in "-−" else 1
        found.append(sign * Decimal(number.group(1).replace(",", "")))
    return found


# ---- repetition

_GRAM, _PHRASE, _TIMES = 4, 32, 3


def distinct_share(words: Sequence[str]) -> float | None:
    """Return the share of runs of four words that are distinct, None where there is no such run."""
    grams = [tuple(words[i : i + _GRAM]) for i in range(len(words) - _GRAM + 1)]
    return len(set(grams)) / len(grams) if grams else None


def longest_loop(words: Sequence[str]) -> int:
    """Return the words of the longest stretch that says a phrase three times in a row or more.

    A phrase has at most 32 words; the last time may be cut. 0 where nothing loops. Cost O(32 n).
    """
    _, ids = np.unique(np.asarray(words, dtype=np.str_), return_inverse=True)
    longest = 0
    for phrase in range(1, min(_PHRASE, len(ids) // _TIMES) + 1):
        differs = np.flatnonzero(ids[phrase:] != ids[:-phrase])
        edges = np.concatenate([[-1], differs, [len(ids) - phrase]])
        same = int(np.diff(edges).max()) - 1
        if same >= (_TIMES - 1) * phrase:
            longest = max(longest, same + phrase)
    return longest
