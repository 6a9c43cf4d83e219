"""`sftdiv finetune` against TRL's own SFTTrainer: same micro-batches, same order, one run.

    python benchmarks/finetune_vs_trl.py SUBSET [--model DIR] [--steps 12] [--rounds 3]
        [--precisions float32 bfloat16]

Both train all weights with torch's fused AdamW at a constant rate, without activation checkpointing
and packing; every micro-batch holds the same samples on both sides. Each side runs in a process of
its own, the two take turns, and a side's step time is the median over the steps of all its rounds
(the first two of a round left out), in wall and in processor seconds: the latter hardly depends on
what else the machine does. The losses of every step are compared. On a processor without bfloat16
that precision is emulated, slowly; the results keep what was measured of a precision not asked for.
`ungrouped` is ours with the samples of a step in the order they were drawn, not by length: what
grouping gains is said apart, since TRL can be given such batches too.
Writes benchmarks/results/finetune_vs_trl.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sft_diversity.core import folder
from sft_diversity.core.drafts import Work, open_draft
from sft_diversity.core.progress import Progress
from sft_diversity.training import course, samples
from sft_diversity.training.config import FinetuneConfig
from sft_diversity.training.models import BASES, load_base, load_right_padding_tokenizer
from sft_diversity.training.team import Team

RESULTS = Path(__file__).parent / "results" / "finetune_vs_trl.json"
WARM = 2
BATCH, MICRO, LR = 32, 8, 3e-4


def lay_out(subset: Path, model: str | None, steps: int, grouped: bool) -> tuple[Any, Any, Any]:
    """Return base, tokenizer and the course that both sides follow."""
    from sft_diversity.core import chat

    config = FinetuneConfig(
        model=model, steps=steps, batch_size=BATCH, micro_batch_size=MICRO, lr=LR,
        schedule="constant", warmup=0, on_truncation="trim",
    )  # fmt: skip
    base = BASES.find(model)
    tokenizer = load_right_padding_tokenizer(base)
    chat.ensure_template(tokenizer)
    rendered = samples.render_samples(
        samples.find_samples(subset), tokenizer, config.max_length, "trim"
    )
    run = course.lay_out(rendered, base, config, most_tokens=8192)
    if not grouped:
        drawn = run.order.reshape(-1, MICRO).tolist()
        object.__setattr__(run, "batches", drawn)
    return base, tokenizer, (run, config)


def ours(subset: Path, model: str | None, steps: int, dtype: str, grouped: bool) -> Any:
    """Return our trainer, ready to train."""
    from sft_diversity.training import trainer

    base, tokenizer, (run, config) = lay_out(subset, model, steps, grouped)
    draft = open_draft(Path(tempfile.mkdtemp()) / "out", Work("finetune", 0, {}, {}))
    bar = Progress("", steps, "steps", silent=True)
    options = config.model_copy(update={"checkpoint_steps": 10_000})
    return trainer.build_trainer(run, base, tokenizer, options, dtype, draft, bar, Team())


def theirs(subset: Path, model: str | None, steps: int, dtype: str, grouped: bool) -> Any:
    """Return TRL's trainer on the same rows in the same order."""
    base, tokenizer, (run, _) = lay_out(subset, model, steps, grouped)
    rows = [row for batch in run.batches for row in batch]
    return trl_trainer(
        run.rendered, rows, load_base(base, 0), tokenizer, steps=steps, batch=BATCH, micro=MICRO,
        lr=LR, dtype=dtype, out=Path(tempfile.mkdtemp()),
    )  # fmt: skip


def trl_trainer(
    rendered: samples.Rendered,
    rows: Sequence[int],
    model: Any,
    tokenizer: Any,
    *,
    steps: int,
    batch: int,
    micro: int,
    lr: float,
    dtype: str,
    out: Path,
    peft_config: Any = None,
) -> Any:
    """Return TRL's trainer on rows in their order, `micro` of them a forward pass."""
    import torch
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    data = Dataset.from_dict(
        {
            "input_ids": [rendered.input_ids[row] for row in rows],
            "labels": [rendered.labels[row] for row in rows],
        }
    )
    arguments = SFTConfig(
        output_dir=str(out),
        max_steps=steps,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=batch // micro,
        learning_rate=lr,
        lr_scheduler_type="constant",
        optim="adamw_torch_fused",
        weight_decay=0.01,
        bf16=dtype == "bfloat16",
        activation_checkpointing=False,
        use_cpu=not torch.cuda.is_available(),
        train_sampling_strategy="sequential",
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        max_length=None,
        packing=False,
        dataset_kwargs={"skip_prepare_dataset": True},
        seed=0,
    )
    return SFTTrainer(
        model=model, args=arguments, train_dataset=data, processing_class=tokenizer,
        peft_config=peft_config,
    )  # fmt: skip


def one(asked: argparse.Namespace) -> None:
    """Train one side, print its step times and losses as JSON."""
    from transformers import TrainerCallback

    ends: list[tuple[float, float]] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            ends.append((time.perf_counter(), time.process_time()))

    make = ours if asked.side.startswith("ours") else theirs
    trainer = make(
        asked.subset, asked.model, asked.steps, asked.dtype, not asked.side.endswith("ungrouped")
    )
    trainer.add_callback(Clock())
    trainer.train()
    between = list(zip(ends[WARM - 1 :], ends[WARM:], strict=False))
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    print(
        json.dumps(
            {
                "wall": [b[0] - a[0] for a, b in between],
                "cpu": [b[1] - a[1] for a, b in between],
                "losses": losses,
            }
        )
    )


def measure(asked: argparse.Namespace, side: str, dtype: str) -> dict[str, list[float]]:
    """Run one side in a process of its own."""
    command = [
        sys.executable, __file__, str(asked.subset), "--side", side, "--dtype", dtype,
        "--steps", str(asked.steps), *(["--model", asked.model] if asked.model else []),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr[-3000:])
    result: dict[str, list[float]] = json.loads(done.stdout.splitlines()[-1])
    return result


def compare(asked: argparse.Namespace, dtype: str) -> dict[str, Any]:
    """Let the sides take turns in one precision; return medians, ratios and the loss gap."""
    sides = ("ours", "trl", "ours-ungrouped")
    rounds = [{side: measure(asked, side, dtype) for side in sides} for _ in range(asked.rounds)]
    result: dict[str, Any] = {}
    for clock in ("wall", "cpu"):
        steps = {
            side: statistics.median(t for turn in rounds for t in turn[side][clock])
            for side in sides
        }
        result[f"step_{clock}_s"] = {side: round(value, 4) for side, value in steps.items()}
        result[f"ratio_{clock}"] = round(steps["trl"] / steps["ours"], 3)
        result[f"grouping_{clock}"] = round(steps["ours-ungrouped"] / steps["ours"], 3)
    pairs = zip(rounds[0]["ours"]["losses"], rounds[0]["trl"]["losses"], strict=True)
    result["greatest_loss_difference"] = max(abs(a - b) for a, b in pairs)
    return result


def main() -> None:
    """Compare in both precisions and write the results; or be one side."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("subset", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precisions", nargs="+", default=["bfloat16", "float32"])
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--dtype", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.side:
        return one(asked)
    import torch

    report = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "threads": torch.get_num_threads(),
        "batch_size": BATCH,
        "micro_batch_size": MICRO,
        "model": asked.model or "tiny-base",
        "versions": {
            k: v for k, v in folder.versions().items() if k in ("torch", "transformers", "trl")
        },
        "runs": json.loads(RESULTS.read_text("utf-8"))["runs"] if RESULTS.exists() else {},
    }
    for dtype in asked.precisions:
        load = os.getloadavg()[0]
        report["runs"][dtype] = {
            "date": datetime.now(UTC).date().isoformat(),
            "steps_timed": (asked.steps - WARM) * asked.rounds,
            "load_before": round(load, 2),
            **compare(asked, dtype),
            "load_after": round(os.getloadavg()[0], 2),
        }
    RESULTS.write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    print(json.dumps(report, indent=1))
    return None


if __name__ == "__main__":
    main()
