"""Texts to numbered words: what n-gram ratios and self-BLEU count."""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

_ENTITIES = (("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">"))
_SPLITS = (
    (re.compile(r"([{-~\[-`!-&(-+:-@/])"), r" \1 "),
    (re.compile(r"([^0-9])([.,])"), r"\1 \2 "),  # not the decimal point
    (re.compile(r"([.,])([^0-9])"), r" \1 \2"),
    (re.compile(r"([0-9])(-)"), r"\1 \2 "),
)


@dataclass(frozen=True)
class Words:
    """The words of some texts, end to end, as numbers.

    Attributes
    ----------
    ids : int64 array, shape (t,)
        Equal words have equal numbers, 0 to `vocabulary` − 1.
    starts : int64 array, shape (n + 1,)
        Text i is `ids[starts[i]:starts[i + 1]]`.
    vocabulary : int
    """

    ids: Ints
    starts: Ints
    vocabulary: int

    @property
    def lengths(self) -> Ints:
        """Words of each text, shape (n,)."""
        return np.diff(self.starts)

    def take(self, texts: Ints) -> Words:
        """Return the words of some texts, in that order; words keep their numbers."""
        parts = [self.ids[self.starts[i] : self.starts[i + 1]] for i in texts]
        starts = np.concatenate([[0], np.cumsum(self.lengths[texts])])
        return Words(np.concatenate([np.empty(0, np.int64), *parts]), starts, self.vocabulary)


def split(text: str) -> list[str]:
    """Return the words and punctuation marks of a text; case is kept.

    The rules of mteval-v13a, the standard of BLEU (Post 2018, arXiv:1804.08771), which are made
    for languages that put spaces between words.
    """
    line = text.rstrip().replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    if "&" in line:
        for entity, character in _ENTITIES:
            line = line.replace(entity, character)
    line = f" {line} "
    for pattern, replacement in _SPLITS:
        line = pattern.sub(replacement, line)
    return line.split()


def number(texts: Sequence[str]) -> Words:
    """Return the words of `texts` as numbers."""
    known: defaultdict[str, int] = defaultdict(itertools.count().__next__)
    parts, starts = [np.empty(0, np.int64)], np.zeros(len(texts) + 1, dtype=np.int64)
    for i, text in enumerate(texts):
        found = split(text)
        parts.append(np.fromiter(map(known.__getitem__, found), np.int64, len(found)))
        starts[i + 1] = starts[i] + len(found)
    return Words(np.concatenate(parts), starts, len(known))
