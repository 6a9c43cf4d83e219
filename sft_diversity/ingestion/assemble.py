"""Second pass: which rows stay, and the shards made of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sft_diversity.core import seeding
from sft_diversity.core.errors import DataError
from sft_diversity.core.schema import SAMPLES, STRUCTURED_SAMPLES
from sft_diversity.ingestion import columns
from sft_diversity.ingestion.columns import halves, hex_ids
from sft_diversity.ingestion.config import IngestConfig
from sft_diversity.ingestion.runs import is_structured, whole_messages

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class Verdicts:
    """What becomes of every row of the runs, in their order.

    `rows` has file, row, source (numbers), id (two uint64), and `reason`: null where a row stays.
    `twin` is the place of the row that a duplicate repeats.
    """

    rows: pl.DataFrame
    counts: list[dict[str, int]]  # one a source: kept, empty, duplicate, not_taken


def judge(
    runs: Sequence[pa.Table], source_of_file: Sequence[int], config: IngestConfig
) -> Verdicts:
    """Return the verdicts on all rows: empty, duplicate, not taken, or kept.

    Of equal rows the first stays, in the order of sources, files and rows. Rows with the same
    messages but another cut between instruction and input count as duplicates too: they train the
    same.
    """
    import polars as pl

    rows = _frame(runs, np.asarray(source_of_file, np.int32))
    rows = rows.with_columns(reason=pl.when("empty").then(pl.lit("empty")))
    if config.dedup == "exact":
        for key in (["key_high", "key_low"], ["id_high", "id_low"]):
            left = rows.filter(pl.col("reason").is_null())
            firsts = left.sort("file", "row").unique(key, keep="first", maintain_order=True)
            twins = left.join(firsts.select(*key, twin_new="place"), on=key, how="left")
            repeated = twins.filter(pl.col("twin_new") != pl.col("place"))
            rows = rows.join(repeated.select("place", "twin_new"), on="place", how="left")
            rows = rows.with_columns(
                reason=pl.when(pl.col("twin_new").is_not_null())
                .then(pl.lit("duplicate"))
                .otherwise("reason"),
                twin=pl.coalesce("twin", "twin_new"),
            ).drop("twin_new")
    if not rows["reason"].is_null().any():
        why = f"all {len(rows):,} rows lack an instruction or a response"
        raise DataError(
            f"ingest: no sample is left: {why if len(rows) else 'the sources hold no good row'}; "
            "name other sources"
        )
    rows = _taken(rows, config)
    return Verdicts(rows.sort("place"), [_counts(rows, i) for i in range(len(config.sources))])


def _frame(runs: Sequence[pa.Table], source_of_file: npt.NDArray[np.int32]) -> pl.DataFrame:
    import polars as pl

    frames = []
    for run in runs:
        id_high, id_low = halves(run["id"])
        key_high, key_low = halves(run["key"])
        file = run["file"].to_numpy()
        frames.append(
            pl.DataFrame(
                {
                    "id_high": id_high,
                    "id_low": id_low,
                    "key_high": key_high,
                    "key_low": key_low,
                    "file": file,
                    "source": source_of_file[file],
                    "row": run["row"].to_numpy(),
                    "empty": np.asarray(run["empty"]),
                }
            )
        )
    if not frames:
        schema: dict[str, type[pl.DataType]] = {
            **dict.fromkeys(("id_high", "id_low", "key_high", "key_low"), pl.UInt64),
            **dict.fromkeys(("file", "source"), pl.Int32),
            "row": pl.Int64,
            "empty": pl.Boolean,
        }
        frames.append(pl.DataFrame(schema=schema))
    whole = pl.concat(frames)
    return whole.with_row_index("place").with_columns(twin=pl.lit(None, pl.UInt32))


def _taken(rows: pl.DataFrame, config: IngestConfig) -> pl.DataFrame:
    """Draw the samples that `take`, `fill` and `size` ask for."""
    import polars as pl

    kept = rows.filter(pl.col("reason").is_null())
    per_source = [len(kept.filter(pl.col("source") == i)) for i in range(len(config.sources))]
    wanted = list(per_source)
    for i, source in enumerate(config.sources):
        if source.take != "all":
            _enough(source.name, source.take, per_source[i], "take")
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
    out = set[int]()
    for i, number in enumerate(wanted):
        if number < per_source[i]:
            out.update(_not_drawn(kept.filter(pl.col("source") == i), number, config.seed))
    if config.size is not None and filling is None:
        left = kept.filter(~pl.col("place").is_in(list(out)))
        _enough("all sources", config.size, len(left), "size")
        out.update(_not_drawn(left, config.size, config.seed))
    reason = pl.when(pl.col("place").is_in(list(out))).then(pl.lit("not_taken")).otherwise("reason")
    return rows.with_columns(reason=reason)


def _enough(name: str, wanted: int, there: int, option: str) -> None:
    if wanted > there:
        raise DataError(
            f"ingest: {name}: {wanted:,} samples asked for (`{option}`) but {there:,} are there; "
            "ask for fewer or add data"
        )


def _not_drawn(pool: pl.DataFrame, size: int, seed: int) -> list[int]:
    """Return the places of the rows that a draw of `size` leaves out.

    The draw takes the smallest of a keyed hash of the ids: it depends on the seed and on which
    samples there are, not on their order, and changes little when some are added.
    """
    key = np.uint64(seeding.derive(seed, "ingest", "take"))
    high, low = pool["id_high"].to_numpy(), pool["id_low"].to_numpy()
    order = np.lexsort((low, high, _mixed(high ^ _mixed(low ^ key))))
    left_out: list[int] = pool["place"].to_numpy()[order[size:]].tolist()
    return left_out


def _mixed(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Return splitmix64's finaliser of every value (Steele, Lea & Flood 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _counts(rows: pl.DataFrame, source: int) -> dict[str, int]:
    import polars as pl

    mine = rows.filter(pl.col("source") == source)["reason"]
    return {
        "kept": int(mine.is_null().sum()),
        **{reason: int((mine == reason).sum()) for reason in ("empty", "duplicate", "not_taken")},
    }


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
        kept = verdicts.rows["reason"].is_null().to_numpy()
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
        slices = []
        for run, high, mask in self._runs:
            start = int(np.searchsorted(high, np.uint64(bucket << width))) if bucket else 0
            last = bucket + 1 == len(self)
            stop = (
                len(run) if last else int(np.searchsorted(high, np.uint64((bucket + 1) << width)))
            )
            chosen = columns.truths(mask[start:stop])
            slices.append(run.slice(start, stop - start).filter(chosen))
        return _samples(pa.concat_tables(slices), self._labels, self._sources, self.schema)


def _samples(
    rows: pa.Table, labels: Sequence[str], sources: Sequence[str], wanted: pa.Schema
) -> pa.Table:
    rows = rows.take(columns.numbers(np.lexsort(halves(rows["id"])[::-1])))
    file = rows["file"].to_numpy()
    found = {
        "id": hex_ids(rows["id"]),
        **_places(rows, columns.named(file, sources), columns.named(file, labels)),
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
    own = pc.not_equal(had["source"], "")
    if not pc.any(own).as_py():
        return here
    told = pc.and_(own, pc.not_equal(had["source_file"], ""))
    masks = {"source": own, "source_file": told, "source_row": told}
    return {name: pc.if_else(masks[name], had[name], here[name]) for name in here}


def origins(runs: Sequence[pa.Table], verdicts: Verdicts) -> dict[int, dict[str, Counter[str]]]:
    """Return how many rows of every file came from which earlier source, by verdict.

    Only files with such rows are there; rows without an earlier source count under "".
    """
    reasons = verdicts.rows["reason"].fill_null("kept")
    found: dict[int, dict[str, Counter[str]]] = {}
    start = 0
    for run in runs:
        stop = start + len(run)
        if pc.any(pc.not_equal(run["source"], "")).as_py():
            columns_of = run["file"].to_pylist(), run["source"].to_pylist(), reasons[start:stop]
            for file, source, reason in zip(*columns_of, strict=True):
                found.setdefault(file, {}).setdefault(source, Counter())[reason] += 1
        start = stop
    return found


def dropped(
    runs: Sequence[pa.Table], verdicts: Verdicts, labels: Sequence[str], sources: Sequence[str]
) -> pa.Table:
    """Return a table of the rows that do not stay: where they were, why, whose twin."""
    import polars as pl

    ids = hex_ids(pa.chunked_array([chunk for run in runs for chunk in run["id"].chunks]))
    gone = verdicts.rows.filter(pl.col("reason").is_not_null()).sort("file", "row")
    file = gone["file"].to_numpy()
    found = {
        "source": columns.named(file, sources),
        "source_file": columns.named(file, labels),
        "source_row": columns.numbers(gone["row"].to_numpy()),
        "reason": gone["reason"].to_arrow().cast(pa.string()),
        "duplicate_of": ids.take(gone["twin"].to_arrow()),
    }
    return pa.Table.from_arrays(list(found.values()), names=list(found))
