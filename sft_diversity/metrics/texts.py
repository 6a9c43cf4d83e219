"""What the texts of a data set say: words, n-grams, lengths, how well they predict one another."""

from __future__ import annotations

import gzip
import itertools
import math
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sft_diversity.core.numbers import Floats, Ints

MAX_ORDER = 4  # of the n-grams of BLEU
_ENTITIES = (("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">"))
_SPLITS = (
    (re.compile(r"([{-~\[-`!-&(-+:-@/])"), r" \1 "),
    (re.compile(r"([^0-9])([.,])"), r"\1 \2 "),  # not the decimal point
    (re.compile(r"([.,])([^0-9])"), r" \1 \2"),
    (re.compile(r"([0-9])(-)"), r"\1 \2 "),
)


@dataclass(frozen=True)
class Words:
    """The words of some texts, end to end, as numbers.

    Attributes
    ----------
    ids : int64 array, shape (t,)
        Equal words have equal numbers, 0 to `vocabulary` − 1.
    starts : int64 array, shape (n + 1,)
        Text i is `ids[starts[i]:starts[i + 1]]`.
    vocabulary : int
    """

    ids: Ints
    starts: Ints
    vocabulary: int

    @property
    def lengths(self) -> Ints:
        """Words of each text, shape (n,)."""
        return np.diff(self.starts)

    def take(self, texts: Ints) -> Words:
        """Return the words of some texts, in that order; words keep their numbers."""
        parts = [self.ids[self.starts[i] : self.starts[i + 1]] for i in texts]
        starts = np.concatenate([[0], np.cumsum(self.lengths[texts])])
        return Words(np.concatenate([np.empty(0, np.int64), *parts]), starts, self.vocabulary)


def split(text: str) -> list[str]:
    """Return the words and punctuation marks of a text; case is kept.

    The rules of mteval-v13a, the standard of BLEU (Post 2018, arXiv:1804.08771), which are made
    for languages that put spaces between words.
    """
    line = text.rstrip().replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    if "&" in line:
        for entity, character in _ENTITIES:
            line = line.replace(entity, character)
    line = f" {line} "
    for pattern, replacement in _SPLITS:
        line = pattern.sub(replacement, line)
    return line.split()


def numbered(texts: Sequence[str]) -> Words:
    """Return the words of `texts` as numbers."""
    known: defaultdict[str, int] = defaultdict(itertools.count().__next__)
    parts, starts = [np.empty(0, np.int64)], np.zeros(len(texts) + 1, dtype=np.int64)
    for i, text in enumerate(texts):
        found = split(text)
        parts.append(np.fromiter(map(known.__getitem__, found), np.int64, len(found)))
        starts[i + 1] = starts[i] + len(found)
    return Words(np.concatenate(parts), starts, len(known))


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


def length_figures(tokens: npt.NDArray[np.integer], texts: Sequence[str]) -> dict[str, float]:
    """Return mean, median and 90th percentile of the tokens a text, and its mean characters.

    Percentiles interpolate linearly between ranks.
    """
    median, p90 = np.percentile(tokens, [50, 90])
    return {
        "tokens_mean": float(np.mean(tokens)),
        "tokens_median": float(median),
        "tokens_p90": float(p90),
        "characters_mean": sum(map(len, texts)) / len(texts),
    }


def compression_ratio(texts: Sequence[str]) -> float | None:
    """Return bytes over compressed bytes: the higher, the more repetition; None without text.

    UTF-8, joined by single spaces, gzip level 9 (Shaib et al. 2024, arXiv:2403.00553). gzip looks
    back 32 kB: repetition is found among neighbours, so the order of the texts takes part.
    """
    raw = " ".join(texts).encode("utf-8", "surrogatepass")
    return len(raw) / len(gzip.compress(raw, 9, mtime=0)) if raw else None


# ---- self-BLEU: how well the other texts of a set predict each of its texts


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
