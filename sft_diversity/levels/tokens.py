"""The token pass: every sample's token counts, from which micro kinds, entropy and lengths come."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field

from sft_diversity.core import corpus as corpora
from sft_diversity.core import folder, incidence, parts, progress, resources, stopping
from sft_diversity.core.config import Config
from sft_diversity.core.corpus import Component
from sft_diversity.core.incidence import Incidence
from sft_diversity.core.parts import Slice
from sft_diversity.levels import tokenizing
from sft_diversity.levels.base import PARTS
from sft_diversity.levels.tokenizing import (
    TokenCounts,
    Tokenizer,
    count_tokens,
    load_tokenizer,
    tokenizer_revision,
)

VERSION = 2
STAGE = "tokens"
ROWS_PER_S = 6_000  # a guess for plans: two cores, texts of some 300 characters


class TokensConfig(Config):
    """Which component to count, and with whose tokenizer."""

    component: Component = Field(
        default="response", description="whose text: instruction or response"
    )
    tokenizer: str | None = Field(
        default=None,
        description="folder, tokenizer.json or Hub id of the model to be trained; "
        "none: the offline base model's",
    )


def tokenizer_name(tokenizer: str | None) -> str:
    """Return the tokenizer to load: the named one, else the offline base model's folder."""
    return tokenizer or str(resources.tiny_base())


def check(config: TokensConfig) -> None:
    """Refuse a tokenizer that is not there, before anything is made."""
    tokenizing.check(tokenizer_name(config.tokenizer))


def plan(corpus: Path, out: Path, config: TokensConfig) -> dict[str, Any]:
    """Say what `tokens` would do; touches nothing."""
    rows = sum(pq.read_metadata(path).num_rows for path in corpora.shards(corpus))
    name = tokenizer_name(config.tokenizer)
    revision = tokenizer_revision(name)
    cached = revision is not None and _is_done(out, _work(corpus, config, revision))
    return {
        "stage": STAGE,
        "component": config.component,
        "rows": rows,
        "cached": cached,
        "seconds": 0.0 if cached else round(rows / ROWS_PER_S, 1),
        "bytes": 0 if cached else rows * 8 * 60,
        "out": str(out),
    }


def tokens(
    corpus: Path,
    out: Path,
    config: TokensConfig,
    say: Callable[[str], None] = progress.say,
    *,
    ready: Path | None = None,
) -> dict[str, Any]:
    """Count the tokens of every sample's component; return the manifest.

    `out` holds an incidence of all token types that occur (`kinds.parquet` with `token_id`, counts
    included) and `lengths.npy`, the tokens of each sample. Resumes by shard. Rows that a finished
    part in the folder `ready` holds are not counted again (`levels.part`).
    """
    name = tokenizer_name(config.tokenizer)
    revision = tokenizer_revision(name)
    tokenizer = None
    if revision is None:
        tokenizer = load_tokenizer(name)
        revision = tokenizer.revision
    draft = folder.open_draft(out, _work(corpus, config, revision))
    say(f"tokens: {draft.state}, {draft.reason}")
    if draft.reused:
        return folder.read_manifest(out, STAGE)
    tokenizer = tokenizer or load_tokenizer(name)
    rows = parts.gather(corpus, ready, part_work(corpus, config, revision))
    counted = _count_shards(draft, rows, config.component, tokenizer)
    result = _assemble(draft, counted, tokenizer) | {"component": config.component}
    shutil.rmtree(draft.path / PARTS)
    return draft.commit(rows=folder.rows_account(result["rows"], result["rows"], {}), result=result)


def _work(corpus: Path, config: TokensConfig, revision: str) -> folder.Work:
    inputs = {"corpus": corpora.key(corpus), "tokenizer": revision}
    return folder.Work(STAGE, VERSION, inputs, {"component": config.component})


def part_work(corpus: Path, config: TokensConfig, revision: str) -> folder.Work:
    """Return the identity of the token counts that a part leaves."""
    whole = _work(corpus, config, revision)
    return folder.Work("tokens-part", whole.version, whole.inputs, whole.config)


def _is_done(out: Path, work: folder.Work) -> bool:
    if folder.stage_of(out) != work.stage:
        return False
    return bool(folder.read_manifest(out, work.stage).get("key") == work.key)


def _count_shards(
    draft: folder.Draft,
    rows: Sequence[tuple[Slice, Path | None]],
    component: Component,
    tokenizer: Tokenizer,
) -> list[Path]:
    """Return one table a shard, written where no finished part has it; finished ones are kept."""
    found = []
    (draft.path / PARTS).mkdir(exist_ok=True)
    with progress.progress(f"tokens {component}", len(rows), "shards") as bar:
        for piece, place in rows:
            if place is None:
                stopping.safe_point(STAGE)
                place = draft.path / PARTS
                count_slice(draft, PARTS, piece, component, tokenizer)
            found.append(place / f"{piece.name}.parquet")
            bar.advance()
    return found


def count_slice(
    draft: folder.Draft, under: str, piece: Slice, component: Component, tokenizer: Tokenizer
) -> None:
    """Write ids, lengths, and token ids with counts of some rows, unless the draft has them."""
    name = f"{under}/{piece.name}.parquet"
    if not draft.has(name):
        table = piece.read(["id", component])
        counted = count_tokens(tokenizer, table[component].to_pylist())
        draft.write_table(name, _part(table["id"], counted))


def _part(ids: pa.ChunkedArray, counted: TokenCounts) -> pa.Table:
    offsets = np.concatenate([[0], np.cumsum(counted.sizes, dtype=np.int64)])
    columns = {
        "id": ids,
        "length": pa.array(counted.lengths),
        "ids": pa.LargeListArray.from_arrays(offsets, counted.ids),
        "counts": pa.LargeListArray.from_arrays(offsets, counted.counts),
    }
    return pa.table(columns)


def _assemble(draft: folder.Draft, tables: Sequence[Path], tokenizer: Tokenizer) -> dict[str, Any]:
    """Join the tables into one incidence over the token types that occur.

    Memory holds one table and arrays over samples and vocabulary; the long arrays are mapped files.
    """
    lengths, sizes, ids = [], [], []
    samples = np.zeros(tokenizer.vocabulary, dtype=np.int64)
    occurrences = np.zeros_like(samples)
    for path in tables:
        table = pq.read_table(path)
        ids.append(table["id"].combine_chunks())
        lengths.append(table["length"].to_numpy())
        sizes.append(pc.list_value_length(table["ids"]).to_numpy())
        token_ids, counts = _flat(table, "ids"), _flat(table, "counts")
        samples += np.bincount(token_ids, minlength=len(samples))
        occurrences += np.bincount(token_ids, counts, minlength=len(samples)).astype(np.int64)
    used = np.flatnonzero(samples)
    indptr = np.concatenate([[0], np.cumsum(np.concatenate(sizes))]).astype(np.int64)
    indices, counted = _mapped(draft, tables, used, int(indptr[-1]), len(samples))
    kinds = pa.table(
        {
            "kind": pa.array([tokenizer.name(int(i)) for i in used], pa.string()),
            "samples": samples[used],
            "token_id": used.astype(np.int32),
            "occurrences": occurrences[used],
        }
    )
    made = Incidence(indptr, indices, counted, len(used))
    incidence.save(draft.path, made, pa.concat_arrays(ids), kinds)
    all_lengths = np.concatenate(lengths)
    with draft.writing("lengths.npy") as path, path.open("wb") as handle:
        np.save(handle, all_lengths.astype(np.int32))
    total = int(occurrences.sum())
    return {
        "rows": len(all_lengths),
        "kinds": len(used),
        "vocabulary": tokenizer.vocabulary,
        "nnz": int(indptr[-1]),
        "tokens": total,
        "mean_tokens": round(total / max(len(all_lengths), 1), 3),
        "samples_without_token": int((all_lengths == 0).sum()),
    }


def _mapped(
    draft: folder.Draft,
    tables: Sequence[Path],
    used: npt.NDArray[np.int64],
    nnz: int,
    vocabulary: int,
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Return `indices` and `counts` of all tables, as arrays mapped to files among the parts."""
    number = np.zeros(vocabulary, dtype=np.int32)
    number[used] = np.arange(len(used), dtype=np.int32)
    indices, counts = (
        np.lib.format.open_memmap(
            draft.path / PARTS / f"{name}.npy", mode="w+", dtype=np.int32, shape=(nnz,)
        )
        if nnz
        else np.empty(0, dtype=np.int32)
        for name in ("indices", "counts")
    )
    at = 0
    for path in tables:
        table = pq.read_table(path, columns=["ids", "counts"])
        token_ids = _flat(table, "ids")
        indices[at : at + len(token_ids)] = number[token_ids]
        counts[at : at + len(token_ids)] = _flat(table, "counts")
        at += len(token_ids)
    return indices, counts


def _flat(table: pa.Table, column: str) -> npt.NDArray[np.int32]:
    """Return the values of a list column, end to end."""
    flat: npt.NDArray[np.int32] = pc.list_flatten(table[column]).to_numpy()
    return flat
