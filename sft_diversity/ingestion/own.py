"""Rows that this package wrote, whatever they went through since: a row's id is its content's hash.

A subset, a corpus or an export is read back with the sources, the ids and the `meta` it had. No
manifest is needed for that, so it holds after `datasets`, polars or an editor rewrote the file.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sft_diversity.core import corpus as corpora
from sft_diversity.core import folder
from sft_diversity.core.messages import id_texts
from sft_diversity.ingestion.files import File
from sft_diversity.ingestion.formats import Origin, Reader, Sample, opened_up
from sft_diversity.ingestion.text import digest

#: Columns that follow from the turns or are carried by name; others join `meta`.
_COLUMNS = frozenset(
    {
        "id", "source", "source_file", "source_row", "messages", "prompt", "completion", "meta",
        "instruction", "response", "input", "output", "system", "history", "conversations", "pick",
        "tools",
    }
)  # fmt: skip
_PARENTS = 2  # a data file lies in `samples/` or `data/` of its folder


def known(inner: Reader) -> Reader:
    """Return the reader that knows rows of ours again, and leaves all others to `inner`."""

    def read(row: dict[str, Any]) -> Sample:
        sample = inner(row)
        opened = opened_up(sample)
        for one in (opened, sample) if opened is not sample else (sample,):
            origin = _origin(row, one)
            if origin is not None:
                more = {k: v for k, v in row.items() if k not in _COLUMNS and v is not None}
                more |= {"tools": one.tools} if one.tools is not None else {}
                return one._replace(task=None, meta=_meta(row.get("meta")) | more, origin=origin)
        return opened

    return Reader(read, inner.exchange)


def _origin(row: dict[str, Any], sample: Sample) -> Origin | None:
    """Return where a row was before, None where its id is not the hash of what it holds."""
    given, source = row.get("id"), row.get("source")
    if not (isinstance(given, str) and len(given) == 32 and isinstance(source, str) and source):
        return None
    messages = [turn.message for turn in sample.turns]
    texts = [text.encode() for text in id_texts(messages, sample.tools)]
    file, place = row.get("source_file"), row.get("source_row")
    if not (isinstance(file, str) and isinstance(place, int)):
        file, place = "", -1
    where = [source.encode(), file.encode(), str(place).encode()]  # part of ids of `dedup: none`
    for hashed in (texts, [*texts, *where]):
        id = digest(hashed)
        if id.hex() == given:
            return Origin(id, source, file, place)
    return None


def _meta(value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return {"meta": value}
    if value is None:
        return {}
    return value if isinstance(value, dict) else {"meta": value}


def folders(files: Sequence[File]) -> list[Path]:
    """Return the finished folders of ours that hold these files."""
    near = {p for one in files if one.kind != "hub" for p in list(one.path.parents)[:_PARENTS]}
    stages = ("select", "export", *corpora.MAKERS)
    return sorted(place for place in near if folder.stage_of(place) in stages)


def licences(files: Sequence[File]) -> dict[str, str]:
    """Return source -> licence, as the folders of ours that hold these files state them."""
    found: dict[str, str] = {}
    for place in folders(files):
        found |= corpora.licences_of(folder.read_manifest(place))
    return found
