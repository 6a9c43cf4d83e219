"""Regions of a map, and the words that tell each from the rest."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from sft_diversity.core.numbers import Floats, Ints

_WORD = re.compile(r"[^\W\d_]{3,}")


def regions(points: Floats, seed: int, most: int) -> tuple[Ints, Floats]:
    """Return the region of every point, and where its name goes: its point nearest the middle."""
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    number = min(most, max(1, len(points) // 50))
    with threadpool_limits(1):
        fitted = KMeans(number, n_init=4, random_state=seed % 2**32).fit(points)
    region = np.asarray(fitted.labels_).astype(np.int64)
    middles = []
    for one in range(number):
        inside = points[region == one]
        far = np.linalg.norm(inside - fitted.cluster_centers_[one], axis=1)
        middles.append(inside[far.argmin()])
    return region, np.array(middles)


def name_regions(texts: Sequence[str], region: Ints, number: int) -> list[list[str]]:
    """Return the three words that mark each region most.

    A word's mark is the share of the region's texts that hold it, times the logarithm of how much
    more frequent it is there than in all; ties go by the alphabet. Words of more than a sixth of
    all texts name nothing, unless there are no others.
    """
    held = [set(_WORD.findall(text[:2_000].lower())) for text in texts]
    everywhere = Counter(word for words in held for word in words)
    named = []
    for one in range(number):
        inside = [words for words, at in zip(held, region, strict=True) if at == one]
        here = Counter(word for words in inside for word in words)
        n = len(inside)
        marks = {
            word: count / n * np.log((count / n) / (everywhere[word] / len(held)))
            for word, count in here.items()
            if count > 1
        }
        rare = {word: mark for word, mark in marks.items() if everywhere[word] <= len(held) / 6}
        marks = rare or marks
        named.append(sorted(marks, key=lambda word: (-marks[word], word))[:3])
    return named


def share_of_each(region: Ints, number: int) -> list[float]:
    """Return the share of the points in each region."""
    counts = np.bincount(region, minlength=number)
    return [round(float(share), 4) for share in counts / max(1, counts.sum())]
