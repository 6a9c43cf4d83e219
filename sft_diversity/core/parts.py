"""How a corpus is cut: into slices, which are stages' units of work, and into parts for jobs.

The cut depends on the corpus alone: the same on every machine.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pyarrow as pa

from sft_diversity.core import corpus as corpora
from sft_diversity.core import parquet
from sft_diversity.core.errors import UsageError

#: Rows of a slice at most: what a kill may lose, and small enough to serve some hundred jobs.
SLICE_ROWS = 4_096
_FEWEST = 8  # slices of a corpus, so that a few jobs can share a small one


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


@dataclass(frozen=True)
class Slice:
    """Consecutive rows of a shard: `start` included, `stop` not."""

    path: Path
    start: int
    stop: int

    @property
    def name(self) -> str:
        """Names the rows within the corpus; no path. Names sort as the rows do."""
        return f"{self.path.stem}-{self.start:08}-{self.stop:08}"

    @property
    def rows(self) -> int:
        """How many they are."""
        return self.stop - self.start

    def read(self, columns: Sequence[str]) -> pa.Table:
        """Return these rows. The shard is read whole, and kept for its next slice."""
        return _shard(self.path, tuple(columns)).slice(self.start, self.rows)


@lru_cache(maxsize=1)
def _shard(path: Path, columns: tuple[str, ...]) -> pa.Table:
    return corpora.read_file(path, columns)


def slices(corpus: Path) -> list[Slice]:
    """Return the slices of a corpus in id order: shards, each cut evenly."""
    shards = [(path, parquet.rows(path)) for path in corpora.shards(corpus)]
    total = sum(rows for _, rows in shards)
    most = min(SLICE_ROWS, max(1, -(-total // _FEWEST)))
    return [piece for path, rows in shards for piece in _cut(path, rows, -(-rows // most))]


def _cut(path: Path, rows: int, into: int) -> list[Slice]:
    edges = [rows * i // into for i in range(into + 1)] if into else [0]
    return [Slice(path, low, high) for low, high in itertools.pairwise(edges)]
