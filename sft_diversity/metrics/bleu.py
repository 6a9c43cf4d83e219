"""Self-BLEU: how well the other texts of a set predict each of its texts."""

from __future__ import annotations

import numpy as np

from sft_diversity.core.numbers import Floats, Ints
from sft_diversity.metrics.texts import Words, ngrams

MAX_ORDER = 4


def self_bleu(words: Words) -> Floats:
    """Return for each text its BLEU against all others as references, 0 to 1, shape (n,).

    Sentence BLEU-4 as sacrebleu computes it with `effective_order` and its default smoothing
    (`exp`: each order without a match halves the next stand-in). The mean over the texts is
    self-BLEU (Zhu et al. 2018, arXiv:1802.01886); it rises with the number of texts.

    Raises
    ------
    ValueError
        If there are fewer than two texts: there would be no reference.

    Notes
    -----
    BLEU clips an n-gram's count by the largest count in any reference. Over "all but one" that is
    the largest count, or the second largest for the text that has the largest; so all n scores take
    O(t log t) for t words, where comparing all pairs takes O(n · t).
    """
    n = len(words.starts) - 1
    if n < 2:
        raise ValueError(f"self-BLEU needs two texts, not {n}")
    correct = np.zeros((MAX_ORDER, n))
    total = np.zeros((MAX_ORDER, n))
    for order, (grams, owners) in enumerate(ngrams(words, MAX_ORDER)):
        total[order] = np.bincount(owners, minlength=n)
        correct[order] = _matches(grams, owners, n)
    return _scores(correct, total, words.lengths)


def _matches(grams: Ints, owners: Ints, n: int) -> Floats:
    """Return for each text how many of its n-grams the others match, clipped."""
    if not len(grams):
        return np.zeros(n)
    keys, counts = np.unique(grams * n + owners, return_counts=True)
    gram, owner = keys // n, keys % n
    order = np.lexsort((-counts, gram))  # by n-gram, largest count first
    gram, owner, counts = gram[order], owner[order], counts[order]
    first = np.flatnonzero(np.diff(gram, prepend=-1))
    group = np.cumsum(np.diff(gram, prepend=-1) != 0) - 1
    best = counts[first][group]
    sizes = np.diff(np.append(first, len(gram)))
    second = np.where(sizes > 1, counts[np.minimum(first + 1, len(gram) - 1)], 0)
    is_first = np.zeros(len(gram), dtype=np.bool_)
    is_first[first] = True
    others = np.where(is_first, second[group], best)
    matched = np.bincount(owner, weights=np.minimum(counts, others), minlength=n)
    return matched.astype(np.float64)


def _scores(correct: Floats, total: Floats, lengths: Ints) -> Floats:
    """Return BLEU from clipped matches and totals, both shape (orders, n)."""
    there = total > 0
    missed = there & (correct == 0)
    halvings = np.cumsum(missed, axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.where(missed, 0.5**halvings, correct) / total
        logs = np.where(there, np.log(precision), 0.0).sum(axis=0) / there.sum(axis=0)
        longer = 1 - _closest(lengths) / lengths  # below 0 where the reference is longer
        scores = np.exp(logs + np.minimum(longer, 0.0))
    return np.where(correct.any(axis=0), scores, 0.0)


def _closest(lengths: Ints) -> Ints:
    """Return for each text the nearest length among the others, the shorter one of two."""
    order = np.argsort(lengths, kind="stable")
    ranked = lengths[order]
    far = np.iinfo(np.int64).max // 4
    below = np.concatenate([[-far], ranked[:-1]])
    above = np.concatenate([ranked[1:], [far]])
    nearest = np.where(ranked - below <= above - ranked, below, above)
    found = np.empty_like(nearest)
    found[order] = nearest
    return found
