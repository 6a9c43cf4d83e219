"""Rows of a corpus with new answers: what is written, what of the old stays in `meta`."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa

from sft_diversity.core import schema
from sft_diversity.core.hashing import text_key
from sft_diversity.rewriting.turns import Ask, Dialogue, Way, joined, opened, rewrite, spoken

_RAW = 65_536  # characters of an answer that the quarantine keeps

#: A row on the way: the sample, the id it had, and how it went (`reason` is null if well).
PARTS = pa.schema(
    [
        *schema.SAMPLES,
        ("old_id", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("raw", pa.string()),
        ("tokens_in", pa.int64()),
        ("tokens_out", pa.int64()),
    ]
)


def rewritten(samples: pa.Table, ask: Ask, way: Way, system: str | None, model: str) -> pa.Table:
    """Return the samples with new answers, schema `PARTS`, in their order.

    A sample that got none stays as it was, with the reason in its row and in its `meta`. One that
    got them has a new id, the hash of its new turns.
    """
    rows = samples.to_pylist()
    dialogues = [opened(row["messages"]) for row in rows]
    rewrite(dialogues, ask, way, system)
    made = [_row(row, one, way, model) for row, one in zip(rows, dialogues, strict=True)]
    return pa.Table.from_pylist(made, PARTS)


def _row(row: dict[str, Any], one: Dialogue, way: Way, model: str) -> dict[str, Any]:
    how = {
        "old_id": row["id"],
        "reason": one.reason,
        "detail": one.detail,
        "raw": one.raw[:_RAW],
        "tokens_in": one.tokens_in,
        "tokens_out": one.tokens_out,
    }
    said: dict[str, Any] = {"model": model, "way": way}
    if row.get("pick") is not None:
        said["pick"] = row["pick"]
    if one.reason is not None:
        return row | how | {"meta": _meta(row["meta"], {**said, "not_rewritten": one.reason})}
    said |= {"id": row["id"], "originals": spoken(row["messages"])}
    texts = [text for turn in one.turns for text in (turn["role"], turn["content"])]
    new = {
        "id": text_key(*texts),
        "messages": one.turns,
        "response": joined(one.turns, "assistant"),
        "meta": _meta(row["meta"], said),
    }
    return row | how | new


def _meta(meta: str | None, said: dict[str, Any]) -> str:
    """Return a sample's `meta` with a key `rewrite`; an earlier rewriting stays inside it."""
    held = json.loads(meta or "{}")
    if not isinstance(held, dict):
        held = {"meta": held}
    if "rewrite" in held:
        said = said | {"before": held["rewrite"]}
    return json.dumps(
        held | {"rewrite": said}, sort_keys=True, ensure_ascii=False, separators=(",", ":")
    )
