"""Candidate units: n-grams of one to three content words that could name what a sample is about.

A candidate ends in a noun, does not begin with a verb (but with the verb of an instruction: "write
story"), crosses no function word and no mark but articles, possessives and "of", and is not made of
light words alone. An instruction's verb also goes with the last word of its phrase, so that "write
a short story" holds "write story" as well.

The codes of a stream stand in the file of the loops that read them, see `core.kernels.compiled`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sft_diversity.core.errors import DataError
from sft_diversity.core.kernels import Ints, Kinds, Points, compiled

#: What is no word in a stream. A word's code is its number in the vocabulary, from 0 up.
BREAK, SENTENCE, TRANSPARENT, VERB_NEXT, NOUN_NEXT, FUNCTION, NUMBER, OPTIONS = range(-1, -9, -1)

#: What a word may do in a unit, as bits. HEAD: end one, or be one. TAIL: end a phrase whose words
#: belong together ("climate change": "change" is a verb as often). LIGHT, NAME: not stand alone.
#: OUT: takes no part; a stream has FUNCTION in its place.
HEAD, TAIL, VERB, ADVERB, LIGHT, NAME, TASK, JOINER, OUT = (1 << i for i in range(9))

#: Bits a word number takes in a packed n-gram: three fit into an int64. Zero is "no word".
WORD_BITS = 21
_NOT_FIRST = VERB | ADVERB
_WEAK = LIGHT | NAME
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
        Word numbers and the negative codes above.
    starts : int64 array, shape (n + 1,)
        Where each text begins.
    bits : int32 array, shape (words,)
        What each word may do.
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
        sentences = sentence_keys(codes, starts)
        place = np.minimum(np.searchsorted(form, sentences), len(form) - 1)
        weights[form[place] == sentences] *= _FORM
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


@compiled
def place_weights(
    codes: npt.NDArray[np.int32], starts: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32]:
    """Return each word's weight by its sentence: the first and the last say what is asked.

    The first and last sentence weigh 1, their neighbours 0.7, the others 0.4; in a list of choices
    everything weighs 0.2 of that.
    """
    weights = np.zeros(len(codes), dtype=np.float32)
    sentence = np.zeros(len(codes), dtype=np.int32)
    for row in range(len(starts) - 1):
        number = 0
        ended = True
        for i in range(starts[row], starts[row + 1]):
            if codes[i] == SENTENCE or codes[i] == OPTIONS:
                ended = True
            elif codes[i] >= 0:
                if ended:
                    number += 1
                    ended = False
                sentence[i] = number
        choices = np.float32(1.0)
        for i in range(starts[row], starts[row + 1]):
            if codes[i] == OPTIONS:
                choices = np.float32(0.2)
            elif codes[i] >= 0:
                from_edge = min(sentence[i] - 1, number - sentence[i])
                place = 1.0 if from_edge == 0 else 0.7 if from_edge == 1 else 0.4
                weights[i] = choices * np.float32(place)
    return weights


@compiled
def sentence_keys(
    codes: npt.NDArray[np.int32], starts: npt.NDArray[np.int64]
) -> npt.NDArray[np.uint64]:
    """Return for each place of a stream a hash of its sentence, 0 outside of sentences."""
    keys = np.zeros(len(codes), dtype=np.uint64)
    for row in range(len(starts) - 1):
        begin = starts[row]
        for i in range(starts[row], starts[row + 1]):
            if codes[i] == SENTENCE or codes[i] == OPTIONS:
                key = np.uint64(1469598103934665603)  # FNV-1a, over codes in place of bytes
                for j in range(begin, i):
                    key = (key ^ np.uint64(codes[j] + 16)) * np.uint64(1099511628211)
                for j in range(begin, i):
                    keys[j] = key
                begin = i + 1
    return keys


@compiled
def scan(
    codes: Kinds, bits: Kinds, weights: Points, keys: Ints, places: Ints, found: Points, fill: bool
) -> int:
    """Count the n-grams of a stream, or with `fill` write them; return how many.

    See `find_candidates`, which calls it twice: to count, and to fill `keys`, `places` and `found`
    (the weight of a candidate, 0 for any other n-gram), all of that length.
    """
    many = 0
    last = len(codes)
    for i in range(last):
        if codes[i] < 0 or bits[codes[i]] & JOINER:
            continue
        a = codes[i]
        before = codes[i - 1] if i > 0 else SENTENCE
        opens = bits[a] & TASK and before in (SENTENCE, VERB_NEXT, BREAK)
        first = opens or not bits[a] & _NOT_FIRST
        key = np.int64(a + 1)
        for size in range(1, 4):
            end = i + size - 1
            if end >= last or codes[end] < 0:
                break
            if size > 1:
                key = (key << WORD_BITS) | (codes[end] + 1)
            good = (
                bits[codes[end]] & (HEAD if size == 1 else TAIL) and not bits[codes[end]] & JOINER
            )
            if size == 1:
                good = good and not bits[a] & _WEAK
            elif size == 2:
                weak = bits[a] & _WEAK and bits[codes[end]] & _WEAK
                asked = opens and before == SENTENCE
                good = good and first and (asked or not weak)
            else:
                mid = bits[codes[i + 1]]
                weak = bits[a] & _WEAK and bits[codes[end]] & _WEAK and mid & (_WEAK | JOINER)
                inner = (
                    bits[a] & HEAD and not bits[a] & LIGHT if mid & JOINER else not mid & _NOT_FIRST
                )
                good = good and first and inner and not weak
            if fill:
                keys[many] = key
                places[many] = i
                found[many] = weights[i] if good else 0.0
            many += 1
        if opens:
            end = i
            while end + 1 < last and codes[end + 1] >= 0 and not bits[codes[end + 1]] & JOINER:
                end += 1
            z = codes[end]
            if end > i + 1 and bits[z] & HEAD:
                if fill:
                    keys[many] = (np.int64(a + 1) << WORD_BITS) | (z + 1)
                    places[many] = i
                    found[many] = weights[i]
                many += 1
    return many
