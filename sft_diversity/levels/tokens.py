"""The token pass: every sample's token counts, from which micro kinds, entropy and lengths come."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import Field

from sft_diversity.core import arrow, folder, parquet, parts, resources
from sft_diversity.core import tokens as passes
from sft_diversity.core.config import TOKENIZER, Config
from sft_diversity.core.corpus import Component
from sft_diversity.core.stage import Ask, Job, Made, Result, Stage, Unit
from sft_diversity.levels import tokenizing
from sft_diversity.levels.quick_tokens import OtherIds
from sft_diversity.levels.tokenizing import TokenCounts, Tokenizer, count_tokens, load_tokenizer

_ROWS_PER_S = 6_000  # a guess for plans: two cores, texts of some 300 characters
_BYTES_A_ROW = 8 * 60
_AHEAD = 2  # units that are read and tokenised while others are written


class TokensConfig(Config):
    """Which component to count, and with whose tokenizer."""

    component: Component = Field(default="response", description="whose text")
    tokenizer: str | None = Field(default=None, description=TOKENIZER)

    @property
    def name(self) -> str:
        """The tokenizer to load: the named one, else the offline base model's."""
        return self.tokenizer or str(resources.tokenizer())


def needs(config: TokensConfig, ask: Ask) -> None:
    """Read the corpus, and a tokenizer that is there."""
    tokenizing.check_tokenizer(config.name)
    if ask.corpus().there:
        ask.key("tokenizer", tokenizing.revision(config.name, ask.dry))


def units(config: TokensConfig, inputs: Mapping[str, Made]) -> Sequence[Unit]:
    """Return the slices of the corpus."""
    found = parts.slices(inputs["corpus"].path)
    return [Unit(f"{passes.SHARDS}/{one.name}.parquet", one.rows, one) for one in found]


def count(job: Job[TokensConfig]) -> None:
    """Write ids, lengths, and token ids with counts of each slice."""
    if not job.left():
        return
    tokenizer = load_tokenizer(job.config.name)
    try:
        _count(job, tokenizer, job.todo())
    except OtherIds as text:  # what earlier texts came to is not trusted either
        said = f"{tokenizer.library} cuts {str(text)[:80]!r} otherwise than the tokenizer itself"
        job.say(f"index: {said}; all texts are counted anew with the tokenizer")
        tokenizer.distrust()
        _count(job, tokenizer, iter(job.own))
    job.run["tokens_by"] = tokenizer.library


def _count(job: Job[TokensConfig], tokenizer: Tokenizer, todo: Iterator[Unit]) -> None:
    component = job.config.component

    def counted(unit: Unit) -> pa.Table:
        table = unit.what.read(["id", component])
        return _table(table["id"], count_tokens(tokenizer, table[component].to_pylist()))

    with ThreadPoolExecutor(_AHEAD, thread_name_prefix=passes.STAGE) as executor:
        for unit, table in _ahead(executor, counted, todo):
            job.write_table(unit.name, table)


def _ahead(
    executor: ThreadPoolExecutor, work: Callable[[Unit], pa.Table], units: Iterator[Unit]
) -> Iterator[tuple[Unit, pa.Table]]:
    """Yield units with what they come to, in order, some being worked on ahead.

    The tokenizer uses all cores and frees the interpreter, so what is Python's of one unit is done
    beside it.
    """
    waiting: deque[tuple[Unit, Future[pa.Table]]] = deque()
    for unit in units:
        waiting.append((unit, executor.submit(work, unit)))
        if len(waiting) > _AHEAD:
            first, made = waiting.popleft()
            yield first, made.result()
    for first, made in waiting:
        yield first, made.result()


def _table(ids: pa.ChunkedArray, counted: TokenCounts) -> pa.Table:
    offsets = arrow.numbers(np.concatenate([[0], np.cumsum(counted.sizes, dtype=np.int64)]))
    found = {
        "id": ids,
        "length": arrow.numbers(counted.lengths),
        "ids": pa.LargeListArray.from_arrays(offsets, arrow.numbers(counted.ids)),
        "counts": pa.LargeListArray.from_arrays(offsets, arrow.numbers(counted.counts)),
    }
    return pa.Table.from_arrays(list(found.values()), names=list(found))


def join(job: Job[TokensConfig]) -> Result:
    """Write which token types occur, with document frequencies and occurrences."""
    tokenizer = load_tokenizer(job.config.name)
    samples = np.zeros(tokenizer.vocabulary, dtype=np.int64)
    occurrences = np.zeros_like(samples)
    rows = empty = 0
    for path in job.files():
        table = parquet.read(path, ["length", "ids", "counts"])
        ids, counts = passes.flat(table, "ids"), passes.flat(table, "counts")
        samples += np.bincount(ids, minlength=len(samples))
        occurrences += np.bincount(ids, counts, minlength=len(samples)).astype(np.int64)
        rows += table.num_rows
        empty += int((arrow.joined([table["length"]], np.int32) == 0).sum())
    used = np.flatnonzero(samples)
    kinds = {
        "kind": arrow.texts([tokenizer.name(token).encode() for token in used.tolist()]),
        "samples": arrow.numbers(samples[used]),
        "token_id": arrow.numbers(used.astype(np.int32)),
        "occurrences": arrow.numbers(occurrences[used]),
    }
    job.write_table("kinds.parquet", pa.Table.from_arrays(list(kinds.values()), names=list(kinds)))
    total = int(occurrences.sum())
    figures = {
        "component": job.config.component,
        "rows": rows,
        "kinds": len(used),
        "vocabulary": tokenizer.vocabulary,
        "nnz": int(samples.sum()),
        "tokens": total,
        "mean_tokens": round(total / max(rows, 1), 3),
        "samples_without_token": empty,
    }
    return Result(rows=folder.rows_account(rows, rows, {}), figures=figures)


def _options(config: TokensConfig) -> dict[str, Any]:
    return {"component": config.component}  # the tokenizer counts by its content


def _cost(config: TokensConfig, ask: Ask) -> dict[str, Any]:
    rows = ask.inputs["corpus"].rows
    seconds = round(rows / _ROWS_PER_S, 1)
    return {"component": config.component, "seconds": seconds, "bytes": rows * _BYTES_A_ROW}


TOKENS = Stage(
    passes.STAGE, version=3, config=TokensConfig, needs=needs, units=units, each=count, join=join,
    options=_options, cost=_cost, label=lambda config: f"tokens {config.component}",
)  # fmt: skip
