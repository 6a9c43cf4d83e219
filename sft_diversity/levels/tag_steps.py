"""Tags to kinds, in the four steps of InsTag (Lu et al. 2023, arXiv:2308.07074, section 3).

Frequency floor, lexical merging, semantic merging, association merging, each reported. Every step
is a function from the tags that stand to the tags that stand for them, so that steps chain.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sft_diversity.core import neighbours
from sft_diversity.levels.merging import merge_to_leaders

_Ints = npt.NDArray[np.int64]
_EXAMPLES = 8
_MOST_ROUNDS = 20


@dataclass(frozen=True)
class Tags:
    """Which samples hold which tags.

    Attributes
    ----------
    names : list of str
    rows, tags : int64 arrays, shape (p,)
        Pairs, each once, ascending by row and tag.
    n_rows : int
    """

    names: list[str]
    rows: _Ints
    tags: _Ints
    n_rows: int

    def samples(self) -> _Ints:
        """Return how many samples hold each tag, shape (len(names),)."""
        return np.bincount(self.tags, minlength=len(self.names))


def gather(tags: Sequence[Sequence[str]]) -> Tags:
    """Return the tags of samples, given sample by sample; names ascend."""
    names = sorted({tag for held in tags for tag in held})
    number = {tag: i for i, tag in enumerate(names)}
    rows = np.repeat(np.arange(len(tags)), [len(held) for held in tags])
    flat = np.array([number[tag] for held in tags for tag in held], dtype=np.int64)
    return _pairs(names, rows, flat, len(tags))


def _pairs(names: list[str], rows: _Ints, tags: _Ints, n_rows: int) -> Tags:
    packed = np.unique(rows * max(len(names), 1) + tags)
    return Tags(names, packed // max(len(names), 1), packed % max(len(names), 1), n_rows)


def applied(tags: Tags, stands: _Ints) -> Tags:
    """Return `tags` with each replaced by the one that stands for it, or dropped (-1)."""
    kept = np.unique(stands[stands >= 0])
    place = np.full(len(tags.names) + 1, -1, dtype=np.int64)
    place[kept] = np.arange(len(kept))
    found = place[stands[tags.tags]]
    here = found >= 0
    names = [tags.names[i] for i in kept.tolist()]
    return _pairs(names, tags.rows[here], found[here], tags.n_rows)


def floor_step(tags: Tags, least: int) -> _Ints:
    """Drop the tags that fewer than `least` samples hold."""
    return np.where(tags.samples() >= least, np.arange(len(tags.names)), -1)


def lexical_step(tags: Tags, lemma: Callable[[str], str]) -> _Ints:
    """Merge tags that are the same word for word but for case, signs and inflection.

    The spelling of most samples stands for the others (ties: the first in the alphabet).
    """
    forms = [normal_form(name, lemma) for name in tags.names]
    samples = tags.samples().tolist()
    leader: dict[str, int] = {}
    for i in sorted(range(len(forms)), key=lambda i: (-samples[i], tags.names[i])):
        leader.setdefault(forms[i], i)
    return np.array([leader[form] if form else -1 for form in forms], dtype=np.int64)


def normal_form(tag: str, lemma: Callable[[str], str]) -> str:
    """Return a tag in lower case, without special characters, word by word in its lemma.

    `+` and `#` after a letter stay: they tell C, C++ and C# apart.
    """
    text = unicodedata.normalize("NFKC", tag).lower()
    words = re.findall(r"[^\W_]+[+#]*", text)
    return " ".join(word if word[-1] in "+#" else lemma(word) for word in words)


def semantic_step(tags: Tags, vectors: npt.NDArray[np.float32], threshold: float) -> _Ints:
    """Merge near-synonyms: see `merging.merge_to_leaders`, which unlike DBSCAN never chains."""
    on = neighbours.engine()
    return merge_to_leaders(vectors, tags.samples(), threshold, on).astype(np.int64)


def association_step(tags: Tags, support: int, confidence: float) -> _Ints:
    """Merge a tag into one that it hardly ever stands without.

    Parameters
    ----------
    support : int
        Fewest samples that hold both.
    confidence : float
        Least share of the tag's samples that hold the other as well, in (0, 1].

    Returns
    -------
    int64 array, shape (len(names),)
        The tag that stands for each.

    Notes
    -----
    Association rules of one tag on either side, which is what frequent-pattern mining yields at
    length two; a tag follows its rule of highest confidence, to a tag of more samples (ties: the
    first in the alphabet). Rules are found anew on the merged tags until there are none. Time
    O(Σ s²) over samples of s tags, a round.
    """
    stands = np.arange(len(tags.names))
    for _ in range(_MOST_ROUNDS):
        rule = _rules(applied_in_place(tags, stands), support, confidence)
        if (rule == np.arange(len(rule))).all():
            break
        stands = rule[stands]
    return stands


def applied_in_place(tags: Tags, stands: _Ints) -> Tags:
    """Return `tags` with each replaced by the one that stands for it, numbers unchanged."""
    return _pairs(tags.names, tags.rows, stands[tags.tags], tags.n_rows)


def _rules(tags: Tags, support: int, confidence: float) -> _Ints:
    """Return for each tag the end of the chain of rules that starts at it, or the tag itself."""
    samples = tags.samples()
    one, other, both = _together(tags)
    share = both / np.maximum(samples[one], 1)
    up = (samples[other] > samples[one]) | ((samples[other] == samples[one]) & (other < one))
    holds = np.flatnonzero(up & (both >= support) & (share >= confidence))
    order = holds[np.lexsort((other[holds], -samples[other[holds]], -share[holds], one[holds]))]
    first = order[np.diff(one[order], prepend=-1) != 0]
    to = np.arange(len(tags.names))
    to[one[first]] = other[first]
    while (to[to] != to).any():  # every rule leads up in the order above: no circles
        to = to[to]
    return to


def _together(tags: Tags) -> tuple[_Ints, _Ints, _Ints]:
    """Return the ordered pairs of tags that meet in a sample, and in how many samples they do."""
    sizes = np.bincount(tags.rows, minlength=tags.n_rows)
    starts = np.concatenate([[0], np.cumsum(sizes)])[:-1]
    mates = np.repeat(sizes, sizes)  # for each pair, the size of its sample
    left = np.repeat(np.arange(len(tags.rows)), mates)
    within = np.arange(len(left)) - np.repeat(np.cumsum(mates) - mates, mates)
    right = np.repeat(starts[tags.rows], mates) + within
    packed = tags.tags[left] * max(len(tags.names), 1) + tags.tags[right]
    met, both = np.unique(packed[left != right], return_counts=True)
    return met // max(len(tags.names), 1), met % max(len(tags.names), 1), both


def report(step: str, before: Tags, stands: _Ints) -> dict[str, Any]:
    """Return what a step did: kinds before and after, and its largest changes by name."""
    samples = before.samples()
    moved = np.flatnonzero((stands >= 0) & (stands != np.arange(len(stands))))
    gone = np.flatnonzero(stands < 0)
    moved = moved[np.argsort(-samples[moved], kind="stable")][:_EXAMPLES]
    gone = gone[np.argsort(-samples[gone], kind="stable")][:_EXAMPLES]
    after = applied(before, stands)
    return {
        "step": step,
        "before": len(before.names),
        "after": len(after.names),
        "merged": int(((stands >= 0) & (stands != np.arange(len(stands)))).sum()),
        "dropped": int((stands < 0).sum()),
        "samples_with_a_tag": len(np.unique(after.rows)),
        "merged_examples": [
            f"{before.names[i]} ({samples[i]}) -> {before.names[stands[i]]}" for i in moved.tolist()
        ],
        "dropped_examples": [f"{before.names[i]} ({samples[i]})" for i in gone.tolist()],
    }
