"""Schedules × budgets: which learning-rate schedule buys the lowest loss for a token budget.

    python benchmarks/schedule_budgets.py run CORPUS --scratch DIR      # resumable, one core
    python benchmarks/schedule_budgets.py check CORPUS --scratch DIR    # against `sftdiv finetune`

A Llama of 0.23 M parameters from random weights, on samples of the corpus of at most 128 tokens;
training, validation and test samples share no user turn. A seed sets the weights and the reading
order, so runs of one seed differ in nothing but optimizer, schedule, rate and budget. Rates are
chosen on validation loss alone. Every finished run is one line of DIR/runs.jsonl.

The loop is plain: reading order, labelled-only loss, clipping, optimizers and schedules are the
library's; only TRL's trainer is left out, whose start costs as much as 30 of these steps.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from schedule_budgets_plan import FIRST_RATES, SCHEDULES, TOKENS, Job, next_jobs, read_runs

from sft_diversity.core import chat, resources, seeding
from sft_diversity.training import batches, head, optimizers, rendering, samples, schedules, uba

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

SEED, DRAWN = 4, 12_000
SIZES = {"test": 700, "valid": 300, "train": 2_500}
VOCABULARY, MAX_LENGTH, BATCH, WARMUP, CLIP = 2_048, 128, 8, 0.05, 1.0


def small_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Write the base model's tokenizer with its first merges alone, and load it."""
    from transformers import AutoTokenizer

    source = resources.base_model()
    spec = json.loads((source / "tokenizer.json").read_text("utf-8"))
    model = spec["model"]
    model["vocab"] = {token: i for token, i in model["vocab"].items() if i < VOCABULARY}
    model["merges"] = [pair for pair in model["merges"] if "".join(pair) in model["vocab"]]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(spec), "utf-8")
    name = "tokenizer_config.json"
    (folder / name).write_bytes((source / name).read_bytes())
    tokenizer = AutoTokenizer.from_pretrained(folder)
    chat.ensure_template(tokenizer)
    return tokenizer


def split(corpus: Path, tokenizer: PreTrainedTokenizerBase, scratch: Path) -> None:
    """Write the three sets as folders of Parquet."""
    files = sorted((corpus / "samples").glob("*.parquet"))
    table = pa.concat_tables(pq.read_table(f, columns=["id", "messages"]) for f in files)
    drawn = seeding.generator(SEED, "draw").permutation(len(table))[:DRAWN]
    kept, seen = [], set()
    table = table.take(drawn)
    for row, messages in enumerate(table["messages"].to_pylist()):
        asked = "\n".join(turn["content"] for turn in messages if turn["role"] == "user")
        ids, _ = chat.render(messages, tokenizer)
        if len(ids) <= MAX_LENGTH and asked not in seen:
            seen.add(asked)
            kept.append(row)
    start = 0
    for name, size in SIZES.items():
        (scratch / name).mkdir(exist_ok=True)
        pq.write_table(table.take(kept[start : start + size]), scratch / name / "0.parquet")
        start += size
    assert start <= len(kept)


def fresh_model(seed: int) -> PreTrainedModel:
    """Return the model with the random weights of a seed."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seeding.derive(seed, "weights") % 2**32)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=64,
            intermediate_size=176,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=256,
            tie_word_embeddings=True,
            bos_token_id=0,
            eos_token_id=0,
            pad_token_id=1,
        )
    )


def padded(rendered: rendering.Rendered, rows: list[int]) -> dict[str, Any]:
    """Return a batch, padded on the right."""
    import torch

    def column(arrays: list[rendering.Tokens], filler: int) -> torch.Tensor:
        tensors = [torch.from_numpy(arrays[row]).long() for row in rows]
        return torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=filler)

    ids = column(rendered.input_ids, 1)
    return {"input_ids": ids, "labels": column(rendered.labels, chat.IGNORED)}


def mean_loss(model: PreTrainedModel, rendered: rendering.Rendered) -> float:
    """Return nats per response token."""
    import torch

    order = np.argsort(rendered.lengths, kind="stable")
    total = 0.0
    with torch.inference_mode():
        for part in np.array_split(order, -(-len(order) // 32)):
            total += model(**padded(rendered, part.tolist()), labelled_head=True).loss.item()
    return total / int(rendered.response_tokens.sum())


def train(job: Job, sets: dict[str, rendering.Rendered]) -> tuple[PreTrainedModel, list[float]]:
    """Return the trained model and the loss of every step (up to one that is not finite)."""
    import torch

    rendered = sets["train"]
    order = batches.reading_order(
        rendered.response_tokens, BATCH, job.seed, tokens=TOKENS[job.budget]
    )
    steps = batches.micro_batches(order, rendered.lengths, BATCH, BATCH)
    settings = optimizers.settings_for(job.optimizer, 64, False, job.rate, None)
    kind, phi = SCHEDULES[job.schedule]
    warmup = uba.warmup_steps(WARMUP, len(steps))
    factor = schedules.Schedule(kind, len(steps), warmup, phi)
    model = fresh_model(job.seed)
    head.add_labelled_head(model)
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    make, options = optimizers.optimizer_class(job.optimizer, job.rate)
    optimizer = make(
        [
            {"params": matrices, "weight_decay": settings.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ],
        **options,
    )
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    losses: list[float] = []
    for rows in steps:
        labelled = int(rendered.response_tokens[rows].sum())
        loss = model(**padded(rendered, rows), labelled_head=True).loss / labelled
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            break
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
    return model, losses


def load(corpus: Path, scratch: Path) -> dict[str, rendering.Rendered]:
    """Return the three sets as tokens, made on the first call."""
    tokenizer = small_tokenizer(scratch / "tokenizer")
    if not (scratch / "train" / "0.parquet").exists():
        split(corpus, tokenizer, scratch)
    return {
        name: rendering.render_samples(
            samples.find_samples(scratch / name), tokenizer, MAX_LENGTH, "error"
        )
        for name in SIZES
    }


def run(corpus: Path, scratch: Path, until: float) -> None:
    """Run what is left, one run at a time, for `until` seconds at most."""
    sets, path, start = load(corpus, scratch), scratch / "runs.jsonl", time.monotonic()
    while jobs := next_jobs(read_runs(path)):
        if time.monotonic() - start > until:
            return
        job, before, used = jobs[0], time.monotonic(), time.process_time()
        model, losses = train(job, sets)
        scores = {name: mean_loss(model, sets[name]) for name in ("valid", "test")}
        record: dict[str, Any] = job._asdict() | {
            name: score if math.isfinite(score) else None for name, score in scores.items()
        }
        record |= {
            "steps": len(losses),
            "wall_s": round(time.monotonic() - before, 1),
            "cpu_s": round(time.process_time() - used, 1),
        }
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        print(len(jobs), record, flush=True)


def check(corpus: Path, scratch: Path) -> None:
    """Print the greatest difference of a step's loss from `sftdiv finetune`'s."""
    from sft_diversity.training.config import FinetuneConfig
    from sft_diversity.training.stage import finetune

    sets, base = load(corpus, scratch), scratch / "model"
    fresh_model(0).save_pretrained(base)
    small_tokenizer(base)
    for optimizer, rates in FIRST_RATES.items():
        out = scratch / f"check-{optimizer}"
        finetune(
            scratch / "train",
            out,
            FinetuneConfig(
                model=str(base),
                tokens=TOKENS["25 %"],
                batch_size=BATCH,
                micro_batch_size=BATCH,
                max_length=MAX_LENGTH,
                optimizer=optimizer,
                lr=rates[0],
                schedule="uba",
                phi=5.0,
                warmup=WARMUP,
                dtype="float32",
            ),
        )
        log = [json.loads(line) for line in (out / "training.jsonl").read_text().splitlines()]
        theirs = [step["loss"] for step in log if "loss" in step]
        ours = train(Job(optimizer, "25 %", "UBA 5", rates[0], 0), sets)[1]
        gap = max(abs(a - b) for a, b in zip(ours, theirs, strict=True))
        print(f"{optimizer}: {len(ours)} steps, losses differ by at most {gap:.1e}")


def main() -> None:
    """Parse and call."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=["run", "check"])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=math.inf, help="start no run after that")
    asked = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    asked.scratch.mkdir(parents=True, exist_ok=True)
    if asked.task == "check":
        check(asked.corpus, asked.scratch)
    else:
        run(asked.corpus, asked.scratch, asked.seconds)


if __name__ == "__main__":
    main()
