"""Processor seconds of tokenising, by Hugging Face's tokenizer and by gigatoken, in one run.

    python benchmarks/tokenize_vs_hf.py CORPUS [--rounds 3]

Per pattern (Qwen-2's, Llama-3's) a byte-level BPE of 32,000 is trained on a third of the corpus.
Every side is a process of its own, in turns: encoding the responses with either library, cold and
a second time, from a list of texts to one array of ids; and the whole token pass of `sftdiv index`
with either (imports, reading, counting, writing). All ids must be equal. Writes
benchmarks/results/tokenize_vs_hf.json.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

RESULTS = Path(__file__).parent / "results" / "tokenize_vs_hf.json"
WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
PATTERNS = {"qwen2": WORDS + r"\p{N}" + REST, "llama3": WORDS + r"\p{N}{1,3}" + REST}
SIDES = ["hf", "gigatoken", "pass by hf", "pass by gigatoken"]


def train(corpus: Path, pattern: str, out: Path) -> None:
    """Write the tokenizer of a pattern."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

    from sft_diversity.core import corpus as corpora

    rows = corpora.read(corpus, ["instruction", "response"])
    texts = (rows["instruction"].to_pylist() + rows["response"].to_pylist())[::3]
    made = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
    as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.pre_tokenizer = pre_tokenizers.Sequence([split, as_bytes])
    trainer = trainers.BpeTrainer(
        vocab_size=32_000, special_tokens=["<|endoftext|>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    made.train_from_iterator(texts, trainer)
    made.save(str(out))


def seconds() -> tuple[float, float]:
    """Return processor and wall seconds so far."""
    taken = os.times()
    return taken.user + taken.system, time.monotonic()


def since(start: tuple[float, float]) -> list[float]:
    """Return processor and wall seconds since `start`."""
    return [round(now - then, 3) for then, now in zip(start, seconds(), strict=True)]


def encode(side: str, corpus: Path, file: Path) -> dict[str, Any]:
    """Encode all responses twice and say what each time took."""
    import numpy as np
    from tokenizers import Tokenizer

    from sft_diversity.core import corpus as corpora

    texts = corpora.read(corpus, ["response"])["response"].to_pylist()
    start = seconds()
    backend: Any = Tokenizer.from_file(str(file))
    if side == "gigatoken":
        import gigatoken

        backend = gigatoken.Tokenizer(backend)
        backend.encode_batch(["."])  # imports what the answers are
    said = {"loading": since(start)}
    for name in ("cold", "again"):
        start = seconds()
        if side == "hf":
            answers = backend.encode_batch_fast(texts, add_special_tokens=False)
            ids = np.concatenate([np.array(answer.ids, np.int64) for answer in answers])
        else:
            ids = backend.encode_batch(texts).layout.content.data.astype(np.int64)
        said[name] = since(start)
    return {**said, "tokens": len(ids), "ids": hashlib.sha256(ids.tobytes()).hexdigest()[:16]}


def token_pass(side: str, corpus: Path, file: Path) -> dict[str, Any]:
    """Make a token pass as `sftdiv index` does and say what it took."""
    start = seconds()
    from sft_diversity.core import extras, folder
    from sft_diversity.core.hashing import content_key
    from sft_diversity.core.store import Store
    from sft_diversity.stages import TOOLS, StageTable

    if side.endswith("hf"):
        has = extras.has
        extras.has = lambda module: module != "gigatoken" and has(module)
    with tempfile.TemporaryDirectory() as work:
        options = {"component": "response", "tokenizer": str(file)}
        place = Store(Path(work), StageTable(), TOOLS, False, print).get("tokens", options, corpus)
        took = since(start)
        manifest = folder.read_manifest(place.path)
    return {
        "cold": took,
        "by": manifest["run"]["tokens_by"],
        "tokens": manifest["result"]["tokens"],
        "ids": content_key(manifest["files"])[:16],
    }


def main() -> None:
    """Measure all sides of both patterns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", choices=SIDES)
    parser.add_argument("--file", type=Path)
    args = parser.parse_args()
    if args.side:
        one = token_pass if args.side.startswith("pass") else encode
        print(json.dumps(one(args.side, args.corpus, args.file)))
        return
    from sft_diversity.core import machine

    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, pattern in PATTERNS.items():
            file = Path(folder) / f"{name}.json"
            train(args.corpus, pattern, file)
            rounds: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
            for side in SIDES * args.rounds:
                call = [sys.executable, __file__, str(args.corpus), "--side", side]
                done = subprocess.run(
                    [*call, "--file", str(file)], check=True, stdout=subprocess.PIPE, text=True
                )
                rounds[side].append(json.loads(done.stdout.splitlines()[-1]))
            found[name] = summary(rounds)
            print(name, json.dumps(found[name], indent=1))
    body = {
        "command": "python benchmarks/tokenize_vs_hf.py CORPUS",
        "machine": machine.measured_on(),
        "patterns": found,
    }
    RESULTS.write_text(json.dumps(body, indent=1) + "\n", "utf-8")


def summary(rounds: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Return medians of seconds (processor, wall), ratios, and whether all ids are equal."""
    took = {
        side if when == "cold" else f"{side}, {when}": [
            round(median(one[when][clock] for one in rounds[side]), 3) for clock in (0, 1)
        ]
        for side in SIDES
        for when in ("loading", "cold", "again")
        if when in rounds[side][0]
    }
    same = [
        {one["ids"] for side in pair for one in rounds[side]} for pair in (SIDES[:2], SIDES[2:])
    ]
    return {
        "tokens": rounds["hf"][0]["tokens"],
        "ids_equal": all(len(found) == 1 for found in same),
        "seconds_processor_and_wall": took,
        "times_fewer_processor_seconds": {
            "encoding, cold": round(took["hf"][0] / took["gigatoken"][0], 1),
            "encoding, again": round(took["hf, again"][0] / took["gigatoken, again"][0], 1),
            "whole pass": round(took["pass by hf"][0] / took["pass by gigatoken"][0], 1),
        },
    }


if __name__ == "__main__":
    main()
