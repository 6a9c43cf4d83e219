"""Regions of a map, and the words that tell each from the rest."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sft_diversity.core.numbers import Floats, Ints

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_CHARACTERS = 2_000  # of a text that are read
_WORDS = 3  # of a name
_STEM = 4  # letters in which words that say the same begin alike


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
    """Return up to three words or phrases that tell each region from the rest.

    They are those of the greatest z-score of the log-odds of being held by a text of the region
    and by a text of the others, with one text as frequent as all as the prior; a word names the
    region of its greatest score alone, unless another had no name then, and a phrase of two stands
    for a word that half of the region's texts with the word have in it. Ties go by the alphabet.

    Notes
    -----
    Monroe, Colaresi & Quinn 2008, "Fightin' Words", doi:10.1093/pan/mpn018, equations 16 and 22,
    over texts in place of words. English function words are left out by scikit-learn's list; those
    of another language get a low score where the whole corpus is in it, and name a region that
    alone is.
    """
    from scipy.sparse import csr_array
    from sklearn.feature_extraction.text import CountVectorizer

    counting = CountVectorizer(analyzer=_terms, binary=True, dtype=np.int64)
    try:
        held = counting.fit_transform(texts)
    except ValueError:  # no text holds a term
        return [[] for _ in range(number)]
    terms = counting.get_feature_names_out()
    inside = (np.ones(len(texts), np.int64), (region, np.arange(len(texts))))
    here = (csr_array(inside, shape=(number, len(texts))) @ held).toarray()
    marks = _log_odds(here, np.bincount(region, minlength=number))
    marks[here < 2] = -np.inf
    own_marks = np.where(marks < marks.max(axis=0), -np.inf, marks)
    return [
        _named(terms, own_marks[one], here[one]) or _named(terms, marks[one], here[one])
        for one in range(number)
    ]


def _terms(text: str) -> set[str]:
    """Return the words of a text that may name, and the pairs of them with a space between."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    found, before, end = set(), "", -1
    for match in _WORD.finditer(text, 0, _CHARACTERS):
        word = match[0].lower()
        if word in ENGLISH_STOP_WORDS or len(word) < 3 or {"'", "’"} & set(word):
            before = ""
            continue
        found.add(word)
        if before and text[end : match.start()] == " ":
            found.add(f"{before} {word}")
        before, end = word, match.end()
    return found


def _log_odds(here: Ints, texts: Ints) -> Floats:
    """Return z-scores of terms (regions, terms) from the texts that hold them, and all texts."""
    every, size = here.sum(axis=0), texts[:, None]
    prior = (every + 0.5) / (texts.sum() + 1)  # below 1 for a term of every text, too
    inside, outside = here + prior, every - here + prior
    odds = inside / (size + 1 - inside), outside / (texts.sum() - size + 1 - outside)
    score: Floats = (np.log(odds[0]) - np.log(odds[1])) / np.sqrt(1 / inside + 1 / outside)
    return score


def _named(terms: npt.NDArray[np.object_], marks: Floats, here: Ints) -> list[str]:
    """Return the terms of the greatest marks above 0, none that begins like one before it."""
    named: list[str] = []
    begun: set[str] = set()
    phrases = [at for at in np.flatnonzero(marks > 0) if " " in terms[at]]
    for at in sorted(np.flatnonzero(marks > 0), key=lambda at: (-marks[at], terms[at])):
        within = [p for p in phrases if terms[at] in terms[p].split() and 2 * here[p] >= here[at]]
        best = terms[max(within, key=lambda p: (marks[p], terms[p]), default=at)]
        begins = {word[:_STEM] for word in best.split()}
        if begins & begun:
            continue
        begun |= begins
        named.append(best)
        if len(named) == _WORDS:
            break
    return named


def share_of_each(region: Ints, number: int) -> list[float]:
    """Return the share of the points in each region."""
    counts = np.bincount(region, minlength=number)
    return [round(float(share), 4) for share in counts / max(1, counts.sum())]
