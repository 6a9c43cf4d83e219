"""n-gram ratios: how many of a data set's n-grams are different ones."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from sft_diversity.metrics.words import Ints, Words


def ngrams(words: Words, max_order: int) -> Iterator[tuple[Ints, Ints]]:
    """Yield for n = 1 to `max_order` the n-grams of the texts and whose they are.

    Yields
    ------
    grams : int64 array
        One number an n-gram in reading order, equal for equal n-grams; none spans two texts.
    owners : int64 array
        The text of each.

    Notes
    -----
    An n-gram is numbered by the rank of the pair (its first n − 1 words, its last word), so that no
    two share a number. Time O(t log t) an order.
    """
    owners = np.repeat(np.arange(len(words.starts) - 1), words.lengths)
    left = words.starts[owners + 1] - np.arange(len(owners))  # words from here to the text's end
    grams, places = words.ids, np.arange(len(owners))
    yield grams, owners
    for order in range(2, max_order + 1):
        kept = left[places] >= order
        places = places[kept]
        pairs = grams[kept] * words.vocabulary + words.ids[places + order - 1]
        grams = np.unique(pairs, return_inverse=True)[1].reshape(-1)
        yield grams, owners[places]


def distinct_ratio(counts: Ints) -> float | None:
    """Return distinct-n: different n-grams over all n-grams, given how often each occurs.

    None without n-grams. For words it is the type-token ratio. Falls with the size of the data set
    (Heaps' law): compare data sets of about the same number of words, or `rarefied_ratio`.
    Li et al. 2016, arXiv:1510.03055, counted over the whole data set.
    """
    total = int(counts.sum())
    return len(counts) / total if total else None


def rarefied_ratio(counts: Ints, size: int) -> float | None:
    """Return the distinct-n to expect of `size` n-grams drawn from all; None if there are fewer.

    Does not grow or fall with the size of the data set or the length of its texts. Exact:
    Σ 1 − C(N − c, size) / C(N, size) over the counts c (rarefaction, Hurlbert 1971; with 42 words
    it is HD-D, McCarthy & Jarvis 2010).
    """
    total = int(counts.sum())
    if total < size or not total:
        return None
    expected = 0.0
    for count, types in zip(*np.unique(counts, return_counts=True), strict=True):
        rest = total - int(count)
        absent = math.exp(_log_choose(rest, size) - _log_choose(total, size)) if rest >= size else 0
        expected += int(types) * (1.0 - absent)
    return expected / size


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
