"""Where the kinds of a sample stand in its text."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from sft_diversity.core import resources
from sft_diversity.levels.tokenizing import load_tokenizer
from sft_diversity.levels.words import TRANSPARENT, lemmatizer

#: From and to which character, and the kind.
Mark = tuple[int, int, str]
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
_MOST = 20_000  # marks of a sample


def marker(
    kinds: pa.Table, held: Sequence[int], indexed: Mapping[str, Any], tokenizer: str | None
) -> Callable[[str], list[Mark]]:
    """Return what marks some kinds in a text: token types, or phrases; of other levels nothing.

    Parameters
    ----------
    kinds : table
        Of the incidence.
    held : sequence of int
        The kinds to mark.
    indexed : mapping
        Options and figures of the incidence.
    """
    chosen = kinds.take(pa.array(held, pa.int64()))
    level = str(indexed.get("strategy", "")).split("-")[0]
    if level == "micro":
        names = dict(zip(chosen["token_id"].to_pylist(), chosen["kind"].to_pylist(), strict=True))
        return lambda text: tokens(text, names, tokenizer or str(resources.tokenizer()))
    if level == "meso" and "members" in chosen.column_names:
        pairs = zip(chosen["members"].to_pylist(), chosen["kind"].to_pylist(), strict=True)
        phrase_of = {member: kind for members, kind in pairs for member in [*members, kind]}
        return lambda text: phrases(text, phrase_of, str(indexed.get("language", "en")))
    return lambda text: []


def tokens(text: str, names: Mapping[int, str], tokenizer: str) -> list[Mark]:
    """Return where the token types stand whose names are given by token id."""
    found = []
    for token, start, end in load_tokenizer(tokenizer).places(text):
        if token in names and start < end:
            start += text[start] == " " and end - start > 1
            found.append((start, end, readable(names[token])))
    return found[:_MOST]


def readable(name: str) -> str:
    """Return a token's name with a byte-level tokenizer's signs for spaces and breaks as such."""
    return name.replace("\u0120", " ").replace("\u010a", "\n").replace("\u2581", " ")


def phrases(text: str, phrase_of: Mapping[str, str], language: str) -> list[Mark]:
    """Return where phrases stand, whatever their words' endings and the articles between them.

    Parameters
    ----------
    phrase_of : mapping
        From a phrase, words with a space between, to its kind.
    """
    lemma = lemmatizer(language)
    words = [(m.start(), m.end(), m[0].lower()) for m in _WORD.finditer(text)]
    words = [(start, end, lemma(w)) for start, end, w in words if w not in TRANSPARENT]
    by_first: dict[str, list[tuple[list[str], str]]] = {}
    for phrase, kind in phrase_of.items():
        parts = [lemma(word) for word in phrase.split()]
        by_first.setdefault(parts[0], []).append((parts, kind))
    found, free = [], 0
    for i, (start, _, first) in enumerate(words):
        fits = [
            (len(parts), kind)
            for parts, kind in by_first.get(first, ())
            if [word for _, _, word in words[i : i + len(parts)]] == parts
        ]
        if fits and start >= free:
            size, kind = max(fits)
            free = words[i + size - 1][1]
            found.append((start, free, kind))
    return found[:_MOST]
