"""`rewrite`: a corpus or subset in, the same with its responses written by one model out."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.parquet as pq
from pydantic import Field

from sft_diversity.core import corpus as corpora
from sft_diversity.core import (
    drafts,
    folder,
    lineage,
    parquet,
    progress,
    quarantine,
    schema,
    stopping,
)
from sft_diversity.core.errors import UsageError
from sft_diversity.core.stage import Ask, Job, Result, Stage
from sft_diversity.endpoint.answers import Outcome, Request
from sft_diversity.endpoint.client import Client
from sft_diversity.endpoint.config import CallOptions, EndpointConfig, check_endpoint
from sft_diversity.rewriting.turns import NOT_ASKED, PROMPTS, Way, rewritten

VERSION = 1
STAGE = "rewrite"
_FOLDER = ".parts"
_GROUP_ROWS = 2_000
_CHARS_A_TOKEN, _SECONDS_AN_ANSWER = 4, 8.0  # guesses for plans


class RewriteConfig(CallOptions):
    """Who writes the responses, and what becomes of those that fail."""

    endpoint: str = Field(
        min_length=1,
        exclude=True,
        description="base URL of an OpenAI-compatible endpoint, such as http://127.0.0.1:8000/v1",
    )
    max_tokens: int | None = Field(
        default=2_048, ge=1, description="most tokens of a turn; none: not sent"
    )
    way: Way = Field(
        default="answer",
        description="answer: the model sees the dialogue up to its turn; "
        "revise: it sees the old answer too and writes it anew",
    )
    system: str | None = Field(
        default=None, description="system message for dialogues that have none; not kept in them"
    )
    on_failure: Literal["keep", "drop"] = Field(
        default="keep", description="keep the original of a sample that fails, or drop the sample"
    )
    max_bad_fraction: float = Field(
        default=0.05, ge=0, le=1, exclude=True, description="largest share of samples that fail"
    )

    def target(self) -> EndpointConfig:
        """Return the endpoint to ask."""
        shared = {name: getattr(self, name) for name in CallOptions.model_fields}
        return EndpointConfig(url=self.endpoint, **shared)


@dataclass(frozen=True)
class _Source:
    files: list[Path]
    key: str
    licences: Mapping[str, str]

    @property
    def rows(self) -> int:
        return sum(parquet.rows(path) for path in self.files)


def check(source: Path, out: Path) -> None:
    """Refuse a place that cannot be written to, and a source that is damaged."""
    folder.refuse_damaged(source)
    drafts.check_out(out, STAGE, [source])


def needs(config: RewriteConfig, ask: Ask) -> None:
    """Read the samples of a corpus or subset, and ask by a prompt."""
    check_endpoint(config.target(), STAGE)
    ask.key("samples", _find(Path(ask.subject)).key)
    ask.key("prompt", PROMPTS[config.way])


def join(job: Job[RewriteConfig]) -> Result:
    """Write a corpus whose responses one model wrote.

    A corpus folder: `samples/`, `dropped.parquet`, `quarantine.jsonl`. The originals are in each
    sample's `meta`, under `rewrite`; the rows of a subset lie by id, `pick` is kept in `meta`.

    Raises
    ------
    DataError
        If the endpoint stops answering; the same call goes on.
    BadRowsError
        If more samples fail than `max_bad_fraction` allows.
    """
    config, draft, source = job.config, job.draft, Path(job.subject)
    found, target = _find(source), config.target()
    with Client(target, job.work / "answers", STAGE, PROMPTS[config.way]) as client:
        parts = _ask(found, draft, config, client)
        run = client.tally.as_json(target)
    failed = _quarantine(parts, draft, config)
    kept, dropped = _assemble(parts, draft, config.on_failure == "drop")
    result = _figures(parts, found, kept, failed) | {"on_failure": config.on_failure}
    tokens = result["tokens_in"], result["tokens_out"]
    run["cost_in_all"] = round(target.cost(*tokens), 6)
    _forget_parts(draft)
    return Result(
        rows=folder.rows_account(found.rows, sum(kept.values()), dropped),
        figures=result,
        run=run,
        lineage=lineage.of(samples=source),
    )


def _cost(config: RewriteConfig, ask: Ask) -> dict[str, Any]:
    """Guess tokens and cost from the texts of one file."""
    found, characters = _find(Path(ask.subject)), np.zeros(2)
    for path in found.files[:1]:
        table = parquet.read(path, ["instruction", "response"])
        lengths = [pc.sum(pc.utf8_length(table[name])).as_py() or 0 for name in table.column_names]
        characters = np.array(lengths) / max(table.num_rows, 1)
    read, written = (round(x * found.rows / _CHARS_A_TOKEN) for x in characters.tolist())
    return {
        "rows": found.rows,
        "seconds": found.rows * _SECONDS_AN_ANSWER / config.concurrency,
        "bytes": round(found.rows * characters.sum() * 1.2),
        "tokens_in": read,
        "tokens_out": written,
        "cost": round(config.cost(read, written), 2),
    }


def _find(source: Path) -> _Source:
    if corpora.is_corpus(source):
        return _Source(corpora.shards(source), corpora.key(source), corpora.licences(source))
    if folder.stage_of(source) != "select":
        raise UsageError(f"rewrite: {source} is neither a corpus nor a subset; name one of them")
    manifest = folder.read_manifest(source)
    files = parquet.listed(source, "samples")
    key = folder.contents_key(manifest, "samples/")
    return _Source(files, key, corpora.licences_of(manifest))


def _ask(found: _Source, draft: drafts.Draft, config: RewriteConfig, client: Client) -> list[Path]:
    """Return one part a file of the source, each asked for once."""
    parts = []
    with progress.progress("rewrite", found.rows, "samples") as bar:

        def ask(requests: Iterable[Request], number: int) -> Iterator[tuple[str, Outcome]]:
            return client.ask(requests, bar if number == 0 else None)  # it counts samples

        for number, path in enumerate(found.files):
            stopping.safe_point(STAGE)
            name = f"{_FOLDER}/{number:05}.parquet"
            left = parquet.rows(path)
            if not draft.has(name):
                table = parquet.read(path)
                made = rewritten(table, ask, config.way, config.system, config.model)
                counts = parquet.counts(made, "reason")
                left = sum(counts[reason] for reason in NOT_ASKED)
                with draft.writing(name) as scratch:  # small groups, so that buckets read few
                    pq.write_table(
                        made.sort_by("id"), scratch, compression="zstd", row_group_size=_GROUP_ROWS
                    )
            bar.advance(left)
            parts.append(draft.path / name)
    return parts


def _quarantine(parts: list[Path], draft: drafts.Draft, config: RewriteConfig) -> Counter[str]:
    """Write what failed, with the reasons; stop if it is too much. Return how many a reason."""
    failed: Counter[str] = Counter()
    rows = 0
    with draft.writing(quarantine.FILE) as path, path.open("wb") as handle:
        for part in parts:
            table = parquet.read(part, ["old_id", "reason", "detail", "raw"])
            rows += table.num_rows
            for row in table.filter(table["reason"].is_valid()).to_pylist():
                failed[row["reason"]] += 1
                handle.write(orjson.dumps({"id": row.pop("old_id"), **row}) + b"\n")
    bad = failed.total()
    if bad > config.max_bad_fraction * rows:
        shutil.rmtree(draft.path / _FOLDER)  # answers are kept elsewhere; the rest is asked anew
        raise quarantine.too_many(
            STAGE, draft.out, draft.path / quarantine.FILE,
            bad=bad, rows=rows, limit=config.max_bad_fraction,
            what="samples failed", way_out="mend the cause",
        )  # fmt: skip
    return failed


def _assemble(
    parts: list[Path], draft: drafts.Draft, drop: bool
) -> tuple[Counter[str], Counter[str]]:
    """Write the shards by id; return rows kept a source and rows dropped a reason."""
    columns = ["id", "old_id", "source", "reason"]
    every = parquet.join(parts, columns)
    wanted, twins = _sorted_out(every, drop)
    failed = every.filter(every["reason"].is_valid()) if drop else every.slice(0, 0)
    same = twins.set_column(3, "reason", pa.array(["duplicate"] * twins.num_rows, pa.string()))
    gone = pa.concat_tables([failed, same]).sort_by("old_id")
    table = gone.select(["old_id", "id", "reason"]).rename_columns(["id", "new_id", "reason"])
    draft.write_table("dropped.parquet", table)
    whole = pads.dataset([str(part) for part in parts], schema=parquet.schema(parts[0]))
    digits = corpora.bucket_digits(wanted.num_rows)
    for number in range(16**digits):
        stopping.safe_point(STAGE)
        low = f"{number:0{digits}x}" if digits else ""
        name = f"samples/{low or 'all'}.parquet"
        if draft.has(name):
            continue
        here = (pads.field("id") >= low) & (pads.field("id") <= low + "g")  # above any hex digit
        bucket, _ = _sorted_out(whole.to_table(filter=here), drop)
        if bucket.num_rows:
            draft.write_table(name, schema.check(bucket, schema.samples_like(bucket.schema), STAGE))
    return parquet.counts(wanted, "source"), parquet.counts(gone, "reason")


def _sorted_out(table: pa.Table, drop: bool) -> tuple[pa.Table, pa.Table]:
    """Return the rows to keep, one an id, and their twins, both by id; failed ones left out."""
    if drop:
        table = table.filter(table["reason"].is_null())
    table = table.sort_by([("id", "ascending"), ("old_id", "ascending")])
    ids = table["id"].to_numpy()
    twin = np.concatenate([np.zeros(min(len(ids), 1), bool), ids[1:] == ids[:-1]])
    return table.filter(pa.array(~twin)), table.filter(pa.array(twin))


def _figures(
    parts: list[Path], found: _Source, kept: Counter[str], failed: Counter[str]
) -> dict[str, Any]:
    tokens = parquet.join(parts, ["tokens_in", "tokens_out"])
    sources = [
        {"name": name, "rows": number, "licence": found.licences.get(name)}
        for name, number in sorted(kept.items())
    ]
    return {
        "rewritten": tokens.num_rows - failed.total(),
        "failed": dict(sorted(failed.items())),
        "tokens_in": pc.sum(tokens["tokens_in"]).as_py() or 0,
        "tokens_out": pc.sum(tokens["tokens_out"]).as_py() or 0,
        "sources": sources,
    }


def _forget_parts(draft: drafts.Draft) -> None:
    """Remove the parts; renamed first: half a removal must not be resumed from."""
    old = draft.path / f"{_FOLDER}.old"
    shutil.rmtree(old, ignore_errors=True)
    (draft.path / _FOLDER).rename(old)
    shutil.rmtree(old)


def _lines(manifest: Mapping[str, Any]) -> Iterator[str]:
    result, run, rows = manifest["result"], manifest["run"], manifest["rows"]
    failed = ", ".join(f"{number:,} {reason}" for reason, number in result["failed"].items())
    cost = f", cost {run['cost_in_all']:,.2f}" if run["cost_in_all"] else ""
    yield (
        f"{result['rewritten']:,} of {rows['in']:,} samples rewritten"
        f"{f'; not: {failed}' if failed else ''}; {rows['kept']:,} kept; {run['calls']:,} calls, "
        f"{run['answers_kept_from_before']:,} answers kept from before; "
        f"{result['tokens_in']:,} tokens in, {result['tokens_out']:,} out{cost}"
    )


REWRITE = Stage(STAGE, VERSION, RewriteConfig, needs=needs, join=join, cost=_cost, lines=_lines)
