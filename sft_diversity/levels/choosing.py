"""Which units a sample holds: what each is worth there, and the best that say different things."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sft_diversity.core.kernels import Floats, Ints, Kinds, Mask, compiled
from sft_diversity.levels.candidates import Occurrences
from sft_diversity.levels.units import Units

#: Rarer units weigh no more than one held by this many samples: a rare word is not a topic.
_RAREST = 30
#: How fast repeats stop counting: weight / (weight + this).
_SATURATION = 0.8


class Held(NamedTuple):
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


def hold(found: Occurrences, keys: Ints, unit_keys: Ints, first: int) -> Held:
    """Return the pairs of texts and units (one at least).

    `keys` are those of `found` in normal form, `first` is the row of its first text.
    """
    place = np.minimum(np.searchsorted(unit_keys, keys), len(unit_keys) - 1)
    hit = (unit_keys[place] == keys) & (found.weights > 0)
    pairs = found.rows[hit].astype(np.int64) * len(unit_keys) + place[hit]
    distinct, number, counts = np.unique(pairs, return_inverse=True, return_counts=True)
    weights = np.bincount(number, found.weights[hit], minlength=len(distinct))
    return Held(
        (distinct // len(unit_keys) + first).astype(np.int32),
        (distinct % len(unit_keys)).astype(np.int32),
        weights.astype(np.float32),
        counts.astype(np.int32),
    )


class Chooser:
    """Chooses the units of every sample, again and again as units leave or become one kind.

    Parameters
    ----------
    min_samples, max_units : int
        Fewest samples that choose a unit that stands, and most units of a sample.
    least_score : float
        Least score of a unit, as a share of its sample's best.
    """

    def __init__(
        self,
        units: Units,
        held: Held,
        n_samples: int,
        *,
        min_samples: int,
        max_units: int,
        least_score: float,
    ) -> None:
        self._units, self._held, self._n = units, held, n_samples
        self._least, self._max_units, self._least_score = min_samples, max_units, least_score

    def _pick(self, kind_of: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
        """Return which pairs are chosen; units of kind -1 take no part."""
        held, units = self._held, self._units
        alive = kind_of >= 0
        samples = np.maximum(units.samples, units.samples[np.maximum(kind_of, 0)])
        worth = scores(held, units.quality, samples, self._n)
        worth[~alive[held.units]] = 0.0
        return pick_per_sample(
            held.rows,
            held.units,
            worth,
            units.words,
            kind_of,
            self._max_units,
            self._least_score,
        )

    def usage(self) -> Ints:
        """Return how many samples choose each unit, each unit a kind of its own."""
        many = len(self._units.keys)
        picked = self._pick(np.arange(many, dtype=np.int32))
        return np.bincount(self._held.units[picked], minlength=many)

    def final(self, kind_of: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
        """Return the chosen pairs of the kinds that enough samples hold in the end.

        A kind that too few samples chose leaves `kind_of`, and its samples choose once more.
        """
        for _ in range(2):
            picked = self._pick(kind_of)
            kinds = kind_of[self._held.units[picked]]
            rare = np.bincount(kinds, minlength=len(kind_of)) < self._least
            kind_of[rare[np.maximum(kind_of, 0)]] = -1
        return picked & (kind_of[self._held.units] >= 0)


def scores(held: Held, quality: Floats, samples: Ints, n_samples: int) -> Floats:
    """Return what each pair is worth: place weight, rarity of the unit, quality of the unit."""
    rarity = np.log(max(n_samples, 2) / np.clip(samples, _rarest(n_samples), None))
    strength = held.weights / (held.weights + _SATURATION)
    worth: Floats = strength * (np.maximum(rarity, 0.1) * quality)[held.units]
    return worth


def _rarest(n_samples: int) -> float:
    return min(_RAREST, max(1.0, n_samples / 4))


@compiled
def pick_per_sample(
    rows: Kinds,
    units: Kinds,
    scores: Floats,
    words: Kinds,
    kind_of: Kinds,
    max_units: int,
    least: float,
) -> Mask:
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


@compiled
def _overlap(a: Kinds, b: Kinds) -> bool:
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
