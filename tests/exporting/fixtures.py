"""A subset and a corpus folder made by hand: every kind of dialogue that ingest lets through."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from sft_diversity.core import drafts, schema

DIALOGUES: list[list[tuple[str, str]]] = [
    [("user", "Why?"), ("assistant", "Because.")],
    [("system", "Be brief."), ("user", "Sort 3, 1, 2"), ("assistant", "1, 2, 3")],
    [("user", "Hi"), ("assistant", "Hello"), ("user", "Bye"), ("assistant", "See you")],
    [
        ("user", "Weather?"),
        ("assistant", '{"call": "weather"}'),
        ("tool", "rain"),
        ("assistant", "It rains."),
    ],
    [("user", "日本 🗾 \u2028 \u0000 e\u0301 <b>|</b>"), ("assistant", "Ünïcode \ud7ff")],
    [("user", "Why?"), ("assistant", "So."), ("user", "And what else?")],
]


def samples(dialogues: list[list[tuple[str, str]]] | None = None) -> pa.Table:
    rows: list[dict[str, Any]] = []
    for i, turns in enumerate(DIALOGUES if dialogues is None else dialogues):
        rows.append(
            {
                "id": f"{i:032x}", "source": "ab"[i % 2], "source_file": "a.json", "source_row": i,
                "messages": [{"role": role, "content": text} for role, text in turns],
                "instruction": "\n\n".join(text for role, text in turns if role == "user"),
                "response": "\n\n".join(text for role, text in turns if role == "assistant"),
                "meta": "{}",
            }
        )  # fmt: skip
    return pa.Table.from_pylist(rows, schema=schema.SAMPLES)


def corpus(out: Path, table: pa.Table | None = None) -> Path:
    """Write a corpus folder whose manifest states the licence of source `a` only."""
    table = samples() if table is None else table
    draft = drafts.open_draft(out, drafts.Work("ingest", 1, {"a": "0"}, {"seed": 0}))
    draft.write_table("samples/00000.parquet", table)
    draft.commit(result={"sources": [{"name": "a", "licence": "Apache-2.0"}, {"name": "b"}]})
    return out


def subset(
    out: Path,
    table: pa.Table | None = None,
    per_file: int = 4,
    settings: dict[str, Any] | None = None,
    **result: Any,
) -> Path:
    """Write a subset folder, the rows in reverse order of id."""
    table = samples() if table is None else table
    table = table.take(pa.array(range(table.num_rows)[::-1], pa.int64()))
    picks = pa.array(range(table.num_rows), pa.int32())
    chosen = settings or {"strategy": "micro-response", "diversity": 67.0}
    work = drafts.Work("select", 1, {"corpus": "c0ffee"}, chosen)
    draft = drafts.open_draft(out, work)
    table = table.append_column("pick", picks)
    for start in range(0, max(table.num_rows, 1), per_file):
        draft.write_table(f"samples/{start // per_file:05}.parquet", table.slice(start, per_file))
    draft.commit(
        result={
            "rows": table.num_rows, "kinds_covered": 1234, "evenness": 0.912345,
            "sources": {"a": 3, "b": 3}, **result,
        }
    )  # fmt: skip
    return out
