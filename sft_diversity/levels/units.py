"""Which candidates are units, and which units a sample holds: counting, weighting, choosing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt

from sft_diversity.levels.candidates import Occurrences, unpack
from sft_diversity.levels.compiled import HEAD, JOINER, LIGHT, TASK, WORD_BITS

_Ints = npt.NDArray[np.int64]
_Floats = npt.NDArray[np.float64]

#: Rarer units weigh no more than one held by this many samples: a rare word is not a topic.
_RAREST = 30
#: How fast repeats stop counting: weight / (weight + this).
_SATURATION = 0.8
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
    words = unpack(table.keys)
    joined = _has(bits, words[:, 1], JOINER) & (words[:, 2] >= 0)
    size = (words >= 0).sum(axis=1)
    last = words[np.arange(len(words)), size - 1]
    lift = _lift(table, words, size, joined, last, word_samples, n_samples)
    weak = (_has(bits, words[:, 0], LIGHT) | _has(bits, last, LIGHT)) & (size > 1)
    task = _has(bits, words[:, 0], TASK) & (size > 1)
    needed = np.where(task, _TASK_LIFT, np.where(weak, _LIGHT_LIFT, _LIFT))
    needed[~_has(bits, last, HEAD) & (size > 1)] = _CLOSE_LIFT
    within = (table.candidate >= bounds[0]) & (table.samples <= bounds[1])
    keep = within & ((size == 1) | (lift >= needed))
    quality = _quality(table, words, size, joined, word_samples)
    quality[(weak & (lift < _CLOSE_LIFT)) | task] *= 0.8
    quality[_parts_of_longer(table, words, size, joined, lift)] *= 0.5
    bare = np.where(joined[:, None], words[:, [0, 2, 1]], words)
    bare[joined, 2] = -1
    return Units(table.keys[keep], bare[keep], table.samples[keep], quality[keep])


def _lift(
    table: Table,
    words: npt.NDArray[np.int32],
    size: npt.NDArray[np.int64],
    joined: npt.NDArray[np.bool_],
    last: npt.NDArray[np.int32],
    word_samples: _Ints,
    n_samples: int,
) -> _Floats:
    """Return how much more often than by chance the words of each n-gram meet."""
    held = table.samples.astype(np.float64) * n_samples
    ends = word_samples[words[:, 0]].astype(np.float64) * word_samples[last]
    lift = np.where(size == 1, np.inf, held / np.maximum(ends, 1))
    three = np.flatnonzero((size == 3) & ~joined)
    head = _samples_of(table, table.keys[three] >> WORD_BITS)
    tail = _samples_of(table, table.keys[three] & ((1 << 2 * WORD_BITS) - 1))
    by_head = held[three] / np.maximum(head * word_samples[last[three]], 1)
    by_tail = held[three] / np.maximum(tail * word_samples[words[three, 0]], 1)
    lift[three] = np.minimum(by_head, by_tail)
    return lift


def _samples_of(table: Table, keys: _Ints) -> _Ints:
    place = np.minimum(np.searchsorted(table.keys, keys), max(len(table.keys) - 1, 0))
    if not len(keys):
        return np.empty(0, dtype=np.int64)
    return np.where(table.keys[place] == keys, table.samples[place], 0)


def _quality(
    table: Table,
    words: npt.NDArray[np.int32],
    size: npt.NDArray[np.int64],
    joined: npt.NDArray[np.bool_],
    word_samples: _Ints,
) -> _Floats:
    """Return the weight of each n-gram: phrases above words, by how closely they hang together."""
    held = word_samples[np.maximum(words, 0)].astype(np.float64)
    held[words < 0] = 1.0
    held[joined, 1] = 1.0
    content = size - joined
    closeness = table.samples / np.power(held.prod(axis=1), 1.0 / content)
    closeness = np.sqrt(np.clip(closeness / 0.08, 0.45, 1.0))
    phrase = np.where(size == 2, 1.25, 1.35) * closeness
    return np.where(size == 1, 0.9, phrase)


def _parts_of_longer(
    table: Table,
    words: npt.NDArray[np.int32],
    size: npt.NDArray[np.int64],
    joined: npt.NDArray[np.bool_],
    lift: _Floats,
) -> npt.NDArray[np.bool_]:
    """Return which n-grams stand mostly inside one longer n-gram ("golden gate" of the bridge)."""
    longest = np.zeros(len(table.keys), dtype=np.int64)
    fit = lift >= _LIFT
    three = np.flatnonzero((size == 3) & fit & ~joined)
    two = np.flatnonzero((size > 1) & fit)
    ends = words[np.arange(len(words)), size - 1].astype(np.int64) + 1
    inside = (
        (three, table.keys[three] >> WORD_BITS),
        (three, table.keys[three] & ((1 << 2 * WORD_BITS) - 1)),
        (two, words[two, 0].astype(np.int64) + 1),
        (two, ends[two]),
    )
    for longer, part in inside:
        if len(part):
            place = np.minimum(np.searchsorted(table.keys, part), len(table.keys) - 1)
            hit = table.keys[place] == part
            np.maximum.at(longest, place[hit], table.samples[longer][hit])
    part_of: npt.NDArray[np.bool_] = longest >= _PART_OF_LONGER * np.maximum(table.samples, 1)
    return part_of


def _has(
    bits: npt.NDArray[np.int32], words: npt.NDArray[np.int32], bit: int
) -> npt.NDArray[np.bool_]:
    has: npt.NDArray[np.bool_] = (words >= 0) & ((bits[np.maximum(words, 0)] & bit) != 0)
    return has


@dataclass(frozen=True)
class Held:
    """Which units the samples could hold, row by row (and unit by unit within a row).

    Attributes
    ----------
    rows, units : int32 arrays, shape (p,)
    weights : float32 array, shape (p,)
        Sum of the place weights of the unit's occurrences.
    counts : int32 array, shape (p,)
        How often it occurs.
    """

    rows: npt.NDArray[np.int32]
    units: npt.NDArray[np.int32]
    weights: npt.NDArray[np.float32]
    counts: npt.NDArray[np.int32]


def hold(found: Occurrences, keys: _Ints, unit_keys: _Ints) -> Held:
    """Return the pairs of texts and units, given the normal-form keys of `found`."""
    if not len(unit_keys):
        empty = np.empty(0, dtype=np.int32)
        return Held(empty, empty, empty.astype(np.float32), empty)
    place = np.minimum(np.searchsorted(unit_keys, keys), len(unit_keys) - 1)
    hit = (unit_keys[place] == keys) & (found.weights > 0)
    pairs = found.rows[hit].astype(np.int64) * len(unit_keys) + place[hit]
    distinct, number, counts = np.unique(pairs, return_inverse=True, return_counts=True)
    weights = np.bincount(number, found.weights[hit], minlength=len(distinct))
    return Held(
        (distinct // len(unit_keys)).astype(np.int32),
        (distinct % len(unit_keys)).astype(np.int32),
        weights.astype(np.float32),
        counts.astype(np.int32),
    )


def scores(held: Held, quality: _Floats, samples: _Ints, n_samples: int) -> _Floats:
    """Return what each pair is worth: place weight, rarity of the unit, quality of the unit."""
    rarity = np.log(max(n_samples, 2) / np.clip(samples, _rarest(n_samples), None))
    strength = held.weights / (held.weights + _SATURATION)
    worth: _Floats = strength * (np.maximum(rarity, 0.1) * quality)[held.units]
    return worth


def _rarest(n_samples: int) -> float:
    return min(_RAREST, max(1.0, n_samples / 4))


@numba.njit(cache=True)
def pick_per_sample(rows, units, scores, words, kind_of, max_units, least):  # type: ignore[no-untyped-def]
    """Return which pairs are chosen: in each sample the best units that say different things.

    Parameters
    ----------
    rows, units : int32 arrays, shape (p,)
        Pairs, ascending by row and unit.
    scores : float64 array, shape (p,)
        Pairs with a score of 0 or less are never chosen.
    words : int32 array, shape (u, 3)
        Words of each unit, -1 for none.
    kind_of : int32 array, shape (u,)
        The kind each unit counts for; a sample holds a kind once.
    max_units : int
        Most units of a sample.
    least : float
        Least score, as a share of the sample's best.

    Notes
    -----
    Greedy, best first, ties to the lower unit; a unit that shares half of its words (of the shorter
    one) with a chosen unit is passed over. Time O(p · max_units) for few pairs a sample.
    """
    chosen = np.zeros(len(rows), dtype=np.bool_)
    taken = np.empty(max_units, dtype=np.int64)
    start = 0
    while start < len(rows):
        end = start
        while end < len(rows) and rows[end] == rows[start]:
            end += 1
        order = np.argsort(-scores[start:end], kind="mergesort")
        best = scores[start + order[0]]
        many = 0
        for k in order:
            i = start + k
            if many == max_units or scores[i] <= 0 or scores[i] < least * best:
                break
            fresh = True
            for t in range(many):
                u = units[taken[t]]
                if kind_of[u] == kind_of[units[i]] or _overlap(words[u], words[units[i]]):
                    fresh = False
                    break
            if fresh:
                chosen[i] = True
                taken[many] = i
                many += 1
        start = end
    return chosen


@numba.njit(cache=True)
def _overlap(a, b):  # type: ignore[no-untyped-def]
    """Whether two units share at least half of the words of the shorter one."""
    shared = 0
    size_a = 0
    size_b = 0
    for x in a:
        size_a += x >= 0
        for y in b:
            shared += x >= 0 and x == y
    for y in b:
        size_b += y >= 0
    return 2 * shared >= min(size_a, size_b)
