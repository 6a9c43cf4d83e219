"""Small evaluation files in the formats of the real ones."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

from sft_diversity.scoring.sets import EvalSet, Join

ALPACA = EvalSet(
    name="short", file="short.json.gz", kind="transfer", reference="short",
    prompt="instruction", input="input", response="output",
)  # fmt: skip
LONG = EvalSet(
    name="long", file="long.jsonl", kind="transfer", reference="long",
    prompt="messages.0.content", response="messages.1.content.answer",
)  # fmt: skip
DIALOGUE = EvalSet(
    name="dialogue", file="answers.jsonl", kind="transfer", reference="long", prompt="turns",
    response="choices.0.turns", join=Join(file="questions.jsonl", key="question_id"),
)  # fmt: skip
MIX = EvalSet(
    name="mix", file="mix.jsonl", kind="in-mix", reference="short", prompt="instruction",
    response="output", source="source", domains={"a": "general", "b": "general"},
)  # fmt: skip
SETS = (ALPACA, LONG, DIALOGUE, MIX)


def lines(path: Path, rows: list[Any]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


def write(folder: Path) -> Path:
    """Write the files that SETS name into `folder` and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    short = [
        {"instruction": f"Name number {i}", "input": "a list" * (i % 2), "output": "one, two " * i}
        for i in range(6)  # the first has no reference
    ]
    (folder / "short.json.gz").write_bytes(gzip.compress(json.dumps(short).encode()))
    lines(
        folder / "long.jsonl",
        [
            {
                "messages": [
                    {"role": "user", "content": f"Explain rain, part {i}"},
                    {"role": "assistant", "content": {"answer": "Rain falls on the roof. " * 30}},
                ]
            }
            for i in range(4)
        ],
    )
    lines(
        folder / "questions.jsonl",
        [{"question_id": i, "turns": [f"Where is {i}?", "And why?"]} for i in (7, 8)],
    )
    lines(
        folder / "answers.jsonl",
        [{"question_id": i, "choices": [{"turns": ["Here.", "Because."]}]} for i in (8, 7)],
    )
    lines(
        folder / "mix.jsonl",
        [
            {"instruction": f"Sort {i}", "output": "Sorted: 1, 2, 3", "source": "abc"[i % 3]}
            for i in range(12)
        ],
    )
    return folder
