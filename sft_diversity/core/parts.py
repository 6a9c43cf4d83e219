"""A corpus in N parts, one for each job of an array: which rows are whose, and what a part leaves.

The split depends on the corpus alone: part I is the same rows on every machine. A part leaves a
folder with a manifest, so that a scheduler can tell that it is finished.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sft_diversity.core import corpus as corpora
from sft_diversity.core import folder, progress, stopping
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
    return dict(look(parts, stage))


def look(parts: Path, stage: str) -> Iterator[tuple[Part, Path]]:
    """Yield what `finished` returns, one part at a time: each is a file to read."""
    for path in sorted(parts.glob("*-of-*")):
        match = re.fullmatch(r"(\d+)-of-(\d+)", path.name)
        if match and folder.stage_of(path) == stage:
            yield Part(int(match[1]), int(match[2])), path


def run(
    corpus: Path,
    out: Path,
    work: folder.Work,
    part: Part,
    make: Callable[[folder.Draft, Slice], None],
    label: str,
    say: Callable[[str], None] = progress.say,
) -> dict[str, Any]:
    """Make one part, slice by slice, into `out`; return its manifest.

    Parameters
    ----------
    work : Work
        Of every part alike; the part's number is added to its config.
    make : callable
        Writes the files of a slice, unless the draft has them: a part that was stopped goes on.
    label : str
        Stands before the bar.
    """
    own = folder.Work(work.stage, work.version, work.inputs, {**work.config, **_numbers(part)})
    draft = folder.open_draft(out, own)
    say(f"{label}: part {part}, {draft.state}, {draft.reason}")
    if draft.reused:
        return folder.read_manifest(out, work.stage)
    mine = slices(corpus, part)
    with progress.progress(label, len(mine), "shards") as bar:
        for piece in mine:
            stopping.safe_point(label)
            make(draft, piece)
            bar.advance()
    return draft.commit(**account(part, mine))


def account(part: Part, mine: Sequence[Slice]) -> dict[str, Any]:
    """Return what the manifest of a part says of its rows."""
    rows = sum(piece.stop - piece.start for piece in mine)
    result = {"part": str(part), "rows": rows, "slices": [piece.name for piece in mine]}
    return {"rows": folder.rows_account(rows, rows, {}), "result": result}


def gather(corpus: Path, parts: Path | None, work: folder.Work) -> list[tuple[Slice, Path | None]]:
    """Return the rows of a corpus in order, each slice with the finished part that holds it.

    Of several splits that were begun the one that most is finished of counts; what it lacks has
    None. Parts of other work, and damaged ones, do not count.
    """
    done = {} if parts is None else finished(parts, work.stage)
    sound = {part: path for part, path in done.items() if _serves(path, part, work)}
    if not sound:
        return [(piece, None) for piece in whole(corpus)]
    shares = Counter(part.of for part in sound)
    of = max(shares, key=lambda n: (Fraction(shares[n], n), -n))
    every = [Part(number, of) for number in range(1, of + 1)]
    return [(piece, sound.get(part)) for part in every for piece in slices(corpus, part)]


def _serves(path: Path, part: Part, work: folder.Work) -> bool:
    manifest = folder.read_manifest(path, work.stage)
    same = folder.Work(work.stage, work.version, work.inputs, {**work.config, **_numbers(part)})
    return manifest["key"] == same.key and not folder.verify(path)["faults"]


def _numbers(part: Part) -> dict[str, int]:
    return {"part": part.number, "parts": part.of}


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
