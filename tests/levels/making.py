"""Small corpora and tokenizers for the tests of the levels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from sft_diversity.core import drafts, schema
from sft_diversity.core.hashing import text_key
from tests import tiny


def corpus(out: Path, texts: Sequence[tuple[str, str]], digits: int = 1) -> Path:
    """Write a finished corpus of (instruction, response) pairs, in shards by id."""
    rows = sorted((text_key(*pair), *pair) for pair in set(texts))
    work = drafts.Work("ingest", 0, {}, {"rows": [row[0] for row in rows]})
    draft = drafts.open_draft(out, work)
    shards: dict[str, list[tuple[str, str, str]]] = {}
    for row in rows:
        shards.setdefault(row[0][:digits], []).append(row)
    for prefix, held in shards.items():
        ids, instructions, responses = (list(column) for column in zip(*held, strict=True))
        messages = [
            [{"role": "user", "content": a}, {"role": "assistant", "content": b}]
            for a, b in zip(instructions, responses, strict=True)
        ]
        columns = [ids, ["made"] * len(ids), [""] * len(ids), list(range(len(ids)))]
        columns += [messages, instructions, responses, ["{}"] * len(ids)]
        table = pa.table(dict(zip(schema.SAMPLES.names, columns, strict=True)), schema.SAMPLES)
        draft.write_table(f"samples/{prefix or 'all'}.parquet", table)
    draft.commit()
    return out


def tokenizer_file(out: Path, vocabulary: int = 400) -> Path:
    """Write the `tokenizer.json` of a small byte-level BPE."""
    made = tiny.tokenizer(vocabulary)
    made.backend_tokenizer.save(str(out))
    return out


def hashed_vectors(texts: Sequence[str], dim: int = 16) -> np.ndarray:
    """Stand for an encoder: the same text, the same random unit vector."""
    rows = []
    for text in texts:
        rng = np.random.default_rng(int(text_key(text)[:12], 16))
        rows.append(rng.normal(size=dim))
    vectors = np.array(rows, dtype=np.float32).reshape(len(rows), dim)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


#: Topics of a made-up but plain corpus: each phrase stands in several samples.
TOPICS = (
    "climate change",
    "chocolate cake",
    "solar panel",
    "prime number",
    "blood pressure",
    "job interview",
    "steam engine",
    "coral reef",
)
FRAMES = (
    "Write a short story about the {}.",
    "Explain the {} to a child.",
    "What is the history of the {}?",
    "List the uses of a {}.",
    "The {} is in the news. Summarize the {}.",
    "Compare the {} with another {}.",
)


def topical(out: Path, digits: int = 1) -> Path:
    """Write a corpus of 48 instructions over eight topics."""
    texts = [
        (frame.replace("{}", topic), f"The {topic} is a topic of its own.")
        for topic in TOPICS
        for frame in FRAMES
    ]
    return corpus(out, texts, digits)
