"""Samples in one row against the same samples padded: logits, losses, weights.

    python benchmarks/padding_free.py SUBSET [--model FOLDER] [--steps 20]

Both runs read the same samples in the same steps. Writes `results/padding_free.json`.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file

from sft_diversity.core import chat, machine
from sft_diversity.training import rendering, samples
from sft_diversity.training.config import FinetuneConfig
from sft_diversity.training.models import BASES, load_base, load_right_padding_tokenizer
from sft_diversity.training.stage import finetune

RESULTS = Path(__file__).parent / "results" / "padding_free.json"


def logits_apart(subset: Path, model: str | None) -> dict[str, Any]:
    """Return how far logits of eight samples in one row lie from those of each alone."""
    base = BASES.find(model)
    tokenizer = load_right_padding_tokenizer(base)
    chat.ensure_template(tokenizer)
    rendered = rendering.render_samples(samples.find_samples(subset), tokenizer, 512, "trim", 8)
    ids = [torch.from_numpy(one).long() for one in rendered.input_ids]
    positions = torch.cat([torch.arange(len(one)) for one in ids])[None]
    loaded = load_base(base, 0).eval()
    with torch.no_grad():
        row = loaded(torch.cat(ids)[None], position_ids=positions, use_cache=False).logits[0]
        alone = torch.cat([loaded(one[None], use_cache=False).logits[0] for one in ids])
    return {"tokens": len(row), "logits_apart": float((row - alone).abs().max())}


def trained(subset: Path, model: str | None, steps: int, lora: bool, free: bool) -> Any:
    """Return losses and weights of a run."""
    options = FinetuneConfig(
        model=model, steps=steps, batch_size=4, micro_batch_size=4, max_length=128,
        dtype="float32", lora=lora, on_truncation="trim", trainer={"padding_free": free},
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "out"
        finetune(subset, out, options, lambda line: None)
        log = [json.loads(line) for line in (out / "training.jsonl").read_text().splitlines()]
        (weights,) = (load_file(path) for path in out.glob("*.safetensors"))
    return np.array([line["loss"] for line in log]), weights


def main() -> None:
    """Measure both, write and print the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("subset", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--steps", type=int, default=20)
    asked = parser.parse_args()
    result: dict[str, Any] = {
        "processor": platform.processor() or platform.machine(), "cores": machine.cores(),
        "steps": asked.steps, **logits_apart(asked.subset, asked.model),
    }  # fmt: skip
    for name, lora in (("full", False), ("lora", True)):
        padded, free = (
            trained(asked.subset, asked.model, asked.steps, lora, way) for way in (False, True)
        )
        apart = max(float(np.abs(padded[1][key] - free[1][key]).max()) for key in padded[1])
        largest = max(float(np.abs(padded[1][key]).max()) for key in padded[1])
        result[name] = {
            "first_loss": float(padded[0][0]),
            "last_loss": float(padded[0][-1]),
            "losses_apart": float(np.abs(padded[0] - free[0]).max()),
            "weights_apart": apart,
            "largest_weight": largest,
        }
    RESULTS.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
