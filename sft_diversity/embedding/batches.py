"""What is embedded at a time: texts that the cache lacks, as units and as batches of a shape."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sft_diversity.core import corpus as corpora
from sft_diversity.core import vectors as core_vectors
from sft_diversity.core.errors import DataError
from sft_diversity.core.hashing import content_key
from sft_diversity.core.parts import Slice
from sft_diversity.embedding import cache as caches
from sft_diversity.embedding.base import Encoder, SteppedEncoder, Tokens, WholeEncoder, on_host

#: Smaller corpora are cut into so many units, so that all workers have some; of fewer characters
#: a unit computes more padding than it saves by being another worker's.
_FEWEST, _LEAST_CHARACTERS = 8, 50_000
_CHARACTERS_READ = 1_200  # of a text, for this estimate: encoders cut the rest
#: Padded widths are multiples of this: few shapes, little padding.
WIDTH_STEP = 8


@dataclass(frozen=True)
class Batch:
    """Distinct texts that are not in the cache, in key order."""

    name: str
    keys: caches.Keys
    texts: list[str]
    known: int = 0  # texts read before it that repeat others, or are in the cache


class TextKeys:
    """The keys of texts by slice and component: a text is hashed once, its key kept, 33 bytes."""

    def __init__(self, components: tuple[corpora.Component, ...]) -> None:
        self.components = components
        self._kept: dict[tuple[Slice, str], caches.Keys] = {}

    def of(
        self, rows: Slice, component: corpora.Component, texts: Sequence[str] | None = None
    ) -> caches.Keys:
        """Return the key of each text of these rows, in their order; `texts`, where at hand."""
        found = self._kept.get((rows, component))
        if found is None:
            if texts is None:
                texts = rows.read(self.components)[component].to_pylist()
            found = self._kept[rows, component] = caches.text_keys(texts)
        return found

    def within(self, slices: Iterable[Slice]) -> caches.Keys:
        """Return the keys of all texts of these rows, ascending."""
        keys = [self.of(rows, name) for rows in slices for name in self.components]
        return np.unique(np.concatenate(keys)) if keys else np.empty(0, caches.KEY)


def missing_texts(
    slices: Sequence[Slice],
    keys: TextKeys,
    cache: caches.Vectors,
    characters: int,
    fewest: int = _FEWEST,
) -> Iterator[Batch]:
    """Yield the texts of a corpus, or of a part, that the cache lacks, each once, in units.

    A text belongs to the first slice it occurs in, and there to a unit of texts of like length,
    longest first: batches of one shape fill up, and no worker ends long after the others. Both
    depend on the corpus alone: a run that was stopped goes on with the same units. What a unit
    holds changes no vector.

    Parameters
    ----------
    characters : int
        Of a unit, at most; slices that hold fewer are joined.
    fewest : int
        Units that a corpus is cut into at least.
    """
    seen: set[bytes] = set()
    share = len(slices) / fewest
    joined: list[Slice] = []
    texts: dict[bytes, str] = {}
    known = 0
    for number, rows in enumerate(slices, start=1):
        joined.append(rows)
        texts |= _distinct(rows, keys, seen)
        seen.update(texts)
        known += rows.rows * len(keys.components)
        held = sum(map(len, texts.values()))
        few = held < min(characters, _LEAST_CHARACTERS)
        few |= held < characters and len(joined) + 1 <= share
        if few and number < len(slices):
            continue
        for place, own in enumerate(cut(texts, characters, max(1, fewest // len(slices)))):
            missing = own[~cache.has(own)]
            if len(missing):
                name = f"{joined[0].path.stem}-{place:03d}-{stamp(missing)}"
                known -= len(missing)
                yield Batch(name, missing, [texts[key] for key in missing.tolist()], known)
                known = 0
        joined, texts = [], {}


def stamp(keys: caches.Keys) -> str:
    """Return what names a part that holds the texts of these keys."""
    return content_key([key.decode() for key in keys.tolist()])[:16]


def cut(texts: dict[bytes, str], characters: int, fewest: int = _FEWEST) -> list[caches.Keys]:
    """Cut texts into units of about equal cost, `fewest` or more; keys are ascending in each."""
    if not texts:
        return []
    keys = np.array(list(texts), dtype=caches.KEY)
    sizes = np.array([len(text) for text in texts.values()])
    order = np.lexsort((keys, -sizes))
    cost = np.cumsum(np.minimum(sizes[order], _CHARACTERS_READ) + 8)
    share = max(int(cost[-1]) // fewest, _LEAST_CHARACTERS)
    place = (cost - 1) // min(characters, share)
    borders = np.flatnonzero(np.diff(place)) + 1
    return [np.sort(part) for part in np.split(keys[order], borders)]


def _distinct(rows: Slice, keys: TextKeys, seen: set[bytes]) -> dict[bytes, str]:
    """Return the texts of a slice that no earlier one holds, by key."""
    table = rows.read(keys.components)
    found: dict[bytes, str] = {}
    for component in keys.components:
        texts = table[component].to_pylist()
        for key, text in zip(keys.of(rows, component, texts).tolist(), texts, strict=True):
            if key not in seen:
                found.setdefault(key, text)
    return found


@dataclass
class Spent:
    """What went through an encoder: texts, their tokens, and the tokens that were computed.

    The last count padding and dummies. Tokens are 0 for an encoder that takes texts whole.
    """

    texts: int = 0
    tokens: int = 0
    computed: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def add(self, texts: int, tokens: int, computed: int) -> None:
        """Count a batch; threads may do so."""
        with self._lock:
            self.texts += texts
            self.tokens += tokens
            self.computed += computed


class Filled(NamedTuple):
    """A batch: texts of one padded width, and the shape in which they are computed."""

    places: npt.NDArray[np.int64]
    tokens: Tokens
    width: int
    rows: int


class Buckets:
    """Tokenised texts by padded width; those of a width wait until they fill a batch.

    A width always has the same batch shape, and the last batch is filled up with dummies. So a
    text's vector does not depend on the other texts, nor on when they came. Texts of a `flat`
    encoder are of one width: they follow each other in a row of `batch_tokens`.
    """

    def __init__(self, encoder: SteppedEncoder, batch_tokens: int, spent: Spent) -> None:
        self._flat, self._longest, self._spent = encoder.flat, encoder.max_tokens, spent
        self._size = max(batch_tokens, self._longest) if encoder.flat else batch_tokens
        self._held: dict[int, tuple[npt.NDArray[np.int64], Tokens]] = {}

    def add(self, places: npt.NDArray[np.int64], tokens: Tokens) -> Iterator[Filled]:
        """Take in texts, known by their `places`; yield the batches that are full now."""
        widths = np.minimum(-(-tokens.lengths // WIDTH_STEP) * WIDTH_STEP, self._longest)
        widths = np.full_like(widths, self._size) if self._flat else widths
        order = np.argsort(widths, kind="stable")
        widths, places, tokens = widths[order], places[order], tokens.take(order)
        values, counts = np.unique(widths, return_counts=True)
        stops = np.cumsum(counts)
        for width, start, stop in zip(values, stops - counts, stops, strict=True):
            yield from self._full(int(width), places[start:stop], tokens.slice(start, stop))

    def rest(self) -> Iterator[Filled]:
        """Yield the batches that no text will fill any more."""
        for width, (places, tokens) in sorted(self._held.items()):
            yield self._filled(places, tokens, width)
        self._held = {}

    def _full(self, width: int, places: npt.NDArray[np.int64], tokens: Tokens) -> Iterator[Filled]:
        if width in self._held:
            before = self._held.pop(width)
            places, tokens = np.concatenate([before[0], places]), before[1].joined(tokens)
        start, ends = 0, np.cumsum(tokens.lengths)
        while start < len(places):
            stop = start + self._rows(width)
            if self._flat:
                reach = self._size + (ends[start - 1] if start else 0)
                stop = int(np.searchsorted(ends, reach, side="right"))
            if stop > len(places) or (self._flat and stop == len(places)):
                self._held[width] = places[start:], tokens.slice(start, len(places))
                return
            yield self._filled(places[start:stop], tokens.slice(start, stop), width)
            start = stop

    def _rows(self, width: int) -> int:
        return 1 if self._flat else max(1, self._size // max(width, 1))

    def _filled(self, places: npt.NDArray[np.int64], tokens: Tokens, width: int) -> Filled:
        rows = self._rows(width)
        self._spent.add(len(places), len(tokens.ids), width * rows)
        return Filled(places, tokens, width, rows)


def embed_batch(
    encoder: Encoder,
    batch_tokens: int,
    folder: Path,
    batch: Batch,
    advance: Callable[[int], None],
    spent: Spent,
) -> None:
    """Embed a unit and write its part.

    Raises
    ------
    DataError
        If a vector is zero or not finite.
    """
    vectors, cut = encode(encoder, batch.texts, batch_tokens, advance, spent)
    caches.write_part(folder, batch.name, batch.keys, stored(vectors, batch.texts), cut)


def stored(vectors: npt.NDArray[np.float32], texts: Sequence[str]) -> npt.NDArray[np.float16]:
    """Return vectors as they are stored: of unit length, float16.

    Raises
    ------
    DataError
        If a vector is zero or not finite; it shows the text.
    """
    try:
        return core_vectors.unit(vectors).astype(np.float16)
    except DataError:
        rows = np.flatnonzero(~(np.isfinite(vectors).all(axis=1) & vectors.any(axis=1)))
        example = " ".join(texts[rows[0]].split())[:60]
        raise DataError(
            f"embed: the encoder gave no usable vector for {len(rows):,} texts, the first: "
            f"{example!r}; try --precision float32 or another encoder"
        ) from None


def encode(
    encoder: Encoder,
    texts: list[str],
    batch_tokens: int,
    advance: Callable[[int], None] = lambda _: None,
    spent: Spent | None = None,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Return the raw vectors of `texts`, shape (n, d), and which texts were cut; see `Buckets`.

    A model that takes texts whole is left to do as it does.
    """
    if isinstance(encoder, WholeEncoder):
        whole = encoder.encode(texts)
        advance(len(texts))
        (spent or Spent()).add(len(texts), 0, 0)
        return whole, np.zeros(len(texts), np.bool_)
    ids, cut = encoder.tokenize(texts)
    vectors = np.empty((len(texts), encoder.dim), np.float32)
    buckets = Buckets(encoder, batch_tokens, spent or Spent())
    for batch in chain(buckets.add(np.arange(len(texts)), Tokens.of(ids)), buckets.rest()):
        vectors[batch.places] = on_host(encoder.forward(batch.tokens, batch.width, batch.rows))
        advance(len(batch.places))
    return vectors, cut
