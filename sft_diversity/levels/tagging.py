"""A corpus's tags, asked of a model shard by shard; what cannot be read goes to quarantine."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pydantic import Field

from sft_diversity.core import corpus as corpora
from sft_diversity.core import drafts, folder, parquet, quarantine, stopping
from sft_diversity.core.config import Config
from sft_diversity.core.corpus import Component
from sft_diversity.core.progress import Progress, progress
from sft_diversity.core.stage import Job
from sft_diversity.endpoint.answers import Failure, Outcome
from sft_diversity.endpoint.client import Client
from sft_diversity.levels.base import PARTS
from sft_diversity.levels.tag_prompt import (
    Malformed,
    read_tags,
    repair_messages,
    tag_messages,
)

if TYPE_CHECKING:
    from sft_diversity.levels.stage import IndexConfig

_STAGE = "index"
_CHARS_A_TOKEN, _TOKENS_AN_ANSWER = 4, 120  # guesses for plans
_RAW = 65_536  # characters of an answer that the quarantine keeps

ANSWERED = pa.schema(
    [
        ("id", pa.string()),
        ("tags", pa.list_(pa.string())),
        ("reason", pa.string()),  # null where the tags could be read
        ("detail", pa.string()),
        ("raw", pa.string()),
        ("tokens_in", pa.int64()),
        ("tokens_out", pa.int64()),
        ("repaired", pa.bool_()),
    ]
)


class TagOptions(Config):
    """How texts are tagged, and when tags that go together are one kind."""

    max_chars: int = Field(
        default=6_000, ge=100, description="a longer text is shown without its middle"
    )
    repair: bool = Field(
        default=True, description="ask once more where the tags of an answer cannot be read"
    )
    association_support: int = Field(
        default=40,
        ge=1,
        description="fewest samples that hold two tags for one to merge into the other",
    )
    association_confidence: float = Field(
        default=0.99,
        gt=0,
        le=1,
        description="share of a tag's samples that hold the other, for it to merge into that",
    )
    max_bad_fraction: float = Field(
        default=0.05,
        ge=0,
        le=1,
        exclude=True,  # it changes no byte of the output
        description="largest share of samples without readable tags",
    )


def tag_corpus(job: Job[IndexConfig], client: Client) -> pa.Table:
    """Return one row a sample (schema `ANSWERED`), in id order; finished shards are kept.

    Raises
    ------
    BadRowsError
        If more samples than `max_bad_fraction` have no readable tags.
    """
    draft, component, options = job.draft, job.config.component, job.config.meso
    paths = corpora.shards(job.corpus)
    total = sum(parquet.rows(path) for path in paths)
    tables = []
    with progress(f"{job.label}: tags", total, "samples") as bar:
        for path in paths:
            stopping.safe_point(_STAGE)
            name = f"{PARTS}/{path.stem}.tags.parquet"
            if draft.has(name):
                bar.advance(parquet.rows(draft.path / name))
            else:
                samples = corpora.read_file(path, ["id", component])
                rows = tag_shard(samples, component, client, options.tags, options.max_units, bar)
                draft.write_table(name, pa.Table.from_pylist(rows, ANSWERED))
            tables.append(parquet.read(draft.path / name))
    answered = pa.concat_tables(tables) if tables else ANSWERED.empty_table()
    _quarantine(answered, options.tags, draft)
    return answered


def tag_shard(
    samples: pa.Table,
    component: Component,
    client: Client,
    options: TagOptions,
    most: int,
    bar: Progress | None = None,
) -> list[dict[str, Any]]:
    """Return the rows of one shard; answers that cannot be read are asked for once more."""
    pairs = zip(samples["id"].to_pylist(), samples[component].to_pylist(), strict=True)
    asked = {i: tag_messages(text, component, options.max_chars) for i, text in pairs}
    rows = {i: _row(i, outcome, most) for i, outcome in client.ask(asked.items(), bar)}
    if options.repair:
        again = {
            i: repair_messages(asked[i], row["raw"]) for i, row in rows.items() if row["malformed"]
        }
        for i, outcome in client.ask(again.items()):
            first, second = rows[i], _row(i, outcome, most)
            for tokens in ("tokens_in", "tokens_out"):
                second[tokens] += first[tokens]
            second["repaired"] = second["reason"] is None
            rows[i] = {**first, **{t: second[t] for t in ("tokens_in", "tokens_out")}}
            if second["repaired"] or second["malformed"]:
                rows[i] = second
    return list(rows.values())


def _row(identity: str, outcome: Outcome, most: int) -> dict[str, Any]:
    row: dict[str, Any] = {"id": identity, "tags": [], "reason": None, "detail": "", "raw": ""}
    row |= {"tokens_in": 0, "tokens_out": 0, "repaired": False, "malformed": False}
    if isinstance(outcome, Failure):
        return row | {"reason": outcome.reason, "detail": outcome.detail}
    row |= {"tokens_in": outcome.tokens_in, "tokens_out": outcome.tokens_out}
    try:
        return row | {"tags": read_tags(outcome.text, most)}
    except Malformed as fault:
        reason = "cut" if outcome.finish == "length" else fault.reason
        raw = outcome.text[:_RAW]
        return row | {"reason": reason, "raw": raw, "malformed": True, "detail": outcome.finish}


def _quarantine(answered: pa.Table, options: TagOptions, draft: drafts.Draft) -> None:
    """Write the samples without readable tags; stop if there are too many."""
    bad = answered.filter(answered["reason"].is_valid())
    columns = bad.select(["id", "reason", "detail", "raw"])
    with draft.writing(quarantine.FILE) as path:
        path.write_bytes(folder.json_lines(columns.to_pylist()))
    if bad.num_rows > options.max_bad_fraction * answered.num_rows:
        shutil.rmtree(draft.path / PARTS)  # answers are kept elsewhere; the rest is asked anew
        raise quarantine.too_many(
            _STAGE, draft.out, draft.path / quarantine.FILE,
            bad=bad.num_rows, rows=answered.num_rows, limit=options.max_bad_fraction,
            what="samples have no readable tags", way_out="use a model that writes JSON",
        )  # fmt: skip


def estimate(corpus: Path, component: Component, options: TagOptions) -> dict[str, int]:
    """Return about how many tokens tagging reads and writes, from the texts of one shard."""
    paths = corpora.shards(corpus)
    rows = sum(parquet.rows(path) for path in paths)
    if not rows:
        return {"tokens_in": 0, "tokens_out": 0}
    texts = corpora.read_file(paths[0], [component])[component].to_pylist()
    frame = len(str(tag_messages("", component, options.max_chars)))
    characters = sum(min(len(text), options.max_chars) + frame for text in texts)
    mean = characters / max(len(texts), 1) / _CHARS_A_TOKEN
    return {"tokens_in": round(rows * mean), "tokens_out": rows * _TOKENS_AN_ANSWER}


def account(answered: pa.Table) -> dict[str, Any]:
    """Return the figures of tagging for the manifest."""
    reasons = answered["reason"].drop_null().to_pylist()
    return {
        "tagged": answered.num_rows - len(reasons),
        "repaired": sum(answered["repaired"].to_pylist()),
        "quarantined": {reason: reasons.count(reason) for reason in sorted(set(reasons))},
        "tokens_in": sum(answered["tokens_in"].to_pylist()),
        "tokens_out": sum(answered["tokens_out"].to_pylist()),
    }
