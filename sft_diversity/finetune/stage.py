"""Fine-tune a model on a subset: TRL's trainer, AdamW or LION, under a budget-aware schedule."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import orjson
from pydantic import Field, model_validator

from sft_diversity.core import chat, machine, seeding, stopping
from sft_diversity.core import progress as talk
from sft_diversity.core.config import Config
from sft_diversity.core.errors import UsageError
from sft_diversity.core.folder import (
    Draft,
    Work,
    dump_json,
    open_draft,
    read_manifest,
    rows_account,
)
from sft_diversity.finetune import batches, checkpoints, optimizers, samples, uba
from sft_diversity.finetune.models import Base, find_base, load_base, load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from sft_diversity.finetune.trainer import Trainer

VERSION = 1


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
        "keep", description="what happens to a longer sample: error, drop it, keep its start"
    )
    optimizer: optimizers.Name = Field("adamw", description="adamw or lion")
    lr: float | None = Field(
        None, gt=0, description="peak learning rate; default: by optimizer, width and LoRA"
    )
    weight_decay: float | None = Field(
        None, ge=0, description="decoupled, none on norms and biases; default: by optimizer"
    )
    max_grad_norm: float = Field(1.0, ge=0, description="gradient clipping, 0 for none")
    schedule: uba.Kind = Field("uba", description="uba, cosine, linear or constant")
    phi: float = Field(2.0, description="UBA's φ: 2 is the cosine, larger decays sooner")
    warmup: float = Field(0.03, ge=0, description="linear warm-up: a share below 1, else steps")
    lr_min: float = Field(0.0, ge=0, description="learning rate at the end, η_min")
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
        return self

    @property
    def budget(self) -> dict[str, Any]:
        """The one budget that is given; one epoch where none is."""
        given = {"epochs": self.epochs, "steps": self.steps, "tokens": self.tokens}
        return {k: v for k, v in given.items() if v is not None} or {"epochs": 1.0}


#: Options that change where or how fast, but not what is made.
_NO_RESULT = {"model", "revision", "checkpoint_steps"}


@dataclass(frozen=True)
class Plan:
    """A run laid out before it begins: what each step reads, at what learning rate."""

    rendered: samples.Rendered
    order: batches.Rows
    batches: list[list[int]]
    steps: int
    micro_per_step: int
    settings: optimizers.Settings
    factor: Callable[[int], float]

    def tokens_by_step(self, batch_size: int) -> list[int]:
        """Response tokens read up to and including each step."""
        read = self.rendered.response_tokens[self.order].cumsum()
        ends = range(batch_size, batch_size * self.steps + 1, batch_size)
        return [int(read[min(end, len(read)) - 1]) for end in ends]


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
    dtype = _dtype(config.dtype)
    work = _work(source, base, config, dtype)
    draft = open_draft(out, work)
    say(f"finetune: {draft.reason}")
    if draft.reused:
        return read_manifest(out)

    tokenizer = load_tokenizer(base)
    chat.ensure_template(tokenizer)
    plan = _plan(source, base, tokenizer, config)
    say(_description(plan, config, base, dtype))

    folder = draft.path / "checkpoints"
    resume = checkpoints.last_complete(folder)
    at = checkpoints.step_of(resume) if resume else 0
    say(f"finetune: resumed at step {at:,}" if resume else "finetune: fresh start, no checkpoint")
    with _quiet(), talk.progress("finetune", plan.steps, "steps") as bar:
        bar.advance(at)
        trainer = _trainer(plan, base, tokenizer, config, dtype, folder, bar)
        trainer.train(resume_from_checkpoint=str(resume) if resume else None)
        if trainer.state.global_step < plan.steps:
            stopping.safe_point("finetune")
        _save_model(draft, trainer, tokenizer, config)

    log = _training_log(trainer.state.log_history, plan, config)
    result = _result(plan, config, log)
    with draft.writing("training.jsonl") as path:
        path.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in log))
    with draft.writing("README.md") as path:
        path.write_text(_card(base, config, dtype, result), "utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    return draft.commit(
        rows=rows_account(
            plan.rendered.rows, len(plan.rendered.lengths), {"too_long": plan.rendered.dropped}
        ),
        seeds={"train_seed": config.train_seed},
        result=result,
        run={"device": str(trainer.args.device), "resumed_at_step": at},
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide transformers' bars for loading and saving: ours are enough."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _work(source: samples.Source, base: Base, config: FinetuneConfig, dtype: str) -> Work:
    options = config.model_dump(mode="json", exclude=_NO_RESULT) | {"dtype": dtype}
    return Work("finetune", VERSION, {"subset": source.key, "model": base.key}, options)


def _dtype(wanted: str) -> str:
    """Resolve auto: bfloat16 where the hardware multiplies in it, else float32."""
    if wanted != "auto":
        return wanted
    import torch

    if torch.cuda.is_available():
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    return "bfloat16" if machine.cpu_has_bf16() else "float32"


def _plan(
    source: samples.Source,
    base: Base,
    tokenizer: PreTrainedTokenizerBase,
    config: FinetuneConfig,
) -> Plan:
    """Tokenise, lay out the steps and resolve the learning rate."""
    import torch

    if config.max_length > base.context:
        raise UsageError(
            f"finetune: max_length is {config.max_length}, but the model reads at most "
            f"{base.context} tokens; lower max_length"
        )
    rendered = samples.render(source, tokenizer, config.max_length, config.on_truncation)
    order = batches.reading_order(
        rendered.response_tokens, config.batch_size, config.train_seed, **config.budget
    )
    steps = -(-len(order) // config.batch_size)
    micro = config.micro_batch_size or (config.batch_size if torch.cuda.is_available() else 8)
    micro = min(micro, config.batch_size)
    settings = optimizers.resolve(
        config.optimizer, base.width, config.lora, config.lr, config.weight_decay
    )
    factor = uba.schedule_factor(
        config.schedule,
        steps,
        uba.warmup_steps(config.warmup, steps),
        config.phi,
        min(config.lr_min / settings.lr, 1.0),
    )
    return Plan(
        rendered=rendered,
        order=order,
        batches=batches.micro_batches(order, rendered.lengths, config.batch_size, micro),
        steps=steps,
        micro_per_step=-(-config.batch_size // micro),
        settings=settings,
        factor=factor,
    )


def _trainer(
    plan: Plan,
    base: Base,
    tokenizer: PreTrainedTokenizerBase,
    config: FinetuneConfig,
    dtype: str,
    folder: Path,
    bar: talk.Progress,
) -> Trainer:
    """Configure TRL; what it would do by default and we do not want is said here."""
    import torch
    from trl import SFTConfig

    from sft_diversity.finetune.trainer import Trainer, Watch

    seed = seeding.derive(config.train_seed, "trainer") % 2**32
    arguments = SFTConfig(
        output_dir=str(folder),
        max_steps=plan.steps,
        gradient_accumulation_steps=plan.micro_per_step,
        per_device_train_batch_size=-(-config.batch_size // plan.micro_per_step),
        max_grad_norm=config.max_grad_norm,
        weight_decay=plan.settings.weight_decay,
        bf16=dtype == "bfloat16",
        activation_checkpointing=config.gradient_checkpointing,
        use_cpu=not torch.cuda.is_available(),
        seed=seed,
        logging_steps=1,  # a log that is the same wherever a run was stopped
        logging_nan_inf_filter=False,
        save_strategy="steps",
        save_steps=config.checkpoint_steps,
        save_total_limit=2,
        report_to="none",
        disable_tqdm=True,
        max_length=None,  # cut when rendered
        packing=False,
        dataset_kwargs={"skip_prepare_dataset": True},
    )
    trainer = Trainer(
        rendered=plan.rendered,
        batches=plan.batches,
        factor=plan.factor,
        model=load_base(base, seed),
        args=arguments,
        processing_class=tokenizer,
        optimizer_cls_and_kwargs=optimizers.optimizer_class(config.optimizer, plan.settings.lr),
        peft_config=_adapter(config) if config.lora else None,
        callbacks=[Watch(bar)],
    )
    from transformers import PrinterCallback

    trainer.remove_callback(PrinterCallback)
    return trainer


def _adapter(config: FinetuneConfig) -> Any:
    from peft import LoraConfig

    return LoraConfig(
        task_type="CAUSAL_LM",
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules="all-linear",
    )


def _training_log(
    history: list[dict[str, Any]], plan: Plan, config: FinetuneConfig
) -> list[dict[str, Any]]:
    """One record a step, without times: equal runs write equal bytes."""
    tokens = plan.tokens_by_step(config.batch_size)
    return [
        {
            "step": entry["step"],
            "loss": entry["loss"],
            "lr": entry["learning_rate"],
            "grad_norm": entry["grad_norm"],
            "response_tokens": tokens[entry["step"] - 1],
        }
        for entry in history
        if "loss" in entry
    ]


def _save_model(
    draft: Draft, trainer: Trainer, tokenizer: PreTrainedTokenizerBase, config: FinetuneConfig
) -> None:
    """Write safetensors, config and tokenizer; each file appears whole."""
    scratch = draft.path / ".model"
    shutil.rmtree(scratch, ignore_errors=True)
    model = trainer.accelerator.unwrap_model(trainer.model)
    if config.lora and config.merge_adapter:
        model = model.merge_and_unload()
    model.config.use_cache = True
    model.save_pretrained(scratch)
    tokenizer.save_pretrained(scratch)
    _order_adapter_targets(scratch / "adapter_config.json")
    for path in sorted(scratch.iterdir()):
        if path.name == "README.md":  # PEFT's, without what ours says
            continue
        with draft.writing(path.name) as target:
            path.replace(target)
    shutil.rmtree(scratch)


def _order_adapter_targets(path: Path) -> None:
    """PEFT writes a set in hash order, which differs from run to run."""
    if path.exists():
        adapter = json.loads(path.read_text("utf-8"))
        adapter["target_modules"] = sorted(adapter["target_modules"])
        path.write_text(dump_json(adapter), "utf-8")


def _result(plan: Plan, config: FinetuneConfig, log: list[dict[str, Any]]) -> dict[str, Any]:
    rendered, order = plan.rendered, plan.order
    tail = log[-max(len(log) // 10, 1) :]
    return {
        "steps": plan.steps,
        "epochs": round(len(order) / len(rendered.lengths), 6),
        "samples": len(rendered.lengths),
        "samples_read": len(order),
        "response_tokens": int(rendered.response_tokens[order].sum()),
        "total_tokens": int(rendered.lengths[order].sum()),
        "truncated_share": round(rendered.truncated / rendered.rows, 6),
        "optimizer": config.optimizer,
        "lr": plan.settings.lr,
        "weight_decay": plan.settings.weight_decay,
        "first_loss": log[0]["loss"],
        "final_loss": sum(entry["loss"] for entry in tail) / len(tail),
    }


def _description(plan: Plan, config: FinetuneConfig, base: Base, dtype: str) -> str:
    rendered = plan.rendered
    schedule = f"uba φ={config.phi:g}" if config.schedule == "uba" else config.schedule
    return (
        f"finetune: {base.name}, {len(rendered.lengths):,} samples, {plan.steps:,} steps of "
        f"{config.batch_size}, {int(rendered.response_tokens[plan.order].sum()):,} response tokens "
        f"of {int(rendered.lengths[plan.order].sum()):,}, "
        f"{rendered.truncated / rendered.rows:.1%} truncated; {config.optimizer} "
        f"lr {plan.settings.lr:g}, {schedule}, {dtype}{', LoRA' if config.lora else ''}"
    )


def _card(base: Base, config: FinetuneConfig, dtype: str, result: dict[str, Any]) -> str:
    schedule = f"UBA, φ = {config.phi:g}" if config.schedule == "uba" else config.schedule
    return f"""---
library_name: {"peft" if config.lora and not config.merge_adapter else "transformers"}
base_model: {base.name}
tags: [sft, trl, sft-diversity]
---

# {base.name}, fine-tuned

Supervised fine-tuning of `{base.name}` with `sftdiv finetune`; loss on assistant turns alone.

| | |
| --- | --- |
| samples | {result["samples"]:,} |
| epochs, steps | {result["epochs"]:g}, {result["steps"]:,} of {config.batch_size} samples |
| response tokens read | {result["response_tokens"]:,} of {result["total_tokens"]:,} |
| truncated | {result["truncated_share"]:.1%} at {config.max_length} tokens |
| optimizer | {config.optimizer}, lr {result["lr"]:g}, weight decay {result["weight_decay"]:g} |
| schedule | {schedule}, warm-up {config.warmup:g} |
| trained | {f"LoRA, rank {config.lora_rank}" if config.lora else "all weights"}, {dtype} |
| training loss | {result["first_loss"]:.3f} at first, {result["final_loss"]:.3f} over the last tenth |

`manifest.json` names the subset and the base model by content key; `training.jsonl` has every step.
"""
