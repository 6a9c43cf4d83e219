"""Fine-tune a model on a subset: TRL's trainer, AdamW or LION, under a budget-aware schedule."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from sft_diversity.core import chat, machine, stopping
from sft_diversity.core import progress as talk
from sft_diversity.core.config import Config
from sft_diversity.core.errors import UsageError
from sft_diversity.core.folder import (
    MANIFEST,
    Work,
    open_draft,
    read_manifest,
    rows_account,
    unfinished,
)
from sft_diversity.finetune import checkpoints, course, optimizers, output, samples, schedules
from sft_diversity.finetune.models import Base, find_base, load_tokenizer

VERSION = 2


class FinetuneConfig(Config):
    """How a model is trained on a subset."""

    model: str | None = Field(
        None, description="model folder or Hub id; default: the offline base model tiny-base"
    )
    revision: str | None = Field(None, description="revision of a Hub model")
    epochs: float | None = Field(
        None, gt=0, description="budget: passes over the subset (1 where no budget is given)"
    )
    steps: int | None = Field(None, gt=0, description="budget: optimizer steps")
    tokens: int | None = Field(None, gt=0, description="budget: response tokens read")
    batch_size: int = Field(32, gt=0, description="samples per optimizer step")
    micro_batch_size: int | None = Field(
        None, gt=0, description="samples per forward pass; default: 8 on a CPU, else batch_size"
    )
    max_length: int = Field(512, gt=1, description="tokens kept of a sample, from its start")
    on_truncation: samples.OnTruncation = Field(
        "keep",
        description="a longer sample: error; drop it; keep its start (an error where no "
        "label is left); or trim, which keeps the start and drops what has no label",
    )
    optimizer: optimizers.Name = Field(
        "adamw", description="adamw, lion, sgd, and on CUDA adamw-8bit, lion-8bit"
    )
    lr: float | None = Field(
        None, gt=0, description="peak learning rate; default: by optimizer, width and LoRA"
    )
    weight_decay: float | None = Field(
        None, ge=0, description="decoupled, none on norms and biases; default: by optimizer"
    )
    max_grad_norm: float = Field(1.0, ge=0, description="gradient clipping, 0 for none")
    schedule: schedules.Kind = Field(
        "uba", description="uba, cosine, linear, wsd, step or constant"
    )
    phi: float = Field(2.0, description="UBA's φ: 2 is the cosine, larger decays sooner")
    warmup: float = Field(0.03, ge=0, description="linear warm-up: a share below 1, else steps")
    lr_min: float = Field(0.0, ge=0, description="learning rate at the end, η_min")
    phases: schedules.Phases = Field(
        (),
        description="restarts after warm-up, each with its length, peak, floor and phi, as in "
        '"0.6 phi=1, 0.4 peak=0.3 phi=5"',
    )
    equal_area: bool = Field(
        False, description="scale the peak so that the rates sum to those of a cosine with peak lr"
    )
    train_seed: int = Field(0, ge=0, description="seed of reading order, adapters and dropout")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="precision of products; weights stay float32"
    )
    gradient_checkpointing: bool = Field(False, description="less memory for a third more time")
    checkpoint_steps: int = Field(100, gt=0, description="steps between checkpoints")
    lora: bool = Field(False, description="train a LoRA adapter instead of all weights")
    lora_rank: int = Field(16, gt=0, description="rank of the adapter")
    lora_alpha: int = Field(32, gt=0, description="scale of the adapter, α")
    lora_dropout: float = Field(0.0, ge=0, lt=1, description="dropout before the adapter")
    merge_adapter: bool = Field(False, description="merge LoRA into the saved weights")

    @model_validator(mode="after")
    def _one_budget(self) -> FinetuneConfig:
        given = [n for n in ("epochs", "steps", "tokens") if getattr(self, n) is not None]
        if len(given) > 1:
            raise ValueError(f"give one budget, not {' and '.join(given)}")
        if self.lr is not None and self.lr_min > self.lr:
            raise ValueError(f"lr_min is {self.lr_min}, above lr {self.lr}")
        if not self.phi > 0:
            raise ValueError(f"phi is {self.phi}, but must be above 0 (2 is the cosine)")
        if self.optimizer == "sgd" and self.lr is None:
            raise ValueError("sgd has no published rate for fine-tuning; give lr")
        return self

    @property
    def budget(self) -> dict[str, Any]:
        """The one budget that is given; one epoch where none is."""
        given = {"epochs": self.epochs, "steps": self.steps, "tokens": self.tokens}
        return {k: v for k, v in given.items() if v is not None} or {"epochs": 1.0}


#: Options that change where or how fast, but not what is made.
_NO_RESULT = {"model", "revision", "checkpoint_steps"}


def finetune(
    subset: Path,
    out: Path,
    config: FinetuneConfig,
    say: Callable[[str], None] = talk.say,
) -> dict[str, Any]:
    """Train a model on the samples of `subset`, write it to `out`, return its manifest.

    Parameters
    ----------
    subset : Path
        Output of `select`, `ingest` or `export`, or a folder of Parquet files with `messages` or
        `prompt` and `completion`.
    out : Path
        A model folder: weights, tokenizer with chat template, `training.jsonl`, `README.md`.

    Raises
    ------
    UsageError
        If a stopped run with checkpoints is in the way, of another subset, model or config.
    DataError
        If a sample has no labels, or the loss is lost.
    Interrupted
        If a signal came: a checkpoint was written, the same call goes on from there.

    Notes
    -----
    A killed run resumes at its last whole checkpoint; on a CPU the final weights are then the same
    bit for bit (same machine, same number of threads).
    """
    source, base = samples.find(subset), find_base(config.model, config.revision)
    work = _work(source, base, config)
    _keep_other_run(out, work)
    draft = open_draft(out, work)
    say(f"finetune: {draft.reason}")
    if draft.reused:
        return read_manifest(out)

    optimizers.check(config.optimizer)
    machine.keep_freed_memory()
    from sft_diversity.finetune import trainer as training

    tokenizer = load_tokenizer(base)
    chat.ensure_template(tokenizer)
    run = course.lay_out(source, base, tokenizer, config, on_cpu=not _has_cuda())
    say(_description(run, base, config, work.config["dtype"]))

    folder = draft.path / "checkpoints"
    checkpoint = checkpoints.last_complete(folder)
    at = checkpoints.step_of(checkpoint) if checkpoint else 0
    say(f"finetune: resumed at step {at:,}" if checkpoint else "finetune: fresh start")
    with _quiet(), talk.progress("finetune", run.steps, "steps", done=at) as bar:
        trainer = training.build(run, base, tokenizer, config, work.config["dtype"], folder, bar)
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        if trainer.state.global_step < run.steps:
            stopping.safe_point("finetune")
        output.save_model(draft, trainer, tokenizer, config.merge_adapter)

    log = output.training_log(trainer.state.log_history, run.tokens_by_step(config.batch_size))
    result = output.figures(run, config, log)
    output.write_texts(draft, base, config, log, result)
    shutil.rmtree(folder)
    return draft.commit(
        rows=rows_account(
            run.rendered.rows, len(run.rendered.lengths), {"too_long": run.rendered.dropped}
        ),
        seeds={"train_seed": config.train_seed},
        result=result,
        run={"device": str(trainer.args.device), "resumed_at_step": at},
    )


def plan(subset: Path, out: Path, config: FinetuneConfig) -> dict[str, Any]:
    """Say what `finetune` would do, touching nothing.

    Returns
    -------
    dict
        `stage, out, cached, checkpoint, rows, seconds, bytes`: `checkpoint` is the step it would
        resume at, or None; seconds and bytes are estimates.
    """
    optimizers.check(config.optimizer)
    source, base = samples.find(subset), find_base(config.model, config.revision)
    work = _work(source, base, config)
    _keep_other_run(out, work)
    cached = (out / MANIFEST).is_file() and read_manifest(out).get("key") == work.key
    partial = checkpoints.peek(out.parent / f".{out.name}.partial" / "checkpoints")
    tokens = samples.estimate_tokens(source, config.max_length)
    rows, weights = len(tokens), base.parameters()
    read = tokens.mean() * (
        config.budget.get("epochs", 0) * rows + (config.steps or 0) * config.batch_size
    ) + (config.tokens or 0)
    speed = _GPU_FLOPS if _has_cuda() else _CORE_FLOPS * machine.cores()
    return {
        "stage": "finetune",
        "out": str(out),
        "cached": cached,
        "checkpoint": None if cached else partial,
        "rows": rows,
        "seconds": 0.0 if cached else round(_START_S + 6.0 * weights * float(read) / speed, 1),
        "bytes": 0 if cached else 4 * weights,
    }


# Loading, and what a core or a GPU does in float32 and bfloat16 training: for estimates alone.
_START_S, _CORE_FLOPS, _GPU_FLOPS = 10.0, 4e10, 2e14


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide transformers' bars for loading and saving: ours are enough."""
    from transformers.utils import logging

    bars: Any = logging  # its functions have no annotations
    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            bars.enable_progress_bar()


def _work(source: samples.Source, base: Base, config: FinetuneConfig) -> Work:
    options = config.model_dump(mode="json", exclude=_NO_RESULT)
    options["dtype"] = _dtype(config.dtype)
    return Work("finetune", VERSION, {"subset": source.key, "model": base.key}, options)


def _keep_other_run(out: Path, work: Work) -> None:
    """Refuse to remove the checkpoints of a stopped run that this call would not go on with."""
    left = unfinished(out, work)
    step = checkpoints.peek(left[0] / "checkpoints") if left else None
    if left and step:
        raise UsageError(
            f"finetune: {left[0]} holds a run stopped at step {step:,}, but since then "
            f"{left[1]}; resume it as it was, name another --out, or remove that folder"
        )


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def _dtype(wanted: str) -> str:
    """Resolve auto: bfloat16 where the hardware multiplies in it, else float32."""
    if wanted != "auto":
        return wanted
    import torch

    fast = torch.cuda.is_bf16_supported() if _has_cuda() else machine.cpu_has_bf16()
    return "bfloat16" if fast else "float32"


def _description(run: course.Course, base: Base, config: FinetuneConfig, dtype: str) -> str:
    rendered = run.rendered
    return (
        f"finetune: {base.name} on {len(rendered.lengths):,} samples "
        f"({rendered.truncated / rendered.rows:.1%} cut at {config.max_length} tokens, "
        f"{rendered.dropped:,} left out, {rendered.lost_share:.1%} of response tokens lost), "
        f"{run.steps:,} steps of {config.batch_size}, "
        f"{run.response_tokens:,} response tokens of {run.total_tokens:,}; {config.optimizer}, "
        f"lr {run.settings.lr:g}, {output.schedule_name(config)}, {dtype}"
        + (", LoRA" if config.lora else "")
    )
