"""Overlap with evaluation texts: shared n-grams of words, and texts held whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sft_diversity.cleaning.compiled import Bounds, Hashes, Ints
from sft_diversity.cleaning.evalfiles import EvalText
from sft_diversity.cleaning.hashes import looked_up, overlapping, sieve_of, table_of, windows
from sft_diversity.cleaning.words import hashed, spelled

_WHOLE = 0  # the "length" of a text that must be an instruction whole


@dataclass(frozen=True)
class Grams:
    """What the evaluation texts hold that a sample may not.

    Texts of at least n words give their n-grams; shorter ones, of at least `min_words`, give
    themselves; prompts that are shorter still count only as a sample's whole instruction.
    """

    texts: Sequence[EvalText]
    lengths: npt.NDArray[np.int64]  # which windows are looked up, 0 for a whole instruction
    hashes: Hashes  # (g,), ascending
    bounds: Bounds  # (g + 1,): gram -> its texts
    of: Ints  # texts, by gram
    at: Ints  # the word where the gram begins first, beside `of`
    size: Ints  # distinct grams a text
    words: npt.NDArray[np.int64]  # words a gram, beside `hashes`
    starts: Bounds  # (texts + 1,): text -> its words
    places: npt.NDArray[np.int64]  # every word at which a gram begins, counted over all texts
    begun: Ints  # the gram that begins there, beside `places`
    least: int  # words that an overlap must have, boilerplate aside

    def spelled(self, gram: int, text: int) -> str:
        """Return a gram of a text in words."""
        place = int(self.bounds[gram])
        place += int(np.flatnonzero(self.of[place : self.bounds[gram + 1]] == text)[0])
        start = int(self.at[place])
        return " ".join(spelled(self.texts[text].text)[start : start + int(self.words[gram])])


def grams(texts: Sequence[EvalText], size: int, min_words: int) -> Grams:
    """Return what `texts` hold; texts too short to tell anything hold nothing."""
    words, starts = hashed([text.text for text in texts], symbols=False)
    counts = np.diff(starts)
    prompt = np.array([text.role == "prompt" for text in texts], bool)
    least = min(min_words, size)
    width = np.where(counts >= size, size, np.where(counts >= least, counts, _WHOLE))
    width[(counts == 0) | ((width == _WHOLE) & ~prompt)] = -1
    found, owner, at = windows(words, starts, width)
    order = np.lexsort((at, owner, found))
    found, owner, at = found[order], owner[order], at[order]
    places = starts[owner] + at
    begun = np.unique(found, return_inverse=True)[1].astype(np.int32)
    new = np.ones(len(found), bool)
    new[1:] = (found[1:] != found[:-1]) | (owner[1:] != owner[:-1])
    found, owner, at = found[new], owner[new], at[new]
    hashes, first = np.unique(found, return_index=True)
    return Grams(
        texts=texts,
        lengths=np.unique(width[width >= 0]),
        hashes=hashes,
        bounds=np.append(first, len(found)).astype(np.int64),
        of=owner,
        at=at,
        size=np.bincount(owner, minlength=len(texts)).astype(np.int32),
        words=np.where(width == _WHOLE, counts, width)[owner[first]],
        starts=starts,
        places=places,
        begun=begun,
        least=least,
    )


class Hits(NamedTuple):
    """Which samples hold which grams, each pair once, by sample."""

    rows: Ints
    grams: Ints


def look_up(instructions: Sequence[str], responses: Sequence[str], sought: Grams) -> Hits:
    """Return the grams that samples hold in either component.

    Notes
    -----
    One look-up a word and window length, in a table of four times the grams' number.
    """
    texts = [text for pair in zip(instructions, responses, strict=True) for text in pair]
    words, starts = hashed(texts, symbols=False)
    table = table_of(sought.hashes)
    seen = sieve_of(sought.hashes)
    rows, found = looked_up(words, starts, sought.lengths, sought.hashes, table, seen)
    pairs = np.unique(rows.astype(np.int64) << 32 | found)
    return Hits((pairs >> 32).astype(np.int32), (pairs & 0xFFFFFFFF).astype(np.int32))


class Overlaps(NamedTuple):
    """For each contaminated sample: the text it shares most of, how much, and a gram they share."""

    rows: Ints
    texts: Ints
    shared: Ints  # grams
    share: npt.NDArray[np.float64]  # of the text's grams
    grams: Ints


def overlaps(hits: Hits, n_rows: int, sought: Grams, common: int) -> Overlaps:
    """Return the samples that hold a telling gram of a text, or all of a text's grams.

    A gram that more than `common` samples hold is boilerplate, such as the opening of a template,
    and so are its words; a gram is telling if it is none and `min_words` of its words are not. A
    text that is held in all its grams was leaked even so, be it a hundred times.
    """
    boilerplate = np.bincount(hits.grams, minlength=len(sought.hashes)) > common
    starts = np.searchsorted(hits.rows, np.arange(n_rows + 1)).astype(np.int64)
    telling = _telling(boilerplate, sought)
    return Overlaps(
        *overlapping(hits.grams, starts, telling, sought.bounds, sought.of, sought.size)
    )


def _telling(boilerplate: npt.NDArray[np.bool_], sought: Grams) -> npt.NDArray[np.bool_]:
    """Return, beside `sought.of`, whether a gram tells that its text was leaked."""
    edges = np.zeros(int(sought.starts[-1]) + 1, np.int64)
    common = boilerplate[sought.begun]
    np.add.at(edges, sought.places[common], 1)
    np.add.at(edges, (sought.places + sought.words[sought.begun])[common], -1)
    free = np.concatenate([[0], np.cumsum(np.cumsum(edges[:-1]) == 0)])  # words, up to each
    gram = np.repeat(np.arange(len(sought.hashes)), np.diff(sought.bounds))
    first = sought.starts[sought.of] + sought.at
    words = sought.words[gram]
    enough = free[first + words] - free[first] >= np.minimum(words, sought.least)
    telling: npt.NDArray[np.bool_] = enough & ~boilerplate[gram]
    return telling
