"""Connected clusters: whoever is alike to a member is a member, and one sample of each stays."""

from __future__ import annotations

import numpy as np

from sft_diversity.cleaning.compiled import Ints
from sft_diversity.cleaning.pairs import COSINE, MINHASH, connect, connect_cosine, root
from sft_diversity.cleaning.settle import (
    BLOCK,
    Alike,
    Find,
    Links,
    Store,
    Verdicts,
    no_verdicts,
)
from sft_diversity.core.vectors import Vectors


def chain(order: Ints, alike: Alike, find: Find, store: Store) -> Verdicts:
    """Let the first in `order` of every connected cluster stay, and no other.

    A sample that goes has a verified link to a member, but may itself be unlike the one that stays.
    Parameters are those of `direct`.

    Notes
    -----
    Pairs that are connected already are not looked at again, so edges are a spanning forest.
    Cosine: O(n**2 * d).
    """
    n = len(alike.buckets)
    parent = np.arange(n, dtype=np.int32)
    forest = [_by_buckets(order, alike, parent)]
    if len(alike.vectors):
        vectors = alike.vectors[order]
        for number, start in enumerate(range(0, len(order), BLOCK)):
            links = find(number)
            if links is None:
                links = _by_cosine(order, vectors, start, alike, parent)
                store(number, links)
            else:
                for a, b in zip(links.first, links.second, strict=True):
                    parent[root(parent, b)] = root(parent, a)
            forest.append(links)
    return _verdicts(order, parent, Links(*map(np.concatenate, zip(*forest, strict=True))))


def _verdicts(order: Ints, parent: Ints, links: Links) -> Verdicts:
    verdicts = no_verdicts(len(parent))
    first = np.full(len(parent), -1, np.int32)  # root -> its best-ranked member
    for row in order:
        at = root(parent, row)
        if first[at] < 0:
            first[at] = row
        else:
            verdicts.twin[row] = first[at]
    for a, b, similarity, by in zip(*links, strict=True):
        for row, other in ((a, b), (b, a)):
            if verdicts.twin[row] >= 0 and similarity > verdicts.similarity[row]:
                verdicts.linked[row] = other
                verdicts.similarity[row] = similarity
                verdicts.by[row] = by
    return verdicts


def _by_buckets(order: Ints, alike: Alike, parent: Ints) -> Links:
    """Connect samples that share a bucket and are alike."""
    of = alike.buckets[order]
    place, band = np.nonzero(of >= 0)
    bucket = of[place, band]
    by_bucket = np.lexsort((place, bucket))
    bounds = np.searchsorted(bucket[by_bucket], np.arange(alike.n_buckets + 1))
    first, second, similarity = connect(
        order[place[by_bucket]], bounds, parent, alike.values, alike.bounds, alike.jaccard
    )
    return Links(first, second, similarity, np.full(len(first), MINHASH, np.int8))


def _by_cosine(order: Ints, vectors: Vectors, start: int, alike: Alike, parent: Ints) -> Links:
    """Connect one block of the order with all before it."""
    rows = order[start : start + BLOCK]
    here = vectors[start : start + BLOCK]
    found = []
    for before in range(0, start + 1, BLOCK):
        others = order[before : before + BLOCK]
        products = here @ vectors[before : before + BLOCK].T
        found.append(
            connect_cosine(
                products, rows, others, before == start, parent,
                alike.vectors, alike.more, alike.cosine,
            )
        )  # fmt: skip
    first, second, similarity = map(np.concatenate, zip(*found, strict=True))
    return Links(first, second, similarity, np.full(len(first), COSINE, np.int8))
