"""The words of a corpus: their normal forms, and how each is used, told from its neighbours.

No tagger is at hand offline, and none is needed: in English, what often follows an article or "of"
and ends a phrase is a noun; what often follows "to", a pronoun or a modal, or precedes an article,
is a verb; what follows an article and goes on to another word is an adjective as often as not. The
corpus itself says which words do.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sft_diversity.levels import words
from sft_diversity.levels.candidates import (
    ADVERB,
    HEAD,
    JOINER,
    LIGHT,
    NAME,
    NOUN_NEXT,
    NUMBER,
    OUT,
    SENTENCE,
    TAIL,
    TASK,
    TRANSPARENT,
    VERB,
    VERB_NEXT,
)
from sft_diversity.levels.stream import Stream


@dataclass(frozen=True)
class Vocabulary:
    """Words as written, lower-cased, and in normal form (lower-case lemma); all sorted.

    Attributes
    ----------
    written, lowered, normal : list of str
    to_lowered : int32 array, shape (len(written),)
    to_normal : int32 array, shape (len(lowered),)
    """

    written: list[str]
    lowered: list[str]
    normal: list[str]
    to_lowered: npt.NDArray[np.int32]
    to_normal: npt.NDArray[np.int32]


def make_vocabulary(written: Iterable[str], language: str) -> Vocabulary:
    """Return the vocabulary of some words; each distinct lower-case form is lemmatised once."""
    ordered = sorted(set(written))
    lowered = sorted({word.lower() for word in ordered})
    lemmatize = words.lemmatizer(language)
    forms = [lemmatize(word) for word in lowered]
    normal = sorted(set(forms))
    number = {word: i for i, word in enumerate(lowered)}
    place = {word: i for i, word in enumerate(normal)}
    to_lowered = np.array([number[word.lower()] for word in ordered], dtype=np.int32)
    to_normal = np.array([place[form] for form in forms], dtype=np.int32)
    return Vocabulary(ordered, lowered, normal, to_lowered, to_normal)


@dataclass
class Usage:
    """Counts over a corpus: per lower-case word its places, per normal form its samples."""

    total: npt.NDArray[np.int64]
    noun: npt.NDArray[np.float64]
    second: npt.NDArray[np.int64]
    verb: npt.NDArray[np.int64]
    modifier: npt.NDArray[np.int64]
    inner: npt.NDArray[np.int64]
    capital: npt.NDArray[np.int64]
    samples: npt.NDArray[np.int64]

    @classmethod
    def zero(cls, vocabulary: Vocabulary) -> Usage:
        """Return counts of nothing."""
        n = len(vocabulary.lowered)
        samples = np.zeros(len(vocabulary.normal), dtype=np.int64)
        total, second, verb, modifier, inner, capital = (
            np.zeros(n, dtype=np.int64) for _ in range(6)
        )
        return cls(total, np.zeros(n), second, verb, modifier, inner, capital, samples)

    def add(self, stream: Stream, vocabulary: Vocabulary) -> None:
        """Count one stream, whose codes number `vocabulary.written`."""
        codes = stream.codes
        before = np.concatenate([[SENTENCE], codes[:-1]])
        after = np.concatenate([codes[1:], [SENTENCE]])
        is_word = codes >= 0
        written = codes[is_word]
        low = vocabulary.to_lowered[written]
        before, after = before[is_word], after[is_word]
        joiner = np.flatnonzero([word.lower() in words.JOINERS for word in vocabulary.written])
        joined = np.isin(after, joiner)
        ends = ((after < 0) & (after != TRANSPARENT) & (after != NUMBER)) | joined
        strong = (before == TRANSPARENT) | np.isin(before, joiner)
        noun = ends * np.where(strong, 1.0, np.where(before == NOUN_NEXT, 0.7, 0.0))
        n = len(self.total)
        self.total += np.bincount(low, minlength=n)
        self.noun += np.bincount(low, noun, minlength=n)
        self.second += np.bincount(low[ends & (before >= 0) & ~strong], minlength=n)
        capital = np.array([word[0].isupper() for word in vocabulary.written] or [False])[written]
        verb = ((before == VERB_NEXT) & ~capital) | (after == TRANSPARENT)  # "did Harry" is none
        self.verb += np.bincount(low[verb], minlength=n)
        self.modifier += np.bincount(low[strong & ~ends & (after >= 0)], minlength=n)
        inner = before != SENTENCE
        self.inner += np.bincount(low[inner], minlength=n)
        self.capital += np.bincount(low[inner & capital], minlength=n)
        rows = np.repeat(np.arange(len(stream.starts) - 1), np.diff(stream.starts))[is_word]
        normal = vocabulary.to_normal[low].astype(np.int64)
        pairs = np.unique(rows * len(self.samples) + normal)
        self.samples += np.bincount(pairs % len(self.samples), minlength=len(self.samples))


def word_bits(
    vocabulary: Vocabulary, usage: Usage, min_samples: int, *, english: bool
) -> npt.NDArray[np.int32]:
    """Return what each lower-case word may do in a unit, as bits; shape (len(lowered),).

    Where the lists do not reach (another language, another script) any word may end a unit.
    """
    lowered, to_normal = vocabulary.lowered, vocabulary.to_normal
    noun, verb, modifier = _shares(usage, to_normal, len(vocabulary.normal))
    lemma_verb = _lemma_is_verb(usage, to_normal, len(vocabulary.normal))
    past = np.array(
        [w.endswith("ed") and vocabulary.normal[to_normal[i]] != w for i, w in enumerate(lowered)],
        dtype=bool,
    )
    adverb = _adverbs(lowered)
    bits = np.zeros(len(lowered), dtype=np.int32)
    other_script = np.array([ord(word[0]) >= 0x250 for word in lowered], dtype=bool)
    inflected = lemma_verb & (noun < 1.2 * verb)
    inflected &= np.array([word.endswith("s") for word in lowered], dtype=bool)
    tails = (noun >= 0.08) & (noun > 0.3 * modifier) & ~past & ~adverb & ~inflected
    tails |= other_script | (not english)
    bits |= TAIL * tails
    bits |= HEAD * (tails & ((noun > 1.2 * verb) | other_script | (not english)))
    short = np.array([len(word) < 3 for word in lowered], dtype=bool)
    bits |= LIGHT * (short & ~other_script & ~_either(vocabulary, words.SHORT_NAMES))
    bits |= VERB * (((verb > 0.3) & (verb > noun)) | (lemma_verb & ~tails))
    bits |= ADVERB * adverb
    mostly_capital = usage.capital > 0.5 * np.maximum(usage.inner, 1)
    bits |= NAME * (_either(vocabulary, words.GIVEN_NAMES) & mostly_capital)
    for bit, listed in (
        (LIGHT, words.LIGHT),
        (OUT, words.CODE),
        (TASK, words.TASK_VERBS),
        (JOINER, words.JOINERS),
    ):
        bits |= bit * _either(vocabulary, listed)
    bits |= OUT * (usage.samples[to_normal] < min_samples)
    return bits


def _shares(
    usage: Usage, to_normal: npt.NDArray[np.int32], n_normal: int
) -> list[npt.NDArray[np.float64]]:
    """Return the shares of noun, verb and modifier places; rare forms lean on their lemma's."""
    shares = []
    lemma_total = np.bincount(to_normal, usage.total, minlength=n_normal)
    # The end of a phrase of several words is a noun's place or a verb's: it counts as far as the
    # plain places do ("health systems", but not "Steve threatens"), and once where there are none.
    noun = usage.noun + np.minimum(0.25 * usage.second, usage.noun + 1)
    for places, prior in ((noun, 0.5), (usage.verb, 0.2), (usage.modifier, 0.2)):
        lemma_share = (np.bincount(to_normal, places, minlength=n_normal) + prior) / (
            lemma_total + 2
        )
        shares.append((places + 3 * lemma_share[to_normal]) / (usage.total + 3))
    return shares


def _lemma_is_verb(
    usage: Usage, to_normal: npt.NDArray[np.int32], n_normal: int
) -> npt.NDArray[np.bool_]:
    """Return which words are a form of a verb ("asks", though names go before it and not "to")."""
    total, noun, verb = (
        np.bincount(to_normal, counts, minlength=n_normal)
        for counts in (usage.total, usage.noun, usage.verb)
    )
    is_verb: npt.NDArray[np.bool_] = (verb > 0.3 * total) & (verb > noun)
    return is_verb[to_normal]


def _either(vocabulary: Vocabulary, listed: frozenset[str]) -> npt.NDArray[np.bool_]:
    """Return which lower-case words, or their normal forms, are listed."""
    normal = vocabulary.normal
    hits = [
        word in listed or normal[form] in listed
        for word, form in zip(vocabulary.lowered, vocabulary.to_normal.tolist(), strict=True)
    ]
    return np.array(hits, dtype=bool)


def _adverbs(lowered: list[str]) -> npt.NDArray[np.bool_]:
    """Return which words are an adjective and -ly ("quickly", not "family")."""
    known = words.FUNCTION | frozenset(lowered)

    def is_adverb(word: str) -> bool:
        if not word.endswith("ly") or len(word) < 5:
            return False
        stems = (word[:-2], word[:-3] + "y", word[:-1] + "e", word[:-4])
        return any(len(stem) > 2 and stem in known for stem in stems)

    return np.array([is_adverb(word) for word in lowered], dtype=bool)
