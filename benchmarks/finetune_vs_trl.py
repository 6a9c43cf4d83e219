"""`sftdiv finetune` against TRL's own SFTTrainer and a plain loop: same micro-batches, one run.

    python benchmarks/finetune_vs_trl.py SUBSET [--model DIR] [--steps 12] [--rounds 3]
        [--precisions float32 bfloat16] [--sides ours trl loop ...]

All train all weights with torch's fused AdamW at a constant rate, without activation checkpointing
and packing; every micro-batch holds the same samples on all sides. Each side runs in a process of
its own, they take turns, and a side's step time is the median over the steps of all its rounds
(the first two of a round left out), in wall and in processor seconds: the latter hardly depends on
what else the machine does. The losses of every step are compared. On a processor without bfloat16
that precision is emulated, slowly; the results keep what was measured of precisions and sides not
asked for.

`loop` is what a step costs at least: forward and backward passes with logits at labelled positions,
clipping, the optimizer, written out in PyTorch; nothing is logged, measured or saved. `no-norms` is
ours without figures of the gradient. The others cut the same steps differently, so their losses are
those of `ours` too: `ungrouped` eights in the order they were drawn (what grouping gains is said
apart, since TRL can be given such batches too), `default` as `finetune` does where no micro-batch
size is given, `whole` each step at once, `fixed` eights whose lengths are rounded up to multiples
of 128, `compiled` those by torch.compile. Writes benchmarks/results/finetune_vs_trl.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from sft_diversity.core import chat, machine
from sft_diversity.core.chat import IGNORED
from sft_diversity.core.drafts import Work, open_draft
from sft_diversity.core.models import ModelFolder
from sft_diversity.core.progress import Progress
from sft_diversity.training import course, rendering, samples
from sft_diversity.training.config import FinetuneConfig
from sft_diversity.training.models import BASES, load_base, load_right_padding_tokenizer
from sft_diversity.training.team import Team

RESULTS = Path(__file__).parent / "results" / "finetune_vs_trl.json"
WARM = 2
BATCH, MICRO, LR = 32, 8, 3e-4


#: Samples of a forward pass by how steps are cut; None is as many as pad little.
CUTS = {"default": None, "whole": BATCH}


def lay_out(
    subset: Path, model: str | None, steps: int, cut: str
) -> tuple[ModelFolder, Any, tuple[course.Course, FinetuneConfig]]:
    """Return base, tokenizer and the course that all sides follow."""
    config = FinetuneConfig(
        model=model, steps=steps, batch_size=BATCH, micro_batch_size=CUTS.get(cut, MICRO), lr=LR,
        schedule="constant", warmup=0, on_truncation="trim",
    )  # fmt: skip
    base = BASES.find(model)
    tokenizer = load_right_padding_tokenizer(base)
    chat.ensure_template(tokenizer)
    rendered = rendering.render_samples(
        samples.find_samples(subset), tokenizer, config.max_length, "trim"
    )
    run = course.lay_out(rendered, base, config, most_tokens=8192)
    if cut == "ungrouped":
        drawn = run.order.reshape(-1, MICRO).tolist()
        object.__setattr__(run, "batches", drawn)
    return base, tokenizer, (run, config)


def ours(subset: Path, model: str | None, steps: int, dtype: str, cut: str) -> Any:
    """Return our trainer, ready to train."""
    from sft_diversity.training import trainer
    from sft_diversity.training.callbacks import GradientTheory

    machine.keep_freed_memory()  # as `finetune` does
    base, tokenizer, (run, config) = lay_out(subset, model, steps, cut)
    draft = open_draft(Path(tempfile.mkdtemp()) / "out", Work("finetune", 0, {}, {}))
    bar = Progress("", steps, "steps", silent=True)
    options = config.model_copy(update={"checkpoint_steps": 10_000})
    made = trainer.build_trainer(run, base, tokenizer, options, dtype, draft, bar, Team())
    if cut == "no-norms":
        made.remove_callback(GradientTheory)
    return made


def loop(
    subset: Path, model: str | None, steps: int, dtype: str, cut: str, ended: Callable[[], None]
) -> list[float]:
    """Train in a plain loop, call `ended` after each step, return the losses."""
    import torch
    from torch.nn.functional import cross_entropy, pad
    from torch.nn.utils.rnn import pad_sequence

    machine.keep_freed_memory()
    base, tokenizer, (run, _) = lay_out(subset, model, steps, cut)
    net: Any = load_base(base, 0)
    net.train()
    groups = [
        {"params": [p for p in net.parameters() if (p.ndim > 1) == decayed], "weight_decay": decay}
        for decayed, decay in ((True, 0.01), (False, 0.0))
    ]
    optimizer = torch.optim.AdamW(groups, lr=LR, fused=True)
    body = torch.compile(net.model, dynamic=False) if cut == "compiled" else net.model
    mixed = torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16")
    losses = []
    for start in range(0, len(run.batches), run.micro_per_step):
        step = run.batches[start : start + run.micro_per_step]
        labels = [[torch.from_numpy(run.rendered.labels[r]).long() for r in rows] for rows in step]
        tokens = sum(int((one[1:] != IGNORED).sum()) for rows in labels for one in rows)
        total = 0.0
        for rows, marks in zip(step, labels, strict=True):
            ids = [torch.from_numpy(run.rendered.input_ids[row]).long() for row in rows]
            asked = pad_sequence(ids, True, tokenizer.pad_token_id)
            wanted = pad_sequence(marks, True, IGNORED)
            if cut in ("fixed", "compiled"):
                more = -asked.shape[1] % 128
                asked, wanted = pad(asked, (0, more)), pad(wanted, (0, more), value=IGNORED)
            with mixed:
                hidden = body(input_ids=asked, use_cache=False).last_hidden_state[:, :-1]
                labelled = wanted[:, 1:] != IGNORED
                logits = net.lm_head(hidden[labelled]).float()
                loss = cross_entropy(logits, wanted[:, 1:][labelled], reduction="sum") / tokens
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(total)
        ended()
    return losses


def theirs(subset: Path, model: str | None, steps: int, dtype: str, cut: str) -> Any:
    """Return TRL's trainer on the same rows in the same order."""
    base, tokenizer, (run, _) = lay_out(subset, model, steps, cut)
    rows = [row for batch in run.batches for row in batch]
    return trl_trainer(
        run.rendered, rows, load_base(base, 0), tokenizer, steps=steps, batch=BATCH, micro=MICRO,
        lr=LR, dtype=dtype, out=Path(tempfile.mkdtemp()),
    )  # fmt: skip


def trl_trainer(
    rendered: rendering.Rendered,
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

    def ended() -> None:
        ends.append((time.perf_counter(), time.process_time()))

    class Clock(TrainerCallback):
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            ended()

    side, _, cut = asked.side.partition("-")
    common = asked.subset, asked.model, asked.steps, asked.dtype, cut
    if side == "loop":
        losses = loop(*common, ended)
    else:
        trainer = (ours if side == "ours" else theirs)(*common)
        trainer.add_callback(Clock())
        trainer.train()
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    run = lay_out(asked.subset, asked.model, asked.steps, "")[2][0]
    between = list(zip(ends[WARM - 1 :], ends[WARM:], strict=False))
    told: dict[str, Any] = {
        "wall": [b[0] - a[0] for a, b in between],
        "cpu": [b[1] - a[1] for a, b in between],
        "losses": losses,
        "tokens": np.diff(run.tokens_read())[WARM:].tolist(),
    }
    if asked.side == "ours":
        start = time.process_time()
        trainer._save_checkpoint(trainer.model, None)
        told["checkpoint_cpu_s"] = round(time.process_time() - start, 3)
    print(json.dumps(told))


def measure(asked: argparse.Namespace, side: str, dtype: str) -> dict[str, Any]:
    """Run one side in a process of its own."""
    command = [
        sys.executable, __file__, str(asked.subset), "--side", side, "--dtype", dtype,
        "--steps", str(asked.steps), *(["--model", asked.model] if asked.model else []),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr[-3000:])
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def compare(asked: argparse.Namespace, dtype: str, before: dict[str, Any]) -> dict[str, Any]:
    """Let the sides take turns in one precision; return what is known of all sides."""
    rounds = [{one: measure(asked, one, dtype) for one in asked.sides} for _ in range(asked.rounds)]
    sides: dict[str, dict[str, Any]] = dict(before.get("sides", {}))
    for side in asked.sides:
        told = [turn[side] for turn in rounds]
        tokens = sum(sum(one["tokens"]) for one in told)
        sides[side] = {
            f"step_{clock}_s": round(statistics.median(t for one in told for t in one[clock]), 4)
            for clock in ("wall", "cpu")
        } | {
            "tokens_per_cpu_s": round(tokens / sum(sum(one["cpu"]) for one in told)),
            "steps_timed": sum(len(one["cpu"]) for one in told),
            "losses": [round(loss, 5) for loss in told[0]["losses"]],
            "date": datetime.now(UTC).date().isoformat(),
        }
        if "checkpoint_cpu_s" in told[0]:
            sides[side]["checkpoint_cpu_s"] = told[0]["checkpoint_cpu_s"]
    result: dict[str, Any] = {"sides": sides}
    own = sides.get("ours")
    if own is None:
        return result
    for side in sides:
        result.setdefault("ours_is_faster_cpu", {})[side] = round(
            sides[side]["step_cpu_s"] / own["step_cpu_s"], 3
        )
        pairs = zip(own["losses"], sides[side]["losses"], strict=False)
        result.setdefault("greatest_loss_difference", {})[side] = round(
            max(abs(a - b) for a, b in pairs), 6
        )
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
    parser.add_argument("--sides", nargs="+", default=["ours", "trl", "loop", "ours-ungrouped"])
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--dtype", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.side:
        return one(asked)
    import torch

    known = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else {}
    model = Path(asked.model).stem if asked.model else "tiny-base"
    runs = known.get("runs", {})
    for dtype in asked.precisions:
        load = os.getloadavg()[0]
        name = f"{model}, {dtype}"
        runs[name] = compare(asked, dtype, runs.get(name, {})) | {
            "load": [round(load, 2), round(os.getloadavg()[0], 2)]
        }
    report = {
        "machine": machine.measured_on(),
        "threads": torch.get_num_threads(),
        "batch_size": BATCH,
        "micro_batch_size": MICRO,
        "runs": runs,
    }
    RESULTS.write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    print(json.dumps(report, indent=1))
    return None


if __name__ == "__main__":
    main()
