"""Samples as tokens, kept in the work folder: runs of other seeds on a subset tokenise nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from sft_diversity.core import folder, parquet
from sft_diversity.core.drafts import Work, open_draft
from sft_diversity.core.hashing import content_key, file_key
from sft_diversity.training.inputs import VERSION
from sft_diversity.training.models import home_of_tokenizer
from sft_diversity.training.rendering import Rendered, Tokens, Unusable
from sft_diversity.training.samples import Source

if TYPE_CHECKING:
    from sft_diversity.core.models import ModelFolder
    from sft_diversity.training.config import FinetuneConfig

#: In the work folder, each under its key.
FOLDER = "rendered"
_TOKENS, _REST = "tokens.parquet", "rest.json"
# Options that say what a sample's tokens are, and packages that say how they are made.
_OPTIONS = {"max_length", "on_truncation", "train_thinking"}
_PACKAGES = ("tokenizers", "transformers", "trl")


def kept(
    source: Source,
    base: ModelFolder,
    config: FinetuneConfig,
    work: Path | None,
    render: Callable[[], Rendered],
) -> Rendered:
    """Return what `render()` makes of samples, or what it made of the same before.

    The same are samples, tokenizer with its template, options and packages. Without a work folder
    nothing is kept. Where another process makes them, this one waits and takes them.
    """
    if work is None:
        return render()
    files = [file for file in home_of_tokenizer(base).files() if file.suffix != ".safetensors"]
    options = config.model_dump(mode="json", include=_OPTIONS)
    versions = {name: folder.versions().get(name) for name in _PACKAGES}
    inputs = {
        "samples": source.key,
        "tokenizer": content_key([[file.name, file_key(file)] for file in files]),
    }
    asked = Work("render", VERSION, inputs, options | {"versions": versions})
    draft = open_draft(work / FOLDER / asked.key, asked)
    if draft.reused:
        return _read(draft.out)
    try:
        rendered = render()
        arrays = {name: _column(getattr(rendered, name)) for name in _arrays()}
        rest = {k: v for k, v in vars(rendered).items() if k not in arrays}
        rest["unusable"] = [vars(one) for one in rendered.unusable]
        draft.write_table(_TOKENS, pa.table(arrays))
        draft.write_json(_REST, rest)
        draft.commit(rows=folder.rows_account(rendered.rows, rendered.rows, {}, 0))
    finally:
        draft.release()
    return rendered


def _arrays() -> list[str]:
    """Return the fields of `Rendered` that hold an array a sample."""
    return [one.name for one in dataclasses.fields(Rendered) if one.type == "list[Tokens]"]


def _column(arrays: list[Tokens]) -> pa.Array:
    offsets = np.cumsum([0, *map(len, arrays)])
    values = np.concatenate([np.zeros(0, np.int32), *arrays])
    return pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), pa.array(values))


def _read(place: Path) -> Rendered:
    table = parquet.read(place / _TOKENS).combine_chunks()
    rest: dict[str, Any] = folder.read_json(place / _REST)
    rest["unusable"] = [Unusable(**one) for one in rest["unusable"]]
    rest |= {name: _split(table[name]) for name in table.column_names}
    return Rendered(**rest)


def _split(column: pa.ChunkedArray) -> list[Tokens]:
    joined = column.combine_chunks()
    flat, offsets = joined.flatten().to_numpy(), joined.offsets.to_numpy()
    return np.split(flat, offsets[1:-1] - offsets[0]) if len(joined) else []
