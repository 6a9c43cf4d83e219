"""Second pass: which rows stay, and the shards made of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sft_diversity.core import arrow, seeding
from sft_diversity.core.arrow import halves, hex_ids
from sft_diversity.core.errors import DataError
from sft_diversity.core.schema import SAMPLES, STRUCTURED_SAMPLES
from sft_diversity.ingestion.config import IngestConfig
from sft_diversity.ingestion.runs import is_structured, whole_messages

Numbers = npt.NDArray[Any]
Halves = npt.NDArray[np.uint64]
_KEY = pa.binary(16)

#: What becomes of a row, by its number in `Verdicts.reason`.
REASONS = ("kept", "empty", "duplicate", "not_taken")
_KEPT, _EMPTY, _DUPLICATE, _NOT_TAKEN = range(len(REASONS))


@dataclass(frozen=True)
class Verdicts:
    """What becomes of every row of the runs, in their order.

    Attributes
    ----------
    file, row, source : int arrays, shape (n,)
        Numbers.
    ids : two uint64 arrays, shape (n,)
    reason : int8 array, shape (n,)
        Places in `REASONS`.
    twin : int64 array, shape (n,)
        Of a duplicate the place of the row that it repeats, else -1.
    """

    file: Numbers
    row: Numbers
    source: Numbers
    ids: tuple[Halves, Halves]
    reason: npt.NDArray[np.int8]
    twin: Numbers

    def __len__(self) -> int:
        return len(self.row)

    def counts(self, sources: int) -> list[dict[str, int]]:
        """Return how many rows of each source have which verdict."""
        table = np.zeros((sources, len(REASONS)), np.int64)
        np.add.at(table, (self.source, self.reason), 1)
        return [dict(zip(REASONS, counts, strict=True)) for counts in table.tolist()]


def judge(
    runs: Sequence[pa.Table], source_of_file: Sequence[int], config: IngestConfig
) -> Verdicts:
    """Return the verdicts on all rows: empty, duplicate, not taken, or kept.

    Of equal rows the first stays, in the order of sources, files and rows. Rows with the same
    messages but another cut between instruction and input count as duplicates too: they train the
    same.
    """
    file = arrow.joined([run["file"] for run in runs], np.int32)
    row = arrow.joined([run["row"] for run in runs], np.int64)
    ids, keys = (
        arrow.halves(pa.chunked_array([c for run in runs for c in run[name].chunks], _KEY))
        for name in ("id", "key")
    )
    empty = arrow.joined([run["empty"] for run in runs], np.bool_)
    source = np.asarray(source_of_file, np.int32)[file]
    reason = np.where(empty, _EMPTY, _KEPT).astype(np.int8)
    verdicts = Verdicts(file, row, source, ids, reason, np.full(len(row), -1))
    if config.dedup == "exact":
        for halves_of in (keys, ids):
            _drop_repeats(verdicts, halves_of)
    if reason.all():
        why = f"all {len(row):,} rows lack an instruction or a response"
        raise DataError(
            f"ingest: no sample is left: {why if len(row) else 'the sources hold no good row'}; "
            "name other sources"
        )
    _draw(verdicts, config)
    return verdicts


def _drop_repeats(verdicts: Verdicts, key: tuple[Halves, Halves]) -> None:
    """Mark the rows that are left and have the key of one before."""
    left = np.flatnonzero(verdicts.reason == _KEPT)
    high, low = (half[left] for half in key)
    order = np.argsort(high)
    same = high[order[1:]] == high[order[:-1]]  # few are: the rest of the work is on these
    near = np.zeros(len(left), np.bool_)
    near[1:] |= same
    near[:-1] |= same
    some = order[near]
    place = left[some]
    by_key = np.lexsort((verdicts.row[place], verdicts.file[place], low[some], high[some]))
    some, place = some[by_key], place[by_key]
    begins = np.ones(len(some), np.bool_)
    begins[1:] = (high[some[1:]] != high[some[:-1]]) | (low[some[1:]] != low[some[:-1]])
    first = place[begins][np.cumsum(begins) - 1]
    again = ~begins
    verdicts.reason[place[again]] = _DUPLICATE
    verdicts.twin[place[again]] = first[again]


def _draw(verdicts: Verdicts, config: IngestConfig) -> None:
    """Draw the samples that `take`, `fill` and `size` ask for."""
    places = [
        np.flatnonzero((verdicts.reason == _KEPT) & (verdicts.source == i))
        for i in range(len(config.sources))
    ]
    wanted = list(map(len, places))
    for i, source in enumerate(config.sources):
        if source.take != "all":
            _enough(source.name, source.take, len(places[i]), "take")
            wanted[i] = source.take
    filling = next((i for i, source in enumerate(config.sources) if source.fill), None)
    if config.size is not None and filling is not None:
        others = sum(wanted) - wanted[filling]
        if config.size < others:
            raise DataError(
                f"ingest: size is {config.size:,} but the other sources already give {others:,}; "
                "raise `size` or `take` less of them"
            )
        _enough(config.sources[filling].name, config.size - others, wanted[filling], "fill")
        wanted[filling] = config.size - others
    for place, number in zip(places, wanted, strict=True):
        if number < len(place):
            verdicts.reason[_not_drawn(verdicts, place, number, config.seed)] = _NOT_TAKEN
    if config.size is not None and filling is None:
        left = np.flatnonzero(verdicts.reason == _KEPT)
        _enough("all sources", config.size, len(left), "size")
        verdicts.reason[_not_drawn(verdicts, left, config.size, config.seed)] = _NOT_TAKEN


def _enough(name: str, wanted: int, there: int, option: str) -> None:
    if wanted > there:
        raise DataError(
            f"ingest: {name}: {wanted:,} samples asked for (`{option}`) but {there:,} are there; "
            "ask for fewer or add data"
        )


def _not_drawn(verdicts: Verdicts, pool: Numbers, size: int, seed: int) -> Numbers:
    """Return the places of the rows of a pool that a draw of `size` leaves out.

    The draw takes the smallest of a keyed hash of the ids: it depends on the seed and on which
    samples there are, not on their order, and changes little when some are added.
    """
    key = np.uint64(seeding.derive(seed, "ingest", "take"))
    high, low = (half[pool] for half in verdicts.ids)
    return pool[np.lexsort((low, high, _mixed(high ^ _mixed(low ^ key))))[size:]]


def _mixed(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Return splitmix64's finaliser of every value (Steele, Lea & Flood 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


class Shards:
    """The buckets of ids that kept rows fall into; each is made on its own, from any thread.

    Parameters
    ----------
    labels, sources : sequences of str
        Of each file, by its number.
    digits : int
        Hex digits of the id that name a bucket.
    """

    def __init__(
        self,
        runs: Sequence[pa.Table],
        verdicts: Verdicts,
        labels: Sequence[str],
        sources: Sequence[str],
        digits: int,
    ) -> None:
        self._labels, self._sources, self._digits = labels, sources, digits
        self.schema = STRUCTURED_SAMPLES if any(map(is_structured, runs)) else SAMPLES
        kept = verdicts.reason == _KEPT
        stops = np.cumsum([len(run) for run in runs])[:-1]
        self._runs = [
            (run, halves(run["id"])[0], mask)
            for run, mask in zip(runs, np.split(kept, stops), strict=True)
        ]

    def __len__(self) -> int:
        return int(16**self._digits)

    def name(self, bucket: int) -> str:
        """Return the prefix that the bucket's ids share."""
        return f"{bucket:0{self._digits}x}" if self._digits else "all"

    def make(self, bucket: int) -> pa.Table:
        """Return the samples of a bucket, ordered by id."""
        width = 64 - 4 * self._digits
        slices, masks = [], []
        for run, high, mask in self._runs:
            start = int(np.searchsorted(high, np.uint64(bucket << width))) if bucket else 0
            last = bucket + 1 == len(self)
            stop = (
                len(run) if last else int(np.searchsorted(high, np.uint64((bucket + 1) << width)))
            )
            slices.append(run.slice(start, stop - start))
            masks.append(mask[start:stop])
        rows, kept = pa.concat_tables(slices), np.flatnonzero(np.concatenate(masks))
        high, low = (half[kept] for half in halves(rows["id"]))
        rows = rows.take(arrow.numbers(kept[np.lexsort((low, high))]))
        return _samples(rows, self._labels, self._sources, self.schema)


def _samples(
    rows: pa.Table, labels: Sequence[str], sources: Sequence[str], wanted: pa.Schema
) -> pa.Table:
    file = arrow.joined([rows["file"]], np.int32)
    found = {
        "id": hex_ids(rows["id"]),
        **_places(rows, arrow.named(file, sources), arrow.named(file, labels)),
        "messages": whole_messages(rows, wanted.field("messages").type),
        "instruction": rows["instruction"],
        "response": rows["response"],
        "meta": rows["meta"],
        "tools": rows["tools"],
    }
    arrays = [found[name] for name in wanted.names]
    return pa.Table.from_arrays(arrays, schema=wanted).combine_chunks()


def _places(rows: pa.Table, sources: pa.Array, labels: pa.Array) -> dict[str, pa.Array]:
    """Return source, file and row of every sample: those of an earlier corpus where it held it."""
    here = {"source": sources, "source_file": labels, "source_row": rows["row"].combine_chunks()}
    had = {name: rows[name].combine_chunks() for name in here}
    if not arrow.holds_text(had["source"]):
        return here
    own = pc.not_equal(had["source"], "")
    told = pc.and_(own, pc.not_equal(had["source_file"], ""))
    masks = {"source": own, "source_file": told, "source_row": told}
    return {name: pc.if_else(masks[name], had[name], here[name]) for name in here}


def origins(runs: Sequence[pa.Table], verdicts: Verdicts) -> dict[int, dict[str, Counter[str]]]:
    """Return how many rows of every file came from which earlier source, by verdict.

    Only files with such rows are there; rows without an earlier source count under "".
    """
    found: dict[int, dict[str, Counter[str]]] = {}
    start = 0
    for run in runs:
        stop = start + len(run)
        if any(map(arrow.holds_text, run["source"].chunks)):
            reasons = verdicts.reason[start:stop].tolist()
            columns_of = run["file"].to_pylist(), run["source"].to_pylist(), reasons
            for file, source, reason in zip(*columns_of, strict=True):
                found.setdefault(file, {}).setdefault(source, Counter())[REASONS[reason]] += 1
        start = stop
    return found


def dropped(
    runs: Sequence[pa.Table], verdicts: Verdicts, labels: Sequence[str], sources: Sequence[str]
) -> pa.Table:
    """Return a table of the rows that do not stay: where they were, why, whose twin."""
    gone = np.flatnonzero(verdicts.reason != _KEPT)
    gone = gone[np.lexsort((verdicts.row[gone], verdicts.file[gone]))]
    file, twin = verdicts.file[gone], verdicts.twin[gone]
    ids = hex_ids(pa.chunked_array([chunk for run in runs for chunk in run["id"].chunks], _KEY))
    found = {
        "source": arrow.named(file, sources),
        "source_file": arrow.named(file, labels),
        "source_row": arrow.numbers(verdicts.row[gone]),
        "reason": arrow.named(verdicts.reason[gone].astype(np.int32), REASONS),
        "duplicate_of": ids.take(arrow.numbers(twin, twin < 0)),
    }
    return pa.Table.from_arrays(list(found.values()), names=list(found))
