"""Tokens a second of `score --suite generate`, beside transformers' own `generate`.

    python benchmarks/generate_speed.py MODEL [--batch 32] [--tokens 128] [--threads 2]
        [--out benchmarks/results/generate_speed_adapter.json]

The same batches of IFEval's prompts, of like length as the suite makes them, greedy, the same most
tokens; the two loops take turns. Counted are tokens of answers, not those behind an end, by the
clock and by the processor's own time, which other work on the machine changes less. Writes
results/generate_speed.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any
from unittest import mock

from sft_diversity.core import chat, machine
from sft_diversity.scoring import decoding
from sft_diversity.scoring import model as models
from sft_diversity.scoring.generate import writing
from sft_diversity.scoring.sets import PromptSet, find_eval_dir, read_prompts

RESULT = Path(__file__).parent / "results/generate_speed.json"
PROMPTS = PromptSet(name="ifeval", file="ifeval_input_data.jsonl.gz", prompt="prompt")


def timed(
    loaded: Any, ids: list[list[int]], tokens: int, own: bool
) -> tuple[tuple[float, float], Any]:
    """Return tokens a second of the clock and of the processor, and the answers, of either loop."""
    began, busy = time.perf_counter(), time.process_time()
    given = (*loaded, ids, [tokens] * len(ids), decoding.Sampling())
    if own:
        made = decoding.answers_to(*given)
    else:
        with mock.patch.object(decoding, "_has_plain_cache", return_value=False):
            made = decoding.answers_to(*given)
    seconds, busy = time.perf_counter() - began, time.process_time() - busy
    tokens = sum(one.tokens_out for one in made)
    return (tokens / seconds, tokens / busy), made


def write(model: str, asked: argparse.Namespace, rows: list[dict[str, Any]]) -> None:
    """Write what is timed so far."""
    result = {
        "model": model,
        "command": "python benchmarks/generate_speed.py MODEL "
        f"--batch {asked.batch} --tokens {asked.tokens} --threads {asked.threads}",
        "batches": rows,
        "machine": machine.measured_on(),
    }
    asked.out.write_text(json.dumps(result, indent=1) + "\n", "utf-8")


def main() -> None:
    """Time both, print the medians, write the result."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batches", type=int, default=2)
    parser.add_argument("--dtypes", nargs="+", default=["bfloat16", "float32"])
    parser.add_argument("--out", type=Path, default=RESULT)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    machine.keep_freed_memory()
    prompts = read_prompts(PROMPTS, find_eval_dir(None), 0)
    batches = writing.in_batches(prompts, asked.batch)
    chosen = batches[2 :: max(len(batches) // asked.batches, 1)][: asked.batches]
    source = models.MODELS.find(asked.model)
    rows = []
    for dtype in asked.dtypes:
        loaded = models.load_model(source, "cpu", dtype, False)
        timed(loaded, [chat.prompt([{"role": "user", "content": "Hello"}], loaded[1])], 4, True)
        for batch in chosen:
            ids = [chat.prompt([{"role": "user", "content": p.text}], loaded[1]) for p in batch]
            ours, own = timed(loaded, ids, asked.tokens, True)
            theirs, peer = timed(loaded, ids, asked.tokens, False)
            rows.append(
                {
                    "dtype": dtype,
                    "prompt_tokens": max(map(len, ids)),
                    "answer_tokens": sum(one.tokens_out for one in own),
                    "tokens_per_s": round(ours[0], 1),
                    "tokens_per_cpu_s": round(ours[1], 1),
                    "generate_tokens_per_s": round(theirs[0], 1),
                    "generate_tokens_per_cpu_s": round(theirs[1], 1),
                    "equal": sum(a.text == b.text for a, b in zip(own, peer, strict=True)),
                }
            )
            print(rows[-1], flush=True)
            write(source.name, asked, rows)
    for dtype in asked.dtypes:
        here = [row for row in rows if row["dtype"] == dtype]
        ours, theirs = (
            statistics.median(row[f"{loop}tokens_per_cpu_s"] for row in here)
            for loop in ("", "generate_")
        )
        print(f"{dtype}: {ours:.0f} tokens a processor second, transformers' loop {theirs:.0f}")


if __name__ == "__main__":
    main()
