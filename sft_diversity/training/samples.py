"""Where samples lie, and their dialogues: of a subset, a corpus, an export, a folder of Parquet."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sft_diversity.core import corpus as corpora
from sft_diversity.core import folder, parquet, urls
from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.core.hashing import content_key, file_key
from sft_diversity.core.messages import FIELDS, from_trainers

Dialogue: TypeAlias = tuple[str, list[dict[str, Any]], str | None]  # id, turns, tools


@dataclass(frozen=True)
class Source:
    """Where the samples are: Parquet files in order, and the content key of them all."""

    files: list[Path]
    key: str
    stage: str


def find_samples(subset: Path) -> Source:
    """Find the sample files of a subset, a corpus, an export, or any folder of Parquet files.

    Raises
    ------
    UsageError
        If there is no such folder, or it holds none.
    """
    root, stage = root_of(subset), folder.stage_of(subset)
    files = sorted(root.glob("*.parquet"))
    if stage is not None:
        files = folder.listed(subset, folder.read_input(subset), suffix=".parquet")
        files = [file for file in files if file.parent == root]
    if stage in ("select", *corpora.MAKERS):
        key = folder.contents_key(folder.read_manifest(subset), "samples/")
    else:
        key = content_key([[path.name, file_key(path)] for path in files])
    return Source(files, key, stage or "folder")


def is_raw(subset: str | Path) -> bool:
    """Whether samples are to be ingested first: a file, a Hub id, a URL, or columns unlike ours."""
    path = Path(subset)
    if not path.is_dir():
        return path.exists() or str(subset).startswith("hub:") or urls.is_remote(subset)
    if folder.stage_of(path) is not None:
        return False
    files = [file for at in _places(path) for file in sorted(at.glob("*.parquet"))]
    names = set(parquet.schema(files[0]).names) if files else set[str]()
    return "messages" not in names and not names.issuperset(("prompt", "completion"))


def _places(subset: Path) -> list[Path]:
    return [subset / "samples", subset / "data", subset]


def root_of(subset: Path) -> Path:
    """Return the folder that the sample files lie in; raise as `find_samples` does."""
    if not subset.is_dir():
        raise UsageError(f"finetune: {subset} is not a folder; name the output of `sftdiv select`")
    folder.refuse_damaged(subset)
    root = next((path for path in _places(subset) if any(path.glob("*.parquet"))), None)
    if root is None:
        raise UsageError(
            f"finetune: {subset} has no Parquet files (looked in samples/, data/ and itself); "
            "name the output of `sftdiv select`, `ingest` or `export`"
        )
    return root


def estimate_tokens(source: Source, max_length: int) -> npt.NDArray[np.float64]:
    """Return about how many tokens each sample has, at four characters a token, unread."""
    said = ("content", *FIELDS)
    characters = [
        sum(len(turn.get(name) or "") for turn in turns for name in said) + len(tools or "")
        for _, turns, tools in dialogues(source)
    ]
    return np.minimum(np.array(characters, dtype=np.float64) / 4.0, max_length)


def dialogues(source: Source) -> Iterator[Dialogue]:
    """Yield every row; those of a subset in pick order, all else as they lie."""
    if source.stage == "select":
        wanted = ["id", "messages", "tools", "pick"]
        tables = [corpora.read_file(path, wanted) for path in source.files]
        for batch in pa.concat_tables(tables).sort_by("pick").to_batches(max_chunksize=2_000):
            columns = (batch[name].to_pylist() for name in wanted[:3])
            yield from zip(*columns, strict=True)
        return
    for path in source.files:
        yield from _plain_rows(path)


def _plain_rows(path: Path) -> Iterator[Dialogue]:
    names = set(parquet.schema(path).names)
    wanted = ["messages"] if "messages" in names else ["prompt", "completion"]
    if not names.issuperset(wanted):
        raise DataError(
            f"finetune: {path.name} has neither `messages` nor `prompt` and `completion`; "
            f"it has {', '.join(sorted(names))}"
        )
    number = 0
    more = [name for name in ("id", "tools") if name in names]
    for batch in parquet.batches(path, 2_000, [*wanted, *more]):
        for row in batch.to_pylist():
            tools = row.get("tools")
            if tools is not None and not isinstance(tools, str):
                tools = json.dumps(tools, ensure_ascii=False)
            yield str(row.get("id", f"{path.name} row {number}")), _messages(row), tools or None
            number += 1


def _messages(row: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a row's turns; prompt and completion may be texts or lists of turns."""
    if row.get("messages") is not None:
        return [from_trainers(turn) for turn in row["messages"]]
    sides = [("user", row["prompt"]), ("assistant", row["completion"])]
    turns: list[dict[str, Any]] = []
    for role, said in sides:
        if isinstance(said, str):
            turns.append({"role": role, "content": said})
        else:
            turns += [from_trainers(turn) for turn in said]
    return turns
