"""One part of a corpus's embeddings: a job of an array fills the cache and leaves a record."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sft_diversity.core import corpus as corpora
from sft_diversity.core import folder, parts, progress
from sft_diversity.core.errors import UsageError
from sft_diversity.core.parts import Part
from sft_diversity.embedding import stage, units
from sft_diversity.embedding import store as stores
from sft_diversity.embedding.base import Placement
from sft_diversity.embedding.locate import locate
from sft_diversity.embedding.stage import EmbedConfig

STAGE = "embed-part"
_NO_RESULT = {"device", "workers"}  # options that change no vector


def place(corpus: Path, config: EmbedConfig, part: Part, work: Path = stage.WORK) -> Path:
    """Return the folder of a part's record: the same on every machine, whatever it has."""
    made_from = {
        "corpus": corpora.key(corpus),
        "options": config.model_dump(mode="json", exclude=_NO_RESULT),
    }
    return parts.place(work, "embed", made_from, part)


def embed_part(
    corpus: Path,
    config: EmbedConfig,
    part: Part,
    work: Path = stage.WORK,
    say: Callable[[str], None] = progress.say,
) -> dict[str, Any]:
    """Embed the texts of one part into the cache of `work`; return the record's manifest.

    Any number of parts may run at once, on any machines that share `work`; `stage.embed` then
    finds every vector in the cache. What two parts hold both is at worst embedded twice: a text's
    vector does not depend on the texts beside it, and the cache has it once.

    Raises
    ------
    DataError, UsageError, Interrupted
        See `stage.embed`; UsageError too if finished parts have vectors of another precision.

    Notes
    -----
    A kill loses the units in flight; the next run of the part goes on with the same units.
    """
    files = locate(config.encoder, config.revision)
    assert files is not None
    placement = stage.place(config)
    out = place(corpus, config, part, work)
    check(corpus, config, work, placement, most=1)
    folder_of_vectors = stage.store_folder(work, config, files, placement)
    if not any(folder_of_vectors.glob("*.arrow")):
        shutil.rmtree(out, ignore_errors=True)  # the record of a cache that is gone
    whole = stage.work_of(corpus, config, files, placement)
    made = folder.Work(
        STAGE, whole.version, whole.inputs, {**whole.config, "part": part.number, "parts": part.of}
    )
    draft = folder.open_draft(out, made)
    if draft.reused:
        say(f"embed: part {part} is finished, reused")
        return folder.read_manifest(out, STAGE)
    slices = parts.slices(corpus, part)
    account = parts.account(part, slices)
    say(f"embed: part {part}, {account['result']['rows']:,} rows")
    store = stores.Store(folder_of_vectors, only=units.keys_in(slices, config.components))
    embedded = stage.fill(slices, config, files, placement, store, say)
    return draft.commit(
        **account,
        run={
            "device": placement.device,
            "workers": placement.workers,
            "texts_embedded": embedded,
        },
    )


def plan(corpus: Path, config: EmbedConfig, part: Part, work: Path = stage.WORK) -> dict[str, Any]:
    """Return what `embed_part` would do; touches nothing."""
    out = place(corpus, config, part, work)
    slices = parts.slices(corpus, part)
    said: dict[str, Any] = {
        "stage": "embed",
        "part": str(part),
        "out": str(out),
        "rows": sum(piece.stop - piece.start for piece in slices),
    }
    if folder.stage_of(out) == STAGE:
        return said | {"cached": True, "seconds": 0.0, "bytes": 0}
    files = locate(config.encoder, config.revision, download=False)
    if files is None:
        return said | {"cached": False, "reason": "the encoder would be downloaded first"}
    placement = stage.place(config)
    store = stores.Store(stage.store_folder(work, config, files, placement))
    return said | {"cached": False, **stage.cost(slices, config, placement, store)}


def check(
    corpus: Path,
    config: EmbedConfig,
    work: Path = stage.WORK,
    placement: Placement | None = None,
    most: int | None = None,
) -> None:
    """Refuse to mix precisions: what finished parts embedded must serve here too.

    `most` parts are looked at, by default all.

    Raises
    ------
    UsageError
        If finished parts were embedded at another precision than would be used here.
    """
    near = place(corpus, config, Part(1, 1), work).parent
    for part, path in itertools.islice(parts.look(near, STAGE), most):
        placement = placement or stage.place(config)
        used = folder.read_manifest(path, STAGE)["config"]["precision"]
        if used != placement.precision:
            raise UsageError(
                f"embed: part {part} was embedded in {used} but precision is "
                f"{placement.precision} here; give --precision on every machine, "
                f"or remove {near}"
            )
