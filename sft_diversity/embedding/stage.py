"""Corpus to embeddings: both components, identical texts once, cached by text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from sft_diversity.core import corpus as corpora
from sft_diversity.core import extras, folder, machine, parts, progress, schema, stopping
from sft_diversity.core import vectors as core_vectors
from sft_diversity.core.config import Config
from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.core.hashing import content_key
from sft_diversity.embedding import pool
from sft_diversity.embedding import store as stores
from sft_diversity.embedding import units as unit_work
from sft_diversity.embedding.base import Backend, Encoder, Placement
from sft_diversity.embedding.locate import PACKAGED, Files, locate

VERSION = 1
WORK = Path(".sftdiv")
# rough, for plans only: tokens a second and worker with the packaged encoder
_RATES = {("cpu", "float32"): 3_000, ("cpu", "bfloat16"): 9_000, ("cuda", "bfloat16"): 400_000}
_CHARS_PER_TOKEN = 4.5


class EmbedConfig(Config):
    """Which encoder, where it runs, and what it reads."""

    encoder: str = Field(
        default=PACKAGED,
        description="`packaged` (all-MiniLM-L6-v2, no download), a folder, or a Hub id",
    )
    revision: str | None = Field(
        default=None, description="branch, tag or commit of a Hub encoder; recorded as a commit"
    )
    components: tuple[corpora.Component, ...] = Field(
        default=corpora.COMPONENTS, min_length=1, description="which components to embed"
    )
    prompt_name: str | None = Field(
        default=None, description="which of the encoder's own prompts goes before every text"
    )
    device: machine.Device = Field(default="auto", description="auto: CUDA where there is a GPU")
    precision: machine.Precision = Field(
        default="auto", description="auto: bfloat16 where the hardware multiplies it, else float32"
    )
    backend: Backend = Field(
        default="torch", description="openvino: CPU only, extra `openvino`, mean-pooling encoders"
    )
    workers: int | None = Field(
        default=None, ge=1, description="cores or GPUs to use; default: all; changes no result"
    )


def place(config: EmbedConfig) -> Placement:
    """Return where and how the encoder will run here.

    Raises
    ------
    UsageError
        If CUDA is asked for and not there, or a backend is not installed or cannot do it.
    """
    if config.backend == "openvino":
        extras.require("openvino", "embed: backend openvino", "use backend torch")
    device = machine.device_for("embed", config.device)
    if config.backend == "openvino" and config.device == "cuda":
        raise UsageError("embed: backend `openvino` runs on the CPU; leave out --device cuda")
    if config.backend == "openvino":
        device = "cpu"
    precision = machine.precision_for(config.precision, device)
    limit = machine.gpus() if device == "cuda" else machine.cores()
    workers = min(config.workers or limit, limit)
    return Placement(config.backend, device, precision, workers)


def check(config: EmbedConfig) -> Placement:
    """Refuse an encoder or a backend that is not there; return where the encoder will run.

    Raises
    ------
    UsageError
        See `place`, and `locate` without a download.
    """
    placement = place(config)
    locate(config.encoder, config.revision, download=False)
    return placement


def embed(
    corpus: Path,
    out: Path,
    config: EmbedConfig,
    work: Path = WORK,
    say: Callable[[str], None] = progress.say,
) -> dict[str, Any]:
    """Embed a corpus into `out/<component>/<shard>.parquet`, rows and shards as in the corpus.

    Parameters
    ----------
    corpus : Path
        A finished output of `ingest`.
    out : Path
        Made, taken up again, or found finished.
    work : Path
        Vectors are cached in `work/vectors/`, by text and encoder: what another run or another
        corpus has embedded is not embedded again.

    Returns
    -------
    dict
        The manifest; `result` has per component the rows and how many texts were cut or blank.

    Raises
    ------
    DataError, UsageError, Interrupted

    Notes
    -----
    Time is that of the encoder, some 2 · parameters operations a token. A kill loses at most the
    units in flight (about a minute of each worker).
    """
    files = locate(config.encoder, config.revision)
    assert files is not None
    placement = place(config)
    draft = folder.open_draft(out, work_of(corpus, config, files, placement))
    if draft.reused:
        say(f"embed: {draft.reason}, reused")
        return folder.read_manifest(out, "embed")
    store = stores.Store(store_folder(work, config, files, placement))
    embedded = fill(parts.whole(corpus), config, files, placement, store, say)
    result = _assemble(corpus, config, store, draft)
    rows = max(c["rows"] for c in result["components"].values())
    return draft.commit(
        rows=folder.rows_account(rows, rows, {}),
        result=result | {"encoder": identity(config, files, placement)},
        run={
            "device": placement.device,
            "workers": placement.workers,
            "texts_embedded": embedded,
        },
    )


def plan(corpus: Path, out: Path, config: EmbedConfig, work: Path = WORK) -> dict[str, Any]:
    """Return what `embed` would do: rows, texts to embed, cached or not, seconds, bytes."""
    placement = place(config)
    files = locate(config.encoder, config.revision, download=False)
    shards = corpora.shards(corpus)
    rows = sum(pq.read_metadata(path).num_rows for path in shards)
    said: dict[str, Any] = {
        "stage": "embed",
        "out": str(out),
        "rows": rows,
        "encoder": config.encoder,
        "device": placement.device,
        "precision": placement.precision,
        "workers": placement.workers,
    }
    if files is None:
        return said | {"state": "new", "reason": "the encoder would be downloaded first"}
    manifest = folder.read_manifest(out) if folder.stage_of(out) == "embed" else {}
    if manifest.get("key") == work_of(corpus, config, files, placement).key:
        return said | {"state": "reused", "texts_to_embed": 0, "seconds": 0.0, "bytes": 0}
    store = stores.Store(store_folder(work, config, files, placement))
    said |= {"state": "new", **cost(parts.whole(corpus), config, placement, store)}
    said["bytes"] += 2 * 384 * rows * len(config.components)
    return said


def cost(
    slices: Sequence[parts.Slice], config: EmbedConfig, placement: Placement, store: stores.Store
) -> dict[str, Any]:
    """Return what embedding these rows would take: texts to embed, seconds, bytes of cache."""
    texts, characters = 0, 0
    for unit in unit_work.missing_units(slices, config.components, store):
        texts += len(unit.texts)
        characters += sum(min(len(text), 1_200) for text in unit.texts)
    rate = _RATES.get((placement.device, placement.precision), 3_000) * placement.workers
    return {
        "texts_to_embed": texts,
        "texts_cached": len(store),
        "seconds": round(characters / _CHARS_PER_TOKEN / rate, 1),
        "bytes": 2 * 384 * texts,
    }


def encoder_for(files: Files, config: EmbedConfig, precision: str, device: str) -> Encoder:
    """Return the loaded encoder (torch is imported here)."""
    if config.backend == "openvino":
        from sft_diversity.embedding.openvino import OpenVinoEncoder

        return OpenVinoEncoder(files.folder, precision, config.prompt_name)
    from sft_diversity.embedding.sentence_transformer import SentenceTransformerEncoder

    return SentenceTransformerEncoder(files.folder, device, precision, config.prompt_name)


def _make(files: Files, config: EmbedConfig, precision: str, device: str) -> Encoder:
    return encoder_for(files, config, precision, device)


def fill(
    slices: Sequence[parts.Slice],
    config: EmbedConfig,
    files: Files,
    placement: Placement,
    store: stores.Store,
    say: Callable[[str], None],
) -> int:
    """Embed what the store lacks of these rows; return how many texts that were."""
    if unit_work.complete(slices, config.components, store):
        say("embed: every text is in the cache")
        return 0
    total = sum(len(u.texts) for u in unit_work.missing_units(slices, config.components, store))
    say(
        f"embed: {total:,} texts with {files.name} ({placement.backend}, {placement.precision}) "
        f"on {placement.device}, {placement.workers} workers; {len(store):,} were cached"
    )
    facts = identity(config, files, placement)
    stores.describe(store.folder, facts)
    make = partial(_make, files, config, placement.precision)
    todo = unit_work.missing_units(slices, config.components, store)
    with progress.progress("embed", total, "texts") as bar:
        if placement.device == "cuda" and placement.workers > 1:
            devices = [f"cuda:{number}" for number in range(placement.workers)]
            pool.run_processes(make, devices, placement, store.folder, todo, bar.advance)
        else:
            pool.run_threads(make, placement, store.folder, todo, bar.advance)
    store.refresh()
    return total


def _assemble(
    corpus: Path, config: EmbedConfig, store: stores.Store, draft: folder.Draft
) -> dict[str, Any]:
    """Write one table a shard and component from the store; return the figures."""
    if not len(store):
        raise DataError("embed: the corpus has no rows; look at what ingest dropped")
    figures = {c: {"rows": 0, "cut": 0, "blank": 0} for c in config.components}
    dim = 0
    for path in corpora.shards(corpus):
        table = pq.read_table(path, columns=["id", *config.components])
        for component in config.components:
            texts = table[component].to_pylist()
            vectors, cut = store.get(stores.keys_of(texts))
            dim = vectors.shape[1]
            told = figures[component]
            told["rows"] += len(texts)
            told["cut"] += int(cut.sum())
            told["blank"] += sum(not text.strip() for text in texts)
            name = f"{component}/{path.name}"
            if not draft.has(name):
                draft.write_table(name, _table(table["id"], vectors))
        stopping.safe_point("embed")
    return {"dim": dim, "components": figures}


def _table(ids: pa.ChunkedArray, vectors: np.ndarray[Any, np.dtype[np.float16]]) -> pa.Table:
    target = schema.embeddings(vectors.shape[1])
    table = pa.table({"id": ids, "embedding": core_vectors.column(vectors)})
    return schema.check(table.cast(target), target, "embed")


def identity(config: EmbedConfig, files: Files, placement: Placement) -> dict[str, Any]:
    """Return what a manifest and the cache say of the encoder."""
    return {
        "name": files.name,
        "revision": files.revision,
        "commit": files.commit,
        "backend": placement.backend,
        "precision": placement.precision,
        "prompt_name": config.prompt_name,
    }


def store_folder(work: Path, config: EmbedConfig, files: Files, placement: Placement) -> Path:
    """Return the folder of this encoder's vectors."""
    return work / "vectors" / key_of(config, files, placement)


def key_of(config: EmbedConfig, files: Files, placement: Placement) -> str:
    """Return 16 hex digits for all that decides the vector of a text."""
    return content_key(
        {
            "revision": files.revision,
            "precision": placement.precision,
            "backend": placement.backend,
            "prompt_name": config.prompt_name,
            "version": VERSION,
        }
    )[:16]


def work_of(corpus: Path, config: EmbedConfig, files: Files, placement: Placement) -> folder.Work:
    """Return the identity of a corpus's embeddings."""
    return folder.Work(
        "embed",
        VERSION,
        {"corpus": corpora.key(corpus), "encoder": files.revision},
        {"components": list(config.components), **options_of(config, placement)},
    )


def options_of(config: EmbedConfig, placement: Placement) -> dict[str, Any]:
    """Return the options, as resolved here, that decide a text's vector."""
    return {
        "precision": placement.precision,
        "backend": placement.backend,
        "prompt_name": config.prompt_name,
    }
