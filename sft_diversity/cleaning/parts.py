"""What is kept of each shard while a corpus is cleaned: its shingles, bands and n-gram hits."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from sft_diversity.cleaning import minhash, overlap
from sft_diversity.cleaning.compiled import Bounds, Hashes
from sft_diversity.cleaning.config import CleanConfig
from sft_diversity.core import corpus as corpora
from sft_diversity.core import drafts, numbers, parquet, progress, stopping

FOLDER = ".parts"


class Read(NamedTuple):
    """What one pass over the texts found; arrays are by sample, in id order."""

    lengths: npt.NDArray[np.int64]  # characters a response
    values: Hashes
    bounds: Bounds  # (2n + 1,)
    keys: Hashes  # (n, bands)
    hits: overlap.Hits


def read(
    corpus: Path, draft: drafts.Draft, config: CleanConfig, sought: overlap.Grams | None
) -> Read:
    """Return the pass over all shards; those that a stopped run finished are not read again."""
    shards = corpora.shards(corpus)
    rows = sum(parquet.rows(path) for path in shards)
    with progress.progress("clean: words", rows, "samples") as bar:
        for path in shards:
            stopping.safe_point("clean")
            if not draft.has(_name(path, "done")):
                _one(path, draft, config, sought)
            bar.advance(parquet.rows(path))
    found = [[load(draft.path / _name(path, name)) for path in shards] for name in Read._fields[:4]]
    lengths, values, _, keys = (np.concatenate(parts) for parts in found)
    ends = [part[1:] for part in found[2]]
    offsets = np.cumsum([0, *(part[-1] for part in found[2])])
    bounds = np.concatenate([[0], *(e + o for e, o in zip(ends, offsets, strict=False))])
    hits = [load(draft.path / _name(path, "hits")) for path in shards]
    starts = np.cumsum([0, *(len(part) for part in found[0])])
    held_by = [part[0] + start for part, start in zip(hits, starts, strict=False)]
    pairs = overlap.Hits(
        np.concatenate(held_by).astype(np.int32), np.concatenate([part[1] for part in hits])
    )
    return Read(lengths, values, bounds.astype(np.int64), keys, pairs)


def state(corpus: Path, draft: drafts.Draft) -> str:
    """Say where a stopped run goes on."""
    shards = corpora.shards(corpus)
    done = sum(draft.has(_name(path, "done")) for path in shards)
    if done < len(shards):
        return f"shard {done + 1} of {len(shards)}"
    return f"block {len(list((draft.path / FOLDER).glob('twins-*.by.npy'))) + 1} of twins"


def _name(shard: Path, what: str) -> str:
    return f"{FOLDER}/{shard.stem}.{what}.npy"


def _one(
    shard: Path, draft: drafts.Draft, config: CleanConfig, sought: overlap.Grams | None
) -> None:
    table = parquet.read(shard, ["instruction", "response"])
    instructions, responses = (table[name].to_pylist() for name in table.column_names)
    store(draft, _name(shard, "lengths"), pc.utf8_length(table["response"]).to_numpy())
    compared = {
        name: texts if config.component in (name, "both") else [""] * len(texts)
        for name, texts in (("instruction", instructions), ("response", responses))
    }
    bands = minhash.banding(config.jaccard, config.permutations)
    values, bounds = np.zeros(0, np.uint64), np.zeros(2 * len(responses) + 1, np.int64)
    keys = np.zeros((len(responses), 0), np.uint64)
    if config.minhash:
        values, bounds = minhash.sets(compared["instruction"], compared["response"], config.shingle)
        keys = minhash.band_keys(values, bounds, bands, config.seed)
    store(draft, _name(shard, "values"), values)
    store(draft, _name(shard, "bounds"), bounds)
    store(draft, _name(shard, "keys"), keys)
    hits = np.zeros((2, 0), np.int32)
    if sought is not None:
        hits = np.stack(overlap.look_up(instructions, responses, sought))
    store(draft, _name(shard, "hits"), hits)
    store(draft, _name(shard, "done"), np.zeros(0))


def forget(draft: drafts.Draft) -> None:
    """Remove what was kept; renamed first, since half a removal must not be resumed from."""
    old = draft.path / f"{FOLDER}.old"
    shutil.rmtree(old, ignore_errors=True)
    (draft.path / FOLDER).rename(old)
    shutil.rmtree(old)


def store(draft: drafts.Draft, name: str, array: npt.NDArray[Any]) -> None:
    """Write a plain array, whole or not at all."""
    with draft.writing(name) as path:
        numbers.save_array(path, array)


def load(path: Path) -> npt.NDArray[Any]:
    """Return a plain array that `store` wrote."""
    array: npt.NDArray[Any] = np.load(path, allow_pickle=False)
    return array
