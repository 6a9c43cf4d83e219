"""A corpus in N parts, one for each job of an array: which rows are whose, and what a part leaves.

The split depends on the corpus alone: part I is the same rows on every machine. A part leaves a
folder with a manifest, so that a scheduler can tell that it is finished.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sft_diversity.core import corpus as corpora
from sft_diversity.core import folder
from sft_diversity.core.corpus import COMPONENTS
from sft_diversity.core.errors import UsageError
from sft_diversity.core.hashing import content_key

#: Folder of the parts in the work folder.
FOLDER = "parts"


@dataclass(frozen=True)
class Part:
    """The `number`-th of `of` parts, counted from 1."""

    number: int
    of: int

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    @property
    def name(self) -> str:
        """Name of its folder; names sort as the numbers do."""
        return f"{self.number:0{len(str(self.of))}}-of-{self.of}"


@dataclass(frozen=True)
class Slice:
    """Consecutive rows of a shard: `start` included, `stop` not."""

    path: Path
    start: int
    stop: int

    @property
    def name(self) -> str:
        """Names the rows within the corpus; no path."""
        return f"{self.path.stem}-{self.start:08}-{self.stop:08}"

    def read(self, columns: Sequence[str]) -> pa.Table:
        """Return these rows; the whole shard is read."""
        return pq.read_table(self.path, columns=list(columns)).slice(
            self.start, self.stop - self.start
        )


def parse(text: str | Part, stage: str) -> Part:
    """Return the part that `text`, "I/N", names.

    Raises
    ------
    UsageError
        If it is no such text, or I is not in 1 to N.
    """
    if isinstance(text, Part):
        return text
    found = re.fullmatch(r"\s*(\d{1,6})\s*/\s*(\d{1,6})\s*", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise UsageError(f"{stage}: part is `{text}`; give I/N with I from 1 to N, such as 2/8")
    return Part(int(found[1]), int(found[2]))


def whole(corpus: Path) -> list[Slice]:
    """Return the shards of a corpus, each as one slice."""
    return [Slice(path, 0, _rows(path)) for path in corpora.shards(corpus)]


def slices(corpus: Path, part: Part) -> list[Slice]:
    """Return the rows of a part: a run of the corpus in id order, cut through shards where needed.

    Parts hold about equally much text: the shards' sizes are read from their footers, and within a
    shard rows count alike. Parts together are the corpus, in order and without overlap.

    Raises
    ------
    UsageError
        If there are more parts than rows.
    """
    shards = whole(corpus)
    rows = sum(shard.stop for shard in shards)
    if part.of > max(rows, 1):
        raise UsageError(f"--part {part}: the corpus has {rows:,} rows; make at most as many parts")
    sizes = [_bytes(shard.path) for shard in shards]
    low, high = (
        _border(shards, sizes, Fraction(n, part.of)) for n in (part.number - 1, part.number)
    )
    found, first = [], 0
    for shard in shards:
        start, stop = max(low - first, 0), min(high - first, shard.stop)
        if start < stop:
            found.append(Slice(shard.path, start, stop))
        first += shard.stop
    return found


def place(work: Path, stage: str, made_from: Mapping[str, Any], part: Part) -> Path:
    """Return the folder of a part; `made_from` is JSON of what the user asked for."""
    return work / FOLDER / content_key({"stage": stage, **made_from})[:16] / part.name


def finished(parts: Path, stage: str) -> dict[Part, Path]:
    """Return the finished parts of a stage in the folder `parts`, a parent that `place` gave."""
    found = {}
    for path in sorted(parts.glob("*-of-*")):
        match = re.fullmatch(r"(\d+)-of-(\d+)", path.name)
        if match and folder.stage_of(path) == stage:
            found[Part(int(match[1]), int(match[2]))] = path
    return found


def _border(shards: Sequence[Slice], sizes: Sequence[int], share: Fraction) -> int:
    """Return the row up to which `share` of the text lies; a row weighs a byte besides."""
    weights = [size + shard.stop for shard, size in zip(shards, sizes, strict=True)]
    left, first = share * sum(weights), 0
    for shard, weight in zip(shards, weights, strict=True):
        if left < weight:
            return first + round(left / weight * shard.stop)
        left, first = left - weight, first + shard.stop
    return first


def _rows(path: Path) -> int:
    return int(pq.read_metadata(path).num_rows)


def _bytes(path: Path) -> int:
    """Return the uncompressed bytes of a shard's texts, from its footer."""
    meta = pq.read_metadata(path)
    groups = (meta.row_group(i) for i in range(meta.num_row_groups))
    columns = (group.column(i) for group in groups for i in range(group.num_columns))
    return sum(c.total_uncompressed_size for c in columns if c.path_in_schema in COMPONENTS)
