"""The meso level's passes over a corpus, shard by shard: words, their use, counts, units held."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from sft_diversity.core import parquet, stopping
from sft_diversity.levels.candidates import (
    FUNCTION,
    OUT,
    Occurrences,
    find_candidates,
    pack,
    sentence_keys,
    unpack,
)
from sft_diversity.levels.choosing import Held, hold
from sft_diversity.levels.reading import Shard
from sft_diversity.levels.stream import Stream
from sft_diversity.levels.units import Table, count_samples, merge_tables
from sft_diversity.levels.vocabulary import Usage, make_vocabulary, word_bits

_STAGE = "index"


@dataclass(frozen=True)
class Ground:
    """What the passes over a corpus share: its words and what each may do.

    Attributes
    ----------
    number : dict
        Every word as written, to its place below, or to FUNCTION where it takes no part.
    written : list of str
        The words that take part.
    to_normal : int32 array, shape (len(written),)
    bits : int32 array, shape (len(written),)
        What each word may do, see `candidates`.
    normal_samples, normal_bits : arrays, shape (normal forms,)
    form : uint64 array, ascending
        Sentences that too many samples share word for word.
    """

    number: dict[str, int]
    written: list[str]
    to_normal: npt.NDArray[np.int32]
    bits: npt.NDArray[np.int32]
    normal_samples: npt.NDArray[np.int64]
    normal_bits: npt.NDArray[np.int32]
    form: npt.NDArray[np.uint64]


def survey(shards: Sequence[Shard], bounds: tuple[int, int], language: str) -> Ground:
    """Return the words of a corpus and how they are used in it.

    `bounds` are the fewest and the most samples of a unit. A sentence that more than a quarter of
    the most share is form.
    """
    every: set[str] = set()
    for shard in shards:
        every.update(parquet.read(shard.words)["word"].to_pylist())
    vocabulary = make_vocabulary(every, language)
    number = {word: i for i, word in enumerate(vocabulary.written)}
    usage = Usage.zero(vocabulary)
    for shard in shards:
        usage.add(_load(shard, number, vocabulary.written), vocabulary)
    bits = word_bits(vocabulary, usage, bounds[0], english=language == "en")
    low = vocabulary.to_lowered
    stays = (bits[low] & OUT) == 0
    place = np.where(stays, np.cumsum(stays) - 1, FUNCTION)
    number = dict(zip(vocabulary.written, place.tolist(), strict=True))
    kept = np.flatnonzero(stays)
    written = [vocabulary.written[i] for i in kept.tolist()]
    normal_bits = np.zeros(len(vocabulary.normal), dtype=np.int32)
    np.bitwise_or.at(normal_bits, vocabulary.to_normal, bits)
    return Ground(
        number=number,
        written=written,
        to_normal=vocabulary.to_normal[low[kept]],
        bits=bits[low[kept]],
        normal_samples=usage.samples,
        normal_bits=normal_bits,
        form=_shared_sentences((_load(shard, number, written) for shard in shards), bounds[1] / 4),
    )


def _shared_sentences(streams: Iterable[Stream], most: float) -> npt.NDArray[np.uint64]:
    """Return the keys of the sentences that more than `most` samples hold, ascending."""
    keys, counts = [], []
    for stream in streams:
        rows = np.repeat(np.arange(len(stream.starts) - 1), np.diff(stream.starts))
        found = sentence_keys(stream.codes, stream.starts)
        first = np.flatnonzero(np.diff(found, prepend=np.uint64(0)) != 0)
        distinct, number = np.unique(found[first], return_inverse=True)
        pairs = np.unique(rows[first].astype(np.int64) * len(distinct) + number)
        keys.append(distinct)
        counts.append(np.bincount(pairs % max(len(distinct), 1), minlength=len(distinct)))
    every, place = np.unique(np.concatenate(keys), return_inverse=True)
    total = np.bincount(place, np.concatenate(counts), minlength=len(every))
    shared: npt.NDArray[np.uint64] = every[(total > most) & (every != 0)]
    return shared


@dataclass(frozen=True)
class Counted:
    """All n-grams of a corpus, in normal form and as written.

    Attributes
    ----------
    table : Table
        Samples of each n-gram in normal form.
    raw, raw_counts : int64 arrays, shape (r,)
        Candidates as written, ascending, and how often each occurs.
    """

    table: Table
    raw: npt.NDArray[np.int64]
    raw_counts: npt.NDArray[np.int64]


def count_ngrams(shards: Sequence[Shard], ground: Ground) -> Counted:
    """Return the counts of all n-grams of the words that take part."""
    tables, raw, counts = [], [], []
    for shard in shards:
        found, normal, _ = _candidates(shard, ground)
        tables.append(count_samples(found, normal))
        distinct, many = np.unique(found.keys[found.weights > 0], return_counts=True)
        raw.append(distinct)
        counts.append(many)
    keys, place = np.unique(np.concatenate(raw), return_inverse=True)
    total = np.zeros(len(keys), dtype=np.int64)
    np.add.at(total, place, np.concatenate(counts))
    return Counted(merge_tables(tables), keys, total)


def hold_units(shards: Sequence[Shard], ground: Ground, unit_keys: npt.NDArray[np.int64]) -> Held:
    """Return which samples could hold which units; rows count through the shards."""
    parts, first = [], 0
    for shard in shards:
        found, normal, texts = _candidates(shard, ground)
        parts.append(hold(found, normal, unit_keys, first))
        first += texts
    return Held(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _candidates(shard: Shard, ground: Ground) -> tuple[Occurrences, npt.NDArray[np.int64], int]:
    """Return the n-grams of a shard, their keys in normal form, and how many texts it has."""
    stopping.safe_point(_STAGE)
    stream = _load(shard, ground.number, ground.written)
    found = find_candidates(stream.codes, stream.starts, ground.bits, ground.form)
    return found, normal_keys(found.keys, ground.to_normal), len(stream.starts) - 1


def unit_names(counted: Counted, ground: Ground, unit_keys: npt.NDArray[np.int64]) -> list[str]:
    """Return each unit as it is most often written, in lower case (ties: the lower key)."""
    keys = normal_keys(counted.raw, ground.to_normal)
    place = np.minimum(np.searchsorted(unit_keys, keys), len(unit_keys) - 1)
    hit = np.flatnonzero(unit_keys[place] == keys)
    order = hit[np.lexsort((counted.raw[hit], -counted.raw_counts[hit], place[hit]))]
    _, first = np.unique(place[order], return_index=True)
    words = unpack(counted.raw[order[first]])
    return [" ".join(ground.written[w].lower() for w in row if w >= 0) for row in words.tolist()]


def normal_keys(
    keys: npt.NDArray[np.int64], to_normal: npt.NDArray[np.int32]
) -> npt.NDArray[np.int64]:
    """Return packed n-grams with each word replaced by its normal form."""
    words = unpack(keys)
    return pack(np.where(words >= 0, to_normal[np.maximum(words, 0)], -1).astype(np.int32))


def _load(shard: Shard, number: dict[str, int], written: list[str]) -> Stream:
    """Return a shard's stream with its words renumbered."""
    lists = parquet.read(shard.codes, ["codes"])["codes"]
    codes = pc.list_flatten(lists).to_numpy()
    local = parquet.read(shard.words)["word"].to_pylist()
    place = np.array([number[word] for word in local] + [FUNCTION], dtype=np.int32)
    sizes = pc.list_value_length(lists).to_numpy()
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    whole = np.where(codes >= 0, place[np.maximum(codes, 0)], codes).astype(np.int32)
    return Stream(whole, starts, written)
