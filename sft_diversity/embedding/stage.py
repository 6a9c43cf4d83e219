"""Corpus to embeddings: both components, identical texts once, cached by text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from sft_diversity.core import corpus as corpora
from sft_diversity.core import extras, folder, machine, parquet, parts, progress, schema
from sft_diversity.core import vectors as core_vectors
from sft_diversity.core.config import EMBEDDINGS, Config
from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.core.hashing import content_key, file_key
from sft_diversity.core.models import PACKAGED, ModelFolder
from sft_diversity.core.stage import Ask, Job, Made, Result, Stage, Unit, no_cost
from sft_diversity.embedding import batches, pool
from sft_diversity.embedding import cache as caches
from sft_diversity.embedding.base import Backend, Encoder, Placement, Precision
from sft_diversity.embedding.encoders import ENCODERS
from sft_diversity.embedding.own import own_vectors

VERSION = 1
# rough, for plans only: tokens a second and worker with the packaged encoder
_RATES = {
    ("cpu", "float32"): 3_000, ("cpu", "bfloat16"): 9_000, ("cpu", "int8"): 9_000,
    ("cuda", "bfloat16"): 400_000,
}  # fmt: skip
_CHARS_PER_TOKEN = 4.5
_BYTES_A_VECTOR = 2 * 384


class EmbedConfig(Config):
    """Which encoder, where it runs, and what it reads."""

    encoder: str = Field(
        default=PACKAGED,
        description="`packaged` (all-MiniLM-L6-v2, no download), a folder, or a Hub id",
    )
    revision: str | None = Field(
        default=None, description="branch, tag or commit of a Hub encoder; recorded as a commit"
    )
    embeddings: str | None = Field(default=None, description=EMBEDDINGS)
    components: tuple[corpora.Component, ...] = Field(
        default=corpora.COMPONENTS, min_length=1, description="which components to embed"
    )
    prompt_name: str | None = Field(
        default=None, description="which of the encoder's own prompts goes before every text"
    )
    device: machine.Device = Field(default="auto", description="auto: CUDA where there is a GPU")
    precision: Literal["auto", "float32", "bfloat16", "int8"] = Field(
        default="auto",
        description="auto: bfloat16 where the hardware multiplies it, else float32; int8: faster "
        "still on a CPU, in part other picks",
    )
    backend: Backend = Field(
        default="torch", description="openvino: CPU only, extra `openvino`, mean-pooling encoders"
    )
    workers: int | None = Field(
        default=None, ge=1, description="cores or GPUs to use; default: all; changes no result"
    )

    @model_validator(mode="after")
    def _one_maker(self) -> EmbedConfig:
        encoding = self.encoder != PACKAGED or self.revision or self.prompt_name
        if self.embeddings is not None and encoding:
            raise ValueError("embeddings stand in the place of an encoder; leave one out")
        return self


def place_encoder(config: EmbedConfig) -> Placement:
    """Return where and how the encoder will run here.

    Raises
    ------
    UsageError
        If CUDA is asked for and not there, or a package is not installed or cannot do it.
    """
    extras.require("sentence_transformers", "embed: an encoder")
    if config.backend == "openvino":
        extras.require("openvino", "embed: backend openvino", "use backend torch")
    device = machine.device_for("embed", config.device)
    if config.backend == "openvino" and config.precision == "int8":
        raise UsageError("embed: precision `int8` is backend torch's; leave out --backend openvino")
    for asked, on_cpu in (("backend", "openvino"), ("precision", "int8")):
        if getattr(config, asked) == on_cpu:
            if config.device == "cuda":
                raise UsageError(
                    f"embed: {asked} `{on_cpu}` runs on the CPU; leave out --device cuda"
                )
            device = "cpu"
    precision: Precision = (
        "int8" if config.precision == "int8" else machine.precision_for(config.precision, device)
    )
    limit = machine.gpus() if device == "cuda" else machine.cores()
    workers = min(config.workers or limit, limit)
    return Placement(config.backend, device, precision, workers)


def check_encoder(config: EmbedConfig) -> Placement:
    """Refuse an encoder or a backend that is not there; return where the encoder will run.

    Raises
    ------
    UsageError
        See `place_encoder` and `models.Finder.at_hand`.
    """
    placement = place_encoder(config)
    ENCODERS.at_hand(config.encoder, config.revision)
    return placement


def needs(config: EmbedConfig, ask: Ask) -> None:
    """Read the corpus, and an encoder that is there, or will be fetched when it is first used.

    Own vectors stand in its place, known by their file's content.
    """
    if config.embeddings is not None:
        own_vectors(Path(config.embeddings), read=False)
        if ask.corpus().there:
            ask.key("embeddings", file_key(Path(config.embeddings)))
        return
    placement = check_encoder(config)
    ask.resolve(precision=placement.precision)
    if ask.corpus().there:
        encoder = (ENCODERS.at_hand if ask.dry else ENCODERS.find)(config.encoder, config.revision)
        ask.key("encoder", encoder.key if encoder else None)


def units(config: EmbedConfig, inputs: Mapping[str, Made]) -> Sequence[Unit]:
    """Return the slices of the corpus: a file for each component, that of the last is the unit."""
    pieces = parts.slices(inputs["corpus"].path)
    return [Unit(_file(config.components[-1], piece), piece.rows, piece) for piece in pieces]


def _file(component: corpora.Component, piece: parts.Slice) -> str:
    return f"{component}/{piece.name}.parquet"


def embed_slices(job: Job[EmbedConfig]) -> None:
    """Write the vectors of each slice, after embedding the texts that the cache lacks.

    Notes
    -----
    Vectors are cached in the work folder, by text and encoder: what another run or another corpus
    has embedded is not embedded again. A kill loses the texts in flight, about a minute of each
    worker. Time is that of the encoder, some 2 · parameters operations a token.
    """
    left, config = job.left(), job.config
    if config.embeddings is not None:
        _write_own(job, config.embeddings)
        return
    placement = place_encoder(config)
    job.run |= {"device": placement.device, "workers": placement.workers, "texts_embedded": 0}
    if not left:
        return
    encoder = ENCODERS.find(config.encoder, config.revision)
    wanted, keys = [unit.what for unit in left], batches.TextKeys(config.components)
    only = keys.within(wanted) if len(left) < len(job.units) else None
    cache = caches.Vectors(cache_folder(job.work, config, encoder, placement), only=only)
    spent = fill_cache(wanted, keys, config, encoder, placement, cache, job.say)
    job.run |= {
        "texts_embedded": spent.texts,
        "tokens": spent.tokens,
        "tokens_computed": spent.computed,  # with padding and dummies
    }
    for unit in job.todo():
        ids = unit.what.read(["id"])["id"]
        for component in config.components:
            vectors, cut = cache.get(keys.of(unit.what, component))
            job.write_table(_file(component, unit.what), _table(ids, vectors, cut))


def _write_own(job: Job[EmbedConfig], embeddings: str) -> None:
    """Write the vectors of each slice out of a file; every component has the same."""
    if not job.left():
        return
    given = own_vectors(Path(embeddings))
    for unit, vectors in given.by_unit(job.corpus, job.units, job.todo()):
        ids = unit.what.read(["id"])["id"]
        for component in job.config.components:
            name = _file(component, unit.what)
            job.write_table(name, _table(ids, vectors, np.zeros(len(ids), np.bool_)))


def join(job: Job[EmbedConfig]) -> Result:
    """Count what was embedded; the slices stay as they are."""
    config = job.config
    figures = {c: {"rows": 0, "cut": 0, "blank": 0} for c in config.components}
    dim = 0
    for unit in job.units:
        table = unit.what.read(["id", *config.components])
        for component in config.components:
            found = parquet.schema(job.draft.path / _file(component, unit.what))
            dim = found.field("embedding").type.list_size
            told = figures[component]
            told["rows"] += table.num_rows
            told["cut"] += int((found.metadata or {}).get(_CUT, b"0"))
            told["blank"] += sum(not text.strip() for text in table[component].to_pylist())
    rows = max(told["rows"] for told in figures.values())
    if not rows:
        raise DataError("embed: the corpus has no rows; look at what ingest dropped")
    encoder = _made_by(config)
    return Result(
        rows=folder.rows_account(rows, rows, {}),
        figures={"dim": dim, "components": figures, "encoder": encoder},
        recipe={} if encoder["commit"] is None else {"revision": encoder["commit"]},
    )


def _made_by(config: EmbedConfig) -> dict[str, Any]:
    """Return what a manifest says of the encoder, or of the file of own vectors."""
    if config.embeddings is not None:
        own = Path(config.embeddings)
        return {"name": own.name, "revision": file_key(own), "commit": None}
    return identity(config, ENCODERS.find(config.encoder, config.revision), place_encoder(config))


def recipe(encoder: ModelFolder) -> dict[str, str]:
    """Return the options that fetch the same files again: the commit of a Hub encoder."""
    return {} if encoder.commit is None else {"revision": encoder.commit}


_CUT = b"texts cut"


def _table(
    ids: pa.ChunkedArray, vectors: np.ndarray[Any, Any], cut: np.ndarray[Any, Any]
) -> pa.Table:
    target = schema.embeddings(vectors.shape[1])
    table = pa.table({"id": ids, "embedding": core_vectors.column(vectors)})
    checked = schema.check(table.cast(target), target, "embed")
    return checked.replace_schema_metadata({_CUT: str(int(cut.sum())).encode()})


def _options(config: EmbedConfig) -> dict[str, Any]:
    if config.embeddings is not None:
        return {"components": list(config.components)}
    return {
        "components": list(config.components),
        "precision": config.precision,  # as it is resolved, see `needs`
        "backend": config.backend,
        "prompt_name": config.prompt_name,
    }


def _cost(config: EmbedConfig, ask: Ask) -> dict[str, Any]:
    """Return what embedding would take, and on what."""
    if config.embeddings is not None:
        return {"embeddings": Path(config.embeddings).name, **no_cost(config, ask)}
    placement, corpus = place_encoder(config), ask.inputs["corpus"]
    said: dict[str, Any] = {
        "encoder": config.encoder,
        "device": placement.device,
        "precision": placement.precision,
        "workers": placement.workers,
    }
    encoder = ENCODERS.at_hand(config.encoder, config.revision)
    if encoder is None:
        return said | {"reason": "the encoder would be downloaded first"}
    cache = caches.Vectors(cache_folder(ask.work, config, encoder, placement))
    texts = characters = 0
    keys = batches.TextKeys(config.components)
    slices = parts.slices(corpus.path)
    for batch in batches.missing_texts(slices, keys, cache, placement.unit_characters):
        texts += len(batch.texts)
        characters += sum(min(len(text), 1_200) for text in batch.texts)
    rate = _RATES.get((placement.device, placement.precision), 3_000) * placement.workers
    return said | {
        "texts_to_embed": texts,
        "texts_cached": len(cache),
        "seconds": round(characters / _CHARS_PER_TOKEN / rate, 1),
        "bytes": _BYTES_A_VECTOR * (texts + corpus.rows * len(config.components)),
    }


EMBED = Stage(
    "embed", VERSION, EmbedConfig, needs=needs, units=units, each=embed_slices, join=join,
    options=_options, cost=_cost,
)  # fmt: skip


def load_encoder(encoder: ModelFolder, config: EmbedConfig, precision: str, device: str) -> Encoder:
    """Return the loaded encoder (torch is imported here)."""
    if config.backend == "openvino":
        from sft_diversity.embedding.openvino import OpenVinoEncoder

        return OpenVinoEncoder(encoder, precision, config.prompt_name)
    from sft_diversity.embedding.sentence_transformer import open_encoder

    return open_encoder(encoder, device, precision, config.prompt_name)


def fill_cache(
    slices: Sequence[parts.Slice],
    keys: batches.TextKeys,
    config: EmbedConfig,
    encoder: ModelFolder,
    placement: Placement,
    cache: caches.Vectors,
    say: Callable[[str], None],
) -> batches.Spent:
    """Embed what the cache lacks of these rows, reading each once; return what that took."""
    folder.sweep(cache.folder)
    fewest = 8 if placement.device == "cpu" else placement.workers
    units = batches.missing_texts(slices, keys, cache, placement.unit_characters, fewest)
    first = next(units, None)
    if first is None:
        say("embed: every text is in the cache")
        return batches.Spent()
    total = sum(rows.rows for rows in slices) * len(config.components)
    say(
        f"embed: {total:,} texts, each once, with {encoder.name} ({placement.backend}, "
        f"{placement.precision}) on {placement.device}, {placement.workers} workers; "
        f"{len(cache):,} were cached"
    )
    caches.describe(cache.folder, identity(config, encoder, placement))
    make = partial(load_encoder, encoder, config, placement.precision)
    todo = chain([first], units)
    with progress.progress("embed", total, "texts") as bar:
        if placement.device == "cuda" and placement.workers > 1:
            devices = [f"cuda:{number}" for number in range(placement.workers)]
            spent = pool.run_processes(make, devices, placement, cache.folder, todo, bar.advance)
        else:
            spent = pool.run_threads(make, placement, cache.folder, todo, bar.advance)
    cache.refresh()
    pool.free_gpu()
    return spent


def identity(config: EmbedConfig, encoder: ModelFolder, placement: Placement) -> dict[str, Any]:
    """Return what a manifest and the cache say of the encoder."""
    named = {"name": encoder.name, "revision": encoder.key, "commit": encoder.commit}
    return named | options_of(config, placement)


def cache_folder(
    work: Path, config: EmbedConfig, encoder: ModelFolder, placement: Placement
) -> Path:
    """Return the folder of this encoder's vectors."""
    return work / "vectors" / vectors_key(config, encoder, placement)


def vectors_key(config: EmbedConfig, encoder: ModelFolder, placement: Placement) -> str:
    """Return 16 hex digits for all that decides the vector of a text."""
    decided = {"revision": encoder.key, "version": VERSION, **options_of(config, placement)}
    return content_key(decided)[:16]


def options_of(config: EmbedConfig, placement: Placement) -> dict[str, Any]:
    """Return the options, as resolved here, that decide a text's vector."""
    return {
        "precision": placement.precision,
        "backend": placement.backend,
        "prompt_name": config.prompt_name,
    }
