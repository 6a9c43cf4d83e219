"""A token pass on disk: shards of token counts, and the vocabulary that is used."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sft_diversity.core import arrow, folder, parquet
from sft_diversity.core.incidence import Incidence

STAGE = "tokens"
#: Folder of the shards in the output: tables of id, length, ids, counts.
SHARDS = "counts"
#: Entries (distinct tokens of samples) up to which an incidence that is asked for again is kept.
KEPT = 100_000_000
Counts = npt.NDArray[np.int32]


class TokenPass:
    """The tokens of every sample's component: lengths, and the incidence of all token types.

    Parameters
    ----------
    place : Path
        A finished output of stage `tokens`.

    Notes
    -----
    Lengths are read once and kept, and so is the incidence where all of it is asked for: it has 8
    bytes for each distinct token of each sample. `take` needs no more of it than its rows.
    """

    def __init__(self, place: Path) -> None:
        self.place = place
        self._asked = False
        self.manifest = folder.read_manifest(place, STAGE)
        self.shards = parquet.listed(place, SHARDS, STAGE)

    @cached_property
    def kinds(self) -> pa.Table:
        """`kind` (the token's string), `samples`, `token_id`, `occurrences`, by token id."""
        return parquet.read(self.place / "kinds.parquet")

    @cached_property
    def ids(self) -> pa.Array:
        """Sample ids, ascending, shape (n,)."""
        return self._column("id").combine_chunks()

    @cached_property
    def lengths(self) -> Counts:
        """Tokens of each sample, int32, shape (n,)."""
        return arrow.joined([self._column("length")], np.int32)

    @cached_property
    def incidence(self) -> Incidence:
        """Samples × token types that occur, with counts; kinds are numbered as in `kinds`."""
        return self._end_to_end(self.blocks())

    def take(self, rows: npt.NDArray[np.int64]) -> Incidence:
        """Return the incidence of `rows`, in that order.

        Notes
        -----
        Read shard by shard, so that memory holds one shard and the rows; from the second time on
        taken from memory, if the incidence has at most `KEPT` entries.
        """
        again, self._asked = self._asked, True
        entries = pc.sum(self.kinds["samples"]).as_py() or 0
        if "incidence" in vars(self) or (again and entries <= KEPT):
            return self.incidence.take(rows)
        order = np.argsort(rows, kind="stable")
        ascending, parts, start = rows[order], [], 0
        for block in self.blocks():
            first, last = np.searchsorted(ascending, (start, start + block.n_samples))
            parts.append(block.take(ascending[first:last] - start))
            start += block.n_samples
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        return self._end_to_end(parts).take(back)

    def blocks(self) -> Iterator[Incidence]:
        """Yield the incidence shard by shard: memory holds one."""
        used = arrow.joined([self.kinds["token_id"]], np.int32)
        number = np.zeros(int(used.max(initial=0)) + 1, np.int32)
        number[used] = np.arange(len(used), dtype=np.int32)
        for path in self.shards:
            table = parquet.read(path, ["ids", "counts"])
            sizes = arrow.joined([pc.list_value_length(table["ids"])], np.int64)
            indptr = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
            yield Incidence(indptr, number[flat(table, "ids")], flat(table, "counts"), len(used))

    def _end_to_end(self, parts: Iterable[Incidence]) -> Incidence:
        sizes, indices, counts = [np.zeros(1, np.int64)], [], []
        for part in parts:
            sizes.append(np.diff(part.indptr))
            indices.append(part.indices)
            counts.append(part.counts)
        indptr = np.cumsum(np.concatenate(sizes))
        return Incidence(indptr, _joined(indices), _joined(counts), self.kinds.num_rows)

    def _column(self, name: str) -> pa.ChunkedArray:
        return parquet.join(self.shards, [name])[name]


def flat(table: pa.Table, column: str) -> Counts:
    """Return the values of a list column, end to end."""
    return arrow.joined([pc.list_flatten(table[column])], np.int32)


def _joined(parts: list[Counts]) -> Counts:
    return np.concatenate(parts) if parts else np.zeros(0, np.int32)
