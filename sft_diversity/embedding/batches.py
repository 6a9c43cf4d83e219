"""What is embedded at a time: texts that the cache lacks, stored together as one part."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sft_diversity.core import corpus as corpora
from sft_diversity.core import vectors as core_vectors
from sft_diversity.core.errors import DataError
from sft_diversity.core.hashing import content_key
from sft_diversity.core.parts import Slice
from sft_diversity.embedding import cache as caches
from sft_diversity.embedding.base import Encoder, WholeEncoder

#: Characters of a batch: half a minute of one core's work with the packaged encoder, which is what
#: a kill may lose. Smaller corpora are cut finer, so that all workers have some.
BATCH_CHARACTERS = 400_000
_FEWEST, _LEAST_CHARACTERS = 8, 10_000
_CHARACTERS_READ = 1_200  # of a text, for this estimate: encoders cut the rest
#: Padded widths are multiples of this: few shapes, little padding.
WIDTH_STEP = 8


@dataclass(frozen=True)
class Batch:
    """Distinct texts that are not in the cache, in key order."""

    name: str
    keys: caches.Keys
    texts: list[str]


def keys_in(slices: Iterable[Slice], components: tuple[corpora.Component, ...]) -> caches.Keys:
    """Return the keys of all texts of these rows, ascending."""
    tables = (rows.read(components) for rows in slices)
    keys = [caches.text_keys(table[name].to_pylist()) for table in tables for name in components]
    return np.unique(np.concatenate(keys)) if keys else np.empty(0, caches.KEY)


def complete(
    slices: Iterable[Slice], components: tuple[corpora.Component, ...], cache: caches.Vectors
) -> bool:
    """Whether the cache has every text of these rows; memory holds one shard."""
    return all(cache.has(keys_in([rows], components)).all() for rows in slices)


def missing_texts(
    slices: Sequence[Slice], components: tuple[corpora.Component, ...], cache: caches.Vectors
) -> Iterator[Batch]:
    """Yield the texts of a corpus, or of a part, that the cache lacks, each once, in batches.

    A text belongs to the first shard it occurs in, and there to a batch of texts of like length,
    longest first: batches of one shape fill up, and no worker ends long after the others. Both
    depend on the corpus alone: a run that was stopped goes on with the same batches.
    """
    seen: set[bytes] = set()
    fewest = max(1, _FEWEST // max(len(slices), 1))
    for rows in slices:
        texts = _distinct(rows, components, seen)
        seen.update(texts)
        for number, keys in enumerate(cut(texts, fewest)):
            own = keys[~cache.has(keys)]
            if len(own):
                stamp = content_key([key.decode() for key in own.tolist()])[:16]
                name = f"{rows.path.stem}-{number:03d}-{stamp}"
                yield Batch(name, own, [texts[key] for key in own.tolist()])


def cut(texts: dict[bytes, str], fewest: int = _FEWEST) -> list[caches.Keys]:
    """Cut texts into batches of about equal cost, `fewest` or more; keys are ascending in each."""
    if not texts:
        return []
    keys = np.array(list(texts), dtype=caches.KEY)
    sizes = np.array([len(text) for text in texts.values()])
    order = np.lexsort((keys, -sizes))
    cost = np.cumsum(np.minimum(sizes[order], _CHARACTERS_READ) + 8)
    share = max(int(cost[-1]) // fewest, _LEAST_CHARACTERS)
    place = (cost - 1) // min(BATCH_CHARACTERS, share)
    borders = np.flatnonzero(np.diff(place)) + 1
    return [np.sort(part) for part in np.split(keys[order], borders)]


def _distinct(
    rows: Slice, components: tuple[corpora.Component, ...], seen: set[bytes]
) -> dict[bytes, str]:
    """Return the texts of a shard that no earlier shard holds, by key."""
    table = rows.read(components)
    found: dict[bytes, str] = {}
    for component in components:
        texts = table[component].to_pylist()
        for key, text in zip(caches.text_keys(texts).tolist(), texts, strict=True):
            if key not in seen:
                found.setdefault(key, text)
    return found


def embed_batch(
    encoder: Encoder,
    batch_tokens: int,
    folder: Path,
    batch: Batch,
    advance: Callable[[int], None],
) -> None:
    """Embed a batch and write its part.

    Raises
    ------
    DataError
        If a vector is zero or not finite.
    """
    vectors, cut = encode(encoder, batch.texts, batch_tokens, advance)
    try:
        stored = core_vectors.unit(vectors).astype(np.float16)
    except DataError:
        rows = np.flatnonzero(~(np.isfinite(vectors).all(axis=1) & vectors.any(axis=1)))
        example = " ".join(batch.texts[rows[0]].split())[:60]
        raise DataError(
            f"embed: the encoder gave no usable vector for {len(rows):,} texts, the first: "
            f"{example!r}; try --precision float32 or another encoder"
        ) from None
    caches.write_part(folder, batch.name, batch.keys, stored, cut)


def encode(
    encoder: Encoder,
    texts: list[str],
    batch_tokens: int,
    advance: Callable[[int], None] = lambda _: None,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Return the raw vectors of `texts`, shape (n, d), and which texts were cut.

    Texts are grouped by padded length, and a length always has the same batch shape: the last
    batch is filled up with dummies. So a text's vector does not depend on the other texts. A model
    that takes texts whole is left to do as it does.
    """
    if isinstance(encoder, WholeEncoder):
        whole = encoder.encode(texts)
        advance(len(texts))
        return whole, np.zeros(len(texts), np.bool_)
    ids, cut = encoder.tokenize(texts)
    lengths = np.array([len(text) for text in ids])
    widths = np.minimum(-(-lengths // WIDTH_STEP) * WIDTH_STEP, encoder.max_tokens)
    vectors = np.empty((len(texts), encoder.dim), np.float32)
    for width in np.unique(widths).tolist():
        rows = max(1, batch_tokens // max(width, 1))
        same = np.flatnonzero(widths == width)
        for start in range(0, len(same), rows):
            batch = same[start : start + rows]
            vectors[batch] = encoder.forward([ids[i] for i in batch], width, rows)
            advance(len(batch))
    return vectors, cut
