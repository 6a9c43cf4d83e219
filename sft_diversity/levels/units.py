"""Which n-grams are units: frequent enough, not too common, words that hang together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sft_diversity.levels.candidates import (
    HEAD,
    JOINER,
    LIGHT,
    TASK,
    WORD_BITS,
    Occurrences,
    unpack,
)

_Ints = npt.NDArray[np.int64]
_Floats = npt.NDArray[np.float64]
_Flags = npt.NDArray[np.bool_]

#: A phrase stands only where its words meet this much more often than by chance.
_LIFT, _LIGHT_LIFT, _TASK_LIFT, _CLOSE_LIFT = 1.0, 3.0, 0.3, 10.0
#: A phrase that is mostly part of one longer phrase weighs half.
_PART_OF_LONGER = 0.5


@dataclass(frozen=True)
class Table:
    """Counted n-grams, ascending by key.

    Attributes
    ----------
    keys : int64 array, shape (u,)
    samples : int64 array, shape (u,)
        Samples that hold the n-gram anywhere.
    candidate : int64 array, shape (u,)
        Samples that hold it where it is a candidate.
    """

    keys: _Ints
    samples: _Ints
    candidate: _Ints


def count_samples(found: Occurrences, keys: _Ints) -> Table:
    """Return in how many texts each n-gram stands; `keys` are those of `found` in normal form."""
    distinct, number = np.unique(keys, return_inverse=True)
    pairs = found.rows.astype(np.int64) * len(distinct) + number
    anywhere = np.unique(pairs) % max(len(distinct), 1)
    good = np.unique(pairs[found.weights > 0]) % max(len(distinct), 1)
    many = len(distinct)
    return Table(distinct, np.bincount(anywhere, minlength=many), np.bincount(good, minlength=many))


def merge_tables(tables: Sequence[Table]) -> Table:
    """Return the sum of the counts of several shards."""
    keys = np.concatenate([t.keys for t in tables])
    distinct, number = np.unique(keys, return_inverse=True)
    samples = np.zeros(len(distinct), dtype=np.int64)
    candidate = np.zeros_like(samples)
    np.add.at(samples, number, np.concatenate([t.samples for t in tables]))
    np.add.at(candidate, number, np.concatenate([t.candidate for t in tables]))
    return Table(distinct, samples, candidate)


@dataclass(frozen=True)
class Units:
    """The units that stand: their n-grams and how well each names a topic.

    Attributes
    ----------
    keys : int64 array, shape (u,), ascending
    words : int32 array, shape (u, 3)
        Word numbers in normal form, -1 for none; joiners are left out.
    samples : int64 array, shape (u,)
    quality : float64 array, shape (u,)
        Weight of the unit whatever the sample.
    """

    keys: _Ints
    words: npt.NDArray[np.int32]
    samples: _Ints
    quality: _Floats


def choose_units(
    table: Table,
    word_samples: _Ints,
    bits: npt.NDArray[np.int32],
    n_samples: int,
    bounds: tuple[int, int],
) -> Units:
    """Return the candidates that are frequent enough, not too common, and hang together.

    Parameters
    ----------
    word_samples, bits : arrays, shape (words,)
        Samples that hold each normal form, and what it may do.
    bounds : (int, int)
        Fewest and most samples of a unit, both included.

    Notes
    -----
    Lift of a phrase is its samples against what chance would give from its words (from its halves
    for three words); of two readings the smaller counts.
    """
    grams = _Grams(table, word_samples, bits)
    lift = grams.lift(n_samples)
    phrase = grams.size > 1
    weak = (grams.first_has(LIGHT) | grams.last_has(LIGHT)) & phrase
    task = grams.first_has(TASK) & phrase
    needed = np.where(task, _TASK_LIFT, np.where(weak, _LIGHT_LIFT, _LIFT))
    needed[~grams.last_has(HEAD) & phrase] = _CLOSE_LIFT
    within = (table.candidate >= bounds[0]) & (table.samples <= bounds[1])
    keep = within & (~phrase | (lift >= needed))
    quality = grams.quality()
    quality[(weak & (lift < _CLOSE_LIFT)) | task] *= 0.8
    quality[grams.parts_of_longer(lift)] *= 0.5
    bare = np.where(grams.joined[:, None], grams.words[:, [0, 2, 1]], grams.words)
    bare[grams.joined, 2] = -1
    return Units(table.keys[keep], bare[keep], table.samples[keep], quality[keep])


class _Grams:
    """The n-grams of a table, taken apart: `words` (u, 3), their `size`, `joined` by "of"."""

    def __init__(self, table: Table, word_samples: _Ints, bits: npt.NDArray[np.int32]) -> None:
        self._table, self._word_samples, self._bits = table, word_samples, bits
        self.words = unpack(table.keys)
        self.size = (self.words >= 0).sum(axis=1)
        self._last = self.words[np.arange(len(self.words)), self.size - 1]
        self.joined = self._has(self.words[:, 1], JOINER) & (self.size == 3)

    def _has(self, words: npt.NDArray[np.int32], bit: int) -> _Flags:
        has: _Flags = (words >= 0) & ((self._bits[np.maximum(words, 0)] & bit) != 0)
        return has

    def first_has(self, bit: int) -> _Flags:
        """Return where the first word may do what `bit` says."""
        return self._has(self.words[:, 0], bit)

    def last_has(self, bit: int) -> _Flags:
        """Return where the last word may do what `bit` says."""
        return self._has(self._last, bit)

    def _find(self, keys: _Ints) -> tuple[_Ints, _Flags]:
        """Return the places of `keys` in the table, and which of them are there."""
        place = np.minimum(np.searchsorted(self._table.keys, keys), len(self._table.keys) - 1)
        return place, self._table.keys[place] == keys

    def _halves(self, three: _Ints) -> tuple[_Ints, _Ints]:
        """Return the keys of the first two and the last two words of n-grams of three."""
        keys = self._table.keys[three]
        return keys >> WORD_BITS, keys & ((1 << 2 * WORD_BITS) - 1)

    def lift(self, n_samples: int) -> _Floats:
        """Return how much more often than by chance the words of each n-gram meet."""
        held = self._table.samples.astype(np.float64) * n_samples
        first, last = self._word_samples[self.words[:, 0]], self._word_samples[self._last]
        chance = np.maximum(first.astype(np.float64) * last, 1)
        lift = np.where(self.size == 1, np.inf, held / chance)
        three = np.flatnonzero((self.size == 3) & ~self.joined)
        readings = []
        for half, other in zip(self._halves(three), (last, first), strict=True):
            place, there = self._find(half)
            samples = np.where(there, self._table.samples[place], 0)
            readings.append(held[three] / np.maximum(samples * other[three], 1))
        lift[three] = np.minimum(*readings)
        return lift

    def quality(self) -> _Floats:
        """Return the weight of each n-gram: phrases above words, by how they hang together."""
        held = self._word_samples[np.maximum(self.words, 0)].astype(np.float64)
        held[self.words < 0] = 1.0
        held[self.joined, 1] = 1.0
        content = self.size - self.joined
        closeness = self._table.samples / np.power(held.prod(axis=1), 1.0 / content)
        closeness = np.sqrt(np.clip(closeness / 0.08, 0.45, 1.0))
        phrase = np.where(self.size == 2, 1.25, 1.35) * closeness
        return np.where(self.size == 1, 0.9, phrase)

    def parts_of_longer(self, lift: _Floats) -> _Flags:
        """Return which stand mostly inside one longer n-gram ("golden gate" of the bridge)."""
        samples = self._table.samples
        longest = np.zeros(len(samples), dtype=np.int64)
        fit = lift >= _LIFT
        three = np.flatnonzero((self.size == 3) & fit & ~self.joined)
        several = np.flatnonzero((self.size > 1) & fit)
        ends = [words[several].astype(np.int64) + 1 for words in (self.words[:, 0], self._last)]
        for longer, part in [(three, half) for half in self._halves(three)] + [
            (several, end) for end in ends
        ]:
            place, there = self._find(part)
            np.maximum.at(longest, place[there], samples[longer][there])
        part_of: _Flags = longest >= _PART_OF_LONGER * np.maximum(samples, 1)
        return part_of
