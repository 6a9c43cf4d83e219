"""Candidate units: n-grams of one to three content words that could name what a sample is about.

A candidate ends in a noun, does not begin with a verb (but with the verb of an instruction: "write
story"), crosses no function word and no mark but articles, possessives and "of", and is not made of
light words alone. An instruction's verb also goes with the last word of its phrase, so that "write
a short story" holds "write story" as well.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sft_diversity.core.errors import DataError
from sft_diversity.levels.compiled import (
    TRANSPARENT,
    WORD_BITS,
    place_weights,
    scan,
    sentence_keys,
)

_MASK = (1 << WORD_BITS) - 1
#: What a word weighs in a sentence that many samples share word for word.
_FORM = np.float32(0.2)


@dataclass(frozen=True)
class Occurrences:
    """Where n-grams stand in one stream.

    Attributes
    ----------
    keys : int64 array, shape (m,)
        Packed n-grams over the words of the stream.
    rows : int32 array, shape (m,)
        The text each stands in, ascending.
    weights : float32 array, shape (m,)
        By place in the text; 0 where the n-gram is no candidate there (it is counted all the same).
    """

    keys: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int32]
    weights: npt.NDArray[np.float32]


def find_candidates(
    codes: npt.NDArray[np.int32],
    starts: npt.NDArray[np.int64],
    bits: npt.NDArray[np.int32],
    form: npt.NDArray[np.uint64],
) -> Occurrences:
    """Return the n-grams of a stream.

    Parameters
    ----------
    codes : int32 array, shape (m,)
        Word numbers and the negative codes of `compiled`.
    starts : int64 array, shape (n + 1,)
        Where each text begins.
    bits : int32 array, shape (words,)
        What each word may do, see `compiled`.
    form : uint64 array, shape (f,), ascending
        Sentences that are form, not topic (`sentence_keys`): their words weigh little.

    Raises
    ------
    DataError
        If there are more words than an n-gram can be packed from.

    Notes
    -----
    One compiled pass to count and one to fill; time and memory O(m).
    """
    if len(bits) >= _MASK:
        raise DataError(
            f"index: {len(bits):,} distinct words are too many for meso (limit {_MASK:,}); "
            "raise meso.min_samples"
        )
    weights = place_weights(codes, starts)
    if len(form):
        keys = sentence_keys(codes, starts)
        place = np.minimum(np.searchsorted(form, keys), len(form) - 1)
        weights[form[place] == keys] *= _FORM
    solid = codes != TRANSPARENT
    before = np.concatenate([[0], np.cumsum(solid)])
    codes, starts, weights = codes[solid], before[starts], weights[solid]
    rows = np.repeat(np.arange(len(starts) - 1, dtype=np.int32), np.diff(starts))
    many = scan(codes, bits, weights, *_room(0), False)
    keys, places, found = _room(many)
    scan(codes, bits, weights, keys, places, found, True)
    return Occurrences(keys, rows[places], found)


def _room(
    many: int,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    return np.empty(many, np.int64), np.empty(many, np.int64), np.empty(many, np.float32)


def unpack(keys: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
    """Return the word numbers of packed n-grams, shape (m, 3), -1 for none, first word first."""
    columns = [(keys >> (WORD_BITS * shift)) & _MASK for shift in (2, 1, 0)]
    three = np.stack(columns, axis=1).astype(np.int32) - 1
    filled = (three >= 0).sum(axis=1)
    order = (np.arange(3)[None, :] + (3 - filled)[:, None]) % 3
    return np.take_along_axis(three, order, axis=1)


def pack(words: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """Return packed n-grams of word numbers, shape (m, 3), -1 for none (after the last word)."""
    keys = words[:, 0].astype(np.int64) + 1
    for column in (1, 2):
        longer = (keys << WORD_BITS) | (words[:, column] + 1)
        keys = np.where(words[:, column] >= 0, longer, keys)
    return keys
