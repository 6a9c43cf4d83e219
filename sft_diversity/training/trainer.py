"""TRL's SFTTrainer with our reading order, schedule and loss; nothing else is changed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate import PartialState
from accelerate.data_loader import prepare_data_loader
from accelerate.utils import gather_object
from datasets import Dataset
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, Sampler
from transformers import PreTrainedTokenizerBase, PrinterCallback, TrainerCallback
from transformers.trainer_utils import EvalLoopOutput
from trl import SFTConfig, SFTTrainer

from sft_diversity.core import machine, models, seeding, stopping
from sft_diversity.core.chat import IGNORED
from sft_diversity.core.drafts import Draft
from sft_diversity.core.errors import DataError
from sft_diversity.core.folder import json_lines
from sft_diversity.core.models import ModelFolder
from sft_diversity.core.progress import Progress
from sft_diversity.training import (
    blocks,
    checkpoints,
    evaluation,
    head,
    optimizers,
    output,
    reporters,
)
from sft_diversity.training.batches import micro_batches
from sft_diversity.training.callbacks import GradientTheory, KeepBest
from sft_diversity.training.course import Course
from sft_diversity.training.models import load_base, quantized
from sft_diversity.training.rendering import Rendered
from sft_diversity.training.team import Team

if TYPE_CHECKING:
    from sft_diversity.training.config import FinetuneConfig


class FixedBatches(Sampler[list[int]]):
    """The micro-batches of a run, in order. `accelerate` reads the attributes."""

    drop_last = False
    sampler = None

    def __init__(self, batches: list[list[int]]) -> None:
        self._batches = batches
        self.batch_size = max(map(len, batches))

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self._batches)

    def __len__(self) -> int:
        return len(self._batches)


_NOTHING = -1  # a row for a process that has none to read: two tokens without a label


class Samples(torch.utils.data.Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Rendered samples as (input_ids, labels)."""

    def __init__(self, rendered: Rendered) -> None:
        self._rendered = rendered

    def __getitem__(self, row: int) -> tuple[torch.Tensor, torch.Tensor]:
        ids, labels = self._rendered.input_ids[row], self._rendered.labels[row]
        if row == _NOTHING:
            ids, labels = ids[:2], np.full(len(ids[:2]), IGNORED)
        return torch.from_numpy(ids.astype(np.int64)), torch.from_numpy(labels.astype(np.int64))

    def __len__(self) -> int:
        return len(self._rendered.input_ids)


class Trainer(SFTTrainer):  # type: ignore[misc]
    """Reads given micro-batches once; one of its epochs is our whole run.

    Parameters
    ----------
    rendered : Rendered
        Samples with labels.
    batches : list of list of int
        Micro-batches of row numbers; of a step's, this process reads its share,
        `args.gradient_accumulation_steps`.
    factor : function of a step
        Share of the peak learning rate.

    Notes
    -----
    docs/decisions.md says of each method that is not TRL's why no callback can do it.
    """

    # Our loss is a sum over labelled tokens divided by their number in the whole step.
    loss_is_scaled_for_ga = True

    def __init__(
        self,
        *,
        rendered: Rendered,
        batches: list[list[int]],
        factor: Callable[[int], float],
        held_out: Rendered | None = None,
        **kwargs: Any,
    ) -> None:
        self._held_out = held_out
        self._samples, self._batches, self._factor = Samples(rendered), batches, factor
        # TRL looks at a few rows of a Dataset to tell text from images; it trains on our loader.
        first = {"input_ids": [rendered.input_ids[0]], "labels": [rendered.labels[0]]}
        rows = Dataset.from_dict(first)
        kwargs["eval_dataset"] = None if held_out is None else rows
        super().__init__(train_dataset=rows, **kwargs)
        self.model_accepts_loss_kwargs = True  # so that labelled tokens of a step are counted
        base = self.model.get_base_model() if hasattr(self.model, "peft_config") else self.model
        # Ours is the plain loss: another one, or Liger's kernels, are TRL's to compute.
        plain = self.args.loss_type == SFTConfig.loss_type and not self.args.label_smoothing_factor
        self._plain_head = head.is_plain(base) and plain and not self.args.use_liger_kernel
        if self._plain_head:
            head.add_labelled_head(base)
        self._collate = self._in_one_row if self.args.padding_free else self._pad

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return the loader of this process's micro-batches."""
        return self._loader(self._samples, self._batches)

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader[Any]:
        """Return the loader of this process's share of the samples that are held out."""
        assert self._held_out is not None
        rows = np.arange(len(self._held_out.ids))
        micro, crew = self.args.per_device_train_batch_size, self.args.world_size
        cut = micro_batches(rows, self._held_out.lengths, len(rows), micro, crew)
        # Of a generator of its own: a loader draws a number, and training must not miss it.
        return self._loader(Samples(self._held_out), cut, torch.Generator())

    def evaluation_loop(
        self, dataloader: DataLoader[Any], *_: Any, metric_key_prefix: str = "eval", **__: Any
    ) -> EvalLoopOutput:
        """Return the mean loss over all labelled tokens; transformers' is a mean of batches'."""
        model = self._wrap_model(self.model, training=False)
        model.eval()
        one = self.accelerator.num_processes  # so that a sum comes back
        total, tokens = 0.0, 0
        with torch.no_grad(), self.compute_loss_context_manager():
            for inputs in dataloader:
                tokens += int((inputs["labels"][:, 1:] != IGNORED).sum())
                total += float(self.compute_loss(model, inputs, num_items_in_batch=one))
        told = gather_object([(total, tokens)])
        total, tokens = (sum(column) for column in zip(*told, strict=True))
        loss = {f"{metric_key_prefix}_loss": total / tokens}
        return EvalLoopOutput(None, None, loss, len(dataloader.dataset))  # type: ignore[arg-type]

    def _loader(
        self,
        samples: Samples,
        batches: list[list[int]],
        generator: torch.Generator | None = None,
    ) -> DataLoader[Any]:
        own = batches[self.args.process_index :: self.args.world_size]
        loader = DataLoader(
            samples,
            batch_sampler=FixedBatches([batch or [_NOTHING] for batch in own]),
            collate_fn=self._collate,
            generator=generator,
            pin_memory=self.args.dataloader_pin_memory and machine.gpus() > 0,
            num_workers=self.args.dataloader_num_workers,
            prefetch_factor=self.args.dataloader_prefetch_factor,
            persistent_workers=self.args.dataloader_persistent_workers,
        )
        # Shared out already: accelerate would repeat samples to even the processes out.
        return prepare_data_loader(  # type: ignore[no-any-return]
            loader, self.args.device, num_processes=1, process_index=0, put_on_device=True
        )

    def _pad(self, rows: list[tuple[torch.Tensor, torch.Tensor]]) -> dict[str, torch.Tensor]:
        pad = torch.nn.utils.rnn.pad_sequence
        padding = self.processing_class.pad_token_id
        ids = pad([ids for ids, _ in rows], batch_first=True, padding_value=padding)
        labels = pad([labels for _, labels in rows], batch_first=True, padding_value=IGNORED)
        batch = {"input_ids": ids, "labels": labels}
        if self._plain_head:
            return batch | {"positions": head.positions_of(labels)}
        sizes = torch.tensor([len(ids) for ids, _ in rows])
        return batch | {"attention_mask": (torch.arange(ids.shape[1]) < sizes[:, None]).long()}

    def _in_one_row(self, rows: list[tuple[torch.Tensor, torch.Tensor]]) -> dict[str, torch.Tensor]:
        """Return a micro-batch without padding: one row, in which positions begin anew.

        By them a model tells samples apart. No sample's first token is predicted from another's
        last.
        """
        labels = torch.cat([labels for _, labels in rows])
        positions = [torch.arange(len(ids)) for ids, _ in rows]
        labels[torch.cat(positions) == 0] = IGNORED
        ids = torch.cat([ids for ids, _ in rows])
        batch = {"input_ids": ids, "labels": labels, "position_ids": torch.cat(positions)}
        batch = {name: values[None] for name, values in batch.items()}
        return batch | ({"positions": head.positions_of(labels)} if self._plain_head else {})

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> LambdaLR:
        """Return our schedule on the trainer's optimizer."""
        if self.lr_scheduler is None:
            # A function's state is not saved, and an object's is; the step says all.
            factor = lambda step: self._factor(step)  # noqa: E731
            self.lr_scheduler: Any = LambdaLR(optimizer or self.optimizer, factor)
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | None = None,
    ) -> Any:
        """Return the step's share of the mean loss; no entropy, no accuracy, no full logits."""
        if not self._plain_head or return_outputs or num_items_in_batch is None:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        loss = model(**inputs).loss / num_items_in_batch
        # DDP averages gradients over processes, `num_items_in_batch` counts the tokens of all.
        return loss * self.accelerator.num_processes

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Not counted: walking all parameters for every micro-batch is not free."""
        return 0

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Ours is written once, with the finished model."""

    def _send_telemetry(self) -> None:
        """A training run tells nobody about itself."""


class Watch(TrainerCallback):
    """Shows progress, writes the log, stops at a signal after a checkpoint or with a lost loss.

    The log is written while the run goes on, and from its beginning when a run is resumed: it
    never holds a step twice.
    """

    def __init__(self, bar: Progress, run: Course, log: Path, team: Team) -> None:
        self._bar, self._log, self._team = bar, log, team
        self._line = partial(output.training_log, response_tokens=run.tokens_by_step())
        self._read = run.tokens_read()

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write the steps that a checkpoint brought along."""
        self._start, self._before = time.monotonic(), self._read[state.global_step]
        if state.is_world_process_zero:
            self._log.write_bytes(json_lines(self._line(state.log_history)))

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Count the step; a signal asks for a checkpoint and the end; the last step for none.

        The model itself is written after it.
        """
        self._bar.advance()
        if state.global_step >= state.max_steps:
            control.should_save = args.load_best_model_at_end and control.should_save
        elif self._team.any(stopping.requested()):
            control.should_save = True
            control.should_training_stop = True

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Mark a checkpoint that all processes have written as whole."""
        PartialState().wait_for_everyone()
        if args.should_save:
            checkpoints.mark_complete(Path(args.output_dir) / f"checkpoint-{state.global_step}")

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Note and write a step; refuse to go on from a loss that is not a number."""
        if evaluation.LOSS in (logs or {}):
            self._write(state)
        if "loss" not in (logs or {}):
            return
        speed = self._read[state.global_step] - self._before
        speed = round(speed / max(time.monotonic() - self._start, 1e-9))
        self._bar.note = f"loss {logs['loss']:.3f}, {speed:,} tokens/s"
        self._write(state)
        if not math.isfinite(logs["loss"]):
            raise DataError(
                f"finetune: the loss is {logs['loss']} at step {state.global_step}; "
                "lower lr or raise warmup"
            )

    def _write(self, state: Any) -> None:
        if state.is_world_process_zero:
            with self._log.open("ab") as file:
                file.write(json_lines(self._line(state.log_history[-1:])))


#: transformers 5.23 gave it another name.
_CHECKPOINTING = (
    "activation_checkpointing"
    if "activation_checkpointing" in SFTConfig.__dataclass_fields__
    else "gradient_checkpointing"
)


def build_trainer(
    run: Course,
    base: ModelFolder,
    tokenizer: PreTrainedTokenizerBase,
    config: FinetuneConfig,
    dtype: str,
    draft: Draft,
    bar: Progress,
    team: Team,
) -> Trainer:
    """Return the trainer of a run that writes checkpoints and its log into the draft.

    What TRL would do by default and we do not want is said here.
    """
    name = config.run_name or draft.out.name
    reporters.aim(config.report_to, name)
    seed = seeding.derive(config.train_seed, "trainer") % 2**32
    ours: dict[str, Any] = {
        "output_dir": str(draft.path / "checkpoints"),
        "max_steps": run.steps,
        "gradient_accumulation_steps": run.micro_per_step,
        "per_device_train_batch_size": -(-run.batch_size // (run.micro_per_step * team.size)),
        "max_grad_norm": config.max_grad_norm,
        "weight_decay": run.settings.weight_decay,
        "bf16": dtype == "bfloat16",
        _CHECKPOINTING: config.gradient_checkpointing,
        "use_cpu": not machine.gpus(),
        "seed": seed,
        "logging_steps": 1,  # so that the log is the same wherever a run was stopped
        "logging_nan_inf_filter": False,
        "save_strategy": "steps",
        "save_steps": config.checkpoint_steps,
        "save_total_limit": 2,
        "ddp_find_unused_parameters": False,
        "report_to": list(config.report_to) or "none",
        "run_name": name,
        "project": reporters.PROJECT,
        "disable_tqdm": True,
        "max_length": None,  # samples are cut when they are rendered
        "packing": False,
        "dataset_kwargs": {"skip_prepare_dataset": True},
    }
    ours |= _evaluation(config, run.steps)
    arguments = blocks.made(SFTConfig, "trainer", ours | config.trainer)
    if team.size == 1 and arguments.n_gpu > 1:
        arguments._n_gpu = 1  # the first: TRL refuses to share a step out by nn.DataParallel
    weights = _model(base, seed, config, dtype)
    models.check_ids(base, weights, tokenizer)
    with blocks.refusals(config):
        trainer = Trainer(
            rendered=run.rendered,
            batches=run.batches,
            factor=run.factor,
            held_out=run.held_out,
            model=weights,
            args=arguments,
            processing_class=tokenizer,
            optimizer_cls_and_kwargs=optimizers.optimizer_class(config.optimizer, run.settings.lr),
            peft_config=_adapter(config) if config.lora and base.base is None else None,
            callbacks=[Watch(bar, run, draft.path / output.LOG, team)],
        )
    trainer.remove_callback(PrinterCallback)
    if config.keeps_best:
        trainer.add_callback(KeepBest(config.early_stopping))
    # First, so that the log and trackers have the figures too.
    measure = GradientTheory(box=config.optimizer.startswith("lion"))
    trainer.callback_handler.callbacks.insert(0, measure)
    return trainer


def _evaluation(config: FinetuneConfig, steps: int) -> dict[str, Any]:
    """Return when the loss is measured; the best can be kept where each time is a checkpoint."""
    if not config.evaluates:
        return {}
    every = evaluation.steps_between(config, steps)
    told: dict[str, Any] = {"eval_strategy": "steps", "eval_steps": every}
    if config.keeps_best:
        best = {"load_best_model_at_end": True, "metric_for_best_model": evaluation.LOSS}
        told |= best | {"save_steps": every}
    return told


def _model(base: ModelFolder, seed: int, config: FinetuneConfig, dtype: str) -> Any:
    """Return the weights: in float32 where they are trained, else in the precision of products."""
    options = dict(config.model_options)
    if config.quantization is not None:
        options["quantization_config"] = quantized(config.quantization, dtype)
    return load_base(base, seed, dtype if config.lora else "float32", config.lora, **options)


def _adapter(config: FinetuneConfig) -> Any:
    from peft import LoraConfig

    ours = {
        "task_type": "CAUSAL_LM",
        "r": config.lora_rank,
        "lora_alpha": config.lora_alpha,
        "lora_dropout": config.lora_dropout,
        "target_modules": "all-linear",
    }
    return blocks.made(LoraConfig, "peft", ours | config.peft)
