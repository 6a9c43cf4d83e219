"""Small files and quick ways to ingest them."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sft_diversity.core import config as configs
from sft_diversity.core import corpus
from sft_diversity.ingestion.config import IngestConfig
from sft_diversity.ingestion.rows import Block, Row
from tests.making import ingest


def row(number: int, **more: Any) -> dict[str, Any]:
    """An Alpaca row like no other."""
    return {"instruction": f"Say {number}.", "input": "", "output": f"It is {number}."} | more


def write_lines(path: Path, rows: list[Any]) -> Path:
    """Write JSON lines; a row given as bytes or text is written as it is."""
    raw = [
        one
        if isinstance(one, bytes)
        else (one if isinstance(one, str) else json.dumps(one)).encode()
        for one in rows
    ]
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"".join(line + b"\n" for line in raw))
    return path


def run(source: Path | list[Path], out: Path, **options: Any) -> dict[str, Any]:
    """Ingest quietly and leniently; return the manifest."""
    sources = source if isinstance(source, list) else [source]
    config = configs.build(IngestConfig, {"max_bad_fraction": 1.0} | options, "test")
    return ingest([] if "sources" in options else sources, out, config, say=lambda _: None)


def samples(out: Path) -> list[dict[str, Any]]:
    """The corpus's samples in the order of their source rows."""
    rows: list[dict[str, Any]] = corpus.read(out).to_pylist()
    return sorted(rows, key=lambda sample: (sample["source_file"], sample["source_row"]))


def rows_of(blocks: Iterable[Block]) -> list[Row]:
    """The rows of blocks; those read together must be those read with care."""
    found: list[Row] = []
    for block in blocks:
        rows = list(block.rows())
        assert block.values in (None, [row.value for row in rows])
        found += rows
    return found


def responses(out: Path) -> list[str]:
    """The responses in the order of their source rows."""
    return [sample["response"] for sample in samples(out)]


def quarantine(out: Path) -> list[dict[str, Any]]:
    """The entries of the quarantine."""
    text = (out / "quarantine.jsonl").read_text("utf-8")
    return [json.loads(line) for line in text.splitlines()]
