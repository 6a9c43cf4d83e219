"""Overlap with evaluation texts: shared n-grams of words, and texts held whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sft_diversity.clean.compiled import Bounds, Hashes, compiled, mixed
from sft_diversity.clean.evalfiles import EvalText
from sft_diversity.clean.words import hashed, spelled

Ints = npt.NDArray[np.int32]
_BASE = np.uint64(0xD1342543DE82EF95)  # odd
_TOP, _BIT = np.uint64(44), np.uint64(41)  # a hash's byte and bit in the sieve
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
    found, owner, at = _windows(words, starts, width)
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
    table = _table(sought.hashes)
    seen = _sieve(sought.hashes)
    rows, found = _look_up(words, starts, sought.lengths, sought.hashes, table, seen)
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
    return Overlaps(*_overlaps(hits.grams, starts, telling, sought.bounds, sought.of, sought.size))


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


@compiled
def _prefixes(words: Hashes, first: int, last: int) -> Hashes:
    """Return the polynomial hash of every prefix of a text's words."""
    value = np.zeros(last - first + 1, np.uint64)
    for i in range(last - first):
        value[i + 1] = value[i] * _BASE + words[first + i]
    return value


@compiled
def _power(width: int) -> np.uint64:
    power = np.uint64(1)
    for _ in range(width):
        power *= _BASE
    return power


@compiled
def _windows(words: Hashes, starts: Bounds, width: Bounds) -> tuple[Hashes, Ints, Ints]:
    found = np.empty(len(words) + len(starts), np.uint64)
    owner = np.empty(len(found), np.int32)
    place = np.empty(len(found), np.int32)
    at = 0
    for text in range(len(starts) - 1):
        if width[text] < 0:
            continue
        count = starts[text + 1] - starts[text]
        long = width[text] if width[text] > 0 else count
        prefix = _prefixes(words, starts[text], starts[text + 1])
        power = _power(long)
        for i in range(count - long + 1):
            value = prefix[i + long] - prefix[i] * power
            found[at] = mixed(value ^ mixed(np.uint64(width[text])))
            owner[at], place[at] = text, i
            at += 1
    return found[:at].copy(), owner[:at].copy(), place[:at].copy()


@compiled
def _table(hashes: Hashes) -> Ints:
    """Return an open-addressing table of the positions of `hashes`, -1 where empty."""
    size = 16
    while size < 4 * len(hashes):
        size *= 2
    table = np.full(size, -1, np.int32)
    for i in range(len(hashes)):
        slot = hashes[i] & np.uint64(size - 1)
        while table[slot] >= 0:
            slot = (slot + np.uint64(1)) & np.uint64(size - 1)
        table[slot] = i
    return table


@compiled
def _sieve(hashes: Hashes) -> npt.NDArray[np.uint8]:
    """Return a megabyte of bits, set at the top 23 bits of a hash; it stays in the cache."""
    bits = np.zeros(1 << 20, np.uint8)
    for value in hashes:
        bits[value >> _TOP] |= np.uint8(1) << np.uint8(value >> _BIT & np.uint64(7))
    return bits


@compiled
def _look_up(
    words: Hashes,
    starts: Bounds,
    lengths: Bounds,
    hashes: Hashes,
    table: Ints,
    sieve: npt.NDArray[np.uint8],
) -> tuple[Ints, Ints]:
    rows = [np.int32(0) for _ in range(0)]
    found = [np.int32(0) for _ in range(0)]
    mask = np.uint64(len(table) - 1)
    for text in range(len(starts) - 1):
        count = starts[text + 1] - starts[text]
        prefix = _prefixes(words, starts[text], starts[text + 1])
        for width in lengths:
            if count == 0 or count < width or (width == 0 and text % 2):
                continue
            long = width if width > 0 else count
            power = _power(long)
            salt = mixed(np.uint64(width))
            for i in range(count - long + 1):
                value = mixed((prefix[i + long] - prefix[i] * power) ^ salt)
                if not sieve[value >> _TOP] >> np.uint8(value >> _BIT & np.uint64(7)) & 1:
                    continue
                slot = value & mask
                while table[slot] >= 0:
                    if hashes[table[slot]] == value:
                        rows.append(np.int32(text // 2))
                        found.append(table[slot])
                        break
                    slot = (slot + np.uint64(1)) & mask
    return np.array(rows, np.int32), np.array(found, np.int32)


@compiled
def _overlaps(
    held: Ints,
    starts: Bounds,
    telling: npt.NDArray[np.bool_],
    bounds: Bounds,
    of: Ints,
    size: Ints,
) -> tuple[Ints, Ints, Ints, npt.NDArray[np.float64], Ints]:
    n = len(starts) - 1
    rows, texts = np.empty(n, np.int32), np.empty(n, np.int32)
    shared, share = np.empty(n, np.int32), np.empty(n)
    gram = np.empty(n, np.int32)
    counts = np.zeros(len(size), np.int32)
    sign = np.full(len(size), -1, np.int32)  # text -> a gram to show, a telling one if there is
    told = np.zeros(len(size), np.bool_)
    at = 0
    for row in range(n):
        best, best_share = -1, -1.0
        for k in range(starts[row], starts[row + 1]):
            g = held[k]
            for entry in range(bounds[g], bounds[g + 1]):
                t = of[entry]
                counts[t] += 1
                if sign[t] < 0 or (telling[entry] and not told[t]):
                    sign[t], told[t] = g, telling[entry]
        for k in range(starts[row], starts[row + 1]):
            g = held[k]
            for t in of[bounds[g] : bounds[g + 1]]:
                portion = counts[t] / size[t]
                out = told[t] or counts[t] == size[t]
                if out and (portion > best_share or (portion == best_share and t < best)):
                    best, best_share = t, portion
        if best >= 0:
            rows[at], texts[at], shared[at] = row, best, counts[best]
            share[at], gram[at] = best_share, sign[best]
            at += 1
        for k in range(starts[row], starts[row + 1]):
            for t in of[bounds[held[k]] : bounds[held[k] + 1]]:
                counts[t], sign[t], told[t] = 0, -1, False
    return (
        rows[:at].copy(),
        texts[:at].copy(),
        shared[:at].copy(),
        share[:at].copy(),
        gram[:at].copy(),
    )
