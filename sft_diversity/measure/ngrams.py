"""n-gram ratios: how many of a data set's n-grams are different ones."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sft_diversity.measure.words import Ints, Words


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


def distinct_ratios(words: Words, max_order: int = 4) -> list[float | None]:
    """Return distinct-n for n = 1 to `max_order`: different n-grams over all n-grams.

    None where there are no n-grams of that order. Order 1 is the type-token ratio. Falls with the
    size of the data set (Heaps' law): compare data sets of about the same number of words.
    Li et al. 2016, arXiv:1510.03055, counted over the whole data set.
    """
    return [
        len(np.unique(grams)) / len(grams) if len(grams) else None
        for grams, _ in ngrams(words, max_order)
    ]
