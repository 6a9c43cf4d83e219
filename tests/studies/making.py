"""A study small enough to run for real: a random model, dialogues, two evaluation sets."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import yaml

from tests import tiny
from tests.scoring import fixtures

WORDS = tiny.TEXT.replace(".", "").replace(",", "").split()


def corpus_file(path: Path, rows: int = 120) -> Path:
    """Write dialogues of words that many of them share, short and long."""
    dice = random.Random(0)
    said = []
    for i in range(rows):
        question = " ".join(dice.choices(WORDS, k=3 + i % 4))
        answer = " ".join(dice.choices(WORDS[: 8 + i % 50], k=2 + i % 13))
        said.append({"instruction": f"{question} {i}", "input": "", "output": answer})
    fixtures.lines(path, said)
    return path


def write(folder: Path, **changes: Any) -> Path:
    """Write model, data, evaluation sets and `study.yaml` into `folder`; return the last."""
    tiny.save(folder / "base")
    fixtures.write(folder / "eval")
    options: dict[str, Any] = {
        "ingest": {"sources": [{"name": "words", "path": "words.jsonl"}], "root": str(folder)},
        "grid": {"strategy": ["micro-response"], "size": [24], "diversity": [0, 100]},
        "regimes": ["A"],
        "baselines": {"random": 0, "random_common": 0, "longest": False},
        "select": {"tokenizer": str(folder / "base")},
        "finetune": {
            "model": str(folder / "base"), "epochs": 1, "batch_size": 4, "max_length": 256,
            "dtype": "float32",
        },
        "score": {
            "eval_dir": str(folder / "eval"), "max_length": 256, "draws": 100,
            "sets": [fixtures.ALPACA.model_dump(mode="json"), fixtures.MIX.model_dump(mode="json")],
        },
        "metrics": False,
    }  # fmt: skip
    corpus_file(folder / "words.jsonl")
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(options | changes), "utf-8")
    return path
