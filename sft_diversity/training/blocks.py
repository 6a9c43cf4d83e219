"""Options that go to libraries as they are: `from_pretrained`, PEFT's LoraConfig, TRL's SFTConfig.

Every field of theirs is reached, but for those that this package sets itself: these are refused by
name, with the way to say it here.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import inspect
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from sft_diversity.core import extras, hub
from sft_diversity.core.errors import UsageError

if TYPE_CHECKING:
    from sft_diversity.core.models import ModelFolder
    from sft_diversity.training.config import FinetuneConfig

_ORDER = "the reading order is fixed by train_seed alone, so that runs resume bit for bit"
_LENGTH = "samples are cut when they are rendered; say it with max_length and on_truncation"
_LABELS = "labels are on what the assistant says; `finetune --show-masks` shows them"
_HUB = "nothing is pushed while training; use `sftdiv export MODEL --to hub:NAME`"
_CHECKPOINTS = "checkpoints are what a stopped run goes on from; say it with checkpoint_steps"
_RATE = "the schedule is ours; say it with lr, lr_min, schedule, phi, warmup and phases"
_BATCH = "say it with batch_size and micro_batch_size"
_NO_PREDICTIONS = "evaluation keeps no predictions; `sftdiv score` does"
_EVALUATION = "say it with eval_share or eval_data, eval_steps, keep_best and early_stopping"

#: What may not be set in a block, and why, or how it is said here.
REFUSED: Mapping[str, Mapping[str, str]] = {
    "trainer": {
        "output_dir": "say it with --out",
        "num_train_epochs": "say it with epochs",
        "max_steps": "say it with steps",
        "per_device_train_batch_size": _BATCH,
        "gradient_accumulation_steps": _BATCH,
        "auto_find_batch_size": _BATCH,
        "train_sampling_strategy": _ORDER,
        "shuffle_dataset": _ORDER,
        "data_seed": _ORDER,
        "dataloader_drop_last": _ORDER,
        "seed": "say it with train_seed",
        "learning_rate": "say it with lr",
        "lr_scheduler_type": _RATE,
        "lr_scheduler_kwargs": _RATE,
        "warmup_steps": _RATE,
        "weight_decay": "say it with weight_decay",
        "max_grad_norm": "say it with max_grad_norm",
        "optim": "say it with optimizer",
        "optim_args": "say it with optimizer",
        "optim_target_modules": "say it with optimizer",
        "adam_beta1": "the betas are AdamW's and LION's own",
        "adam_beta2": "the betas are AdamW's and LION's own",
        "adam_epsilon": "it is AdamW's own",
        "gradient_checkpointing": "say it with gradient_checkpointing outside of the block",
        "activation_checkpointing": "say it with gradient_checkpointing outside of the block",
        "bf16": "say it with dtype",
        "fp16": "say it with dtype: bfloat16 needs no loss scaling",
        "use_cpu": "hide the GPUs from the process with CUDA_VISIBLE_DEVICES",
        "max_length": _LENGTH,
        "truncation_mode": _LENGTH,
        "pad_to_multiple_of": "say it with micro_batch_size: no more is padded than must be",
        "packing": "it would make steps of other samples; padding_free has the same rows without "
        "padding, and a step still reads batch_size samples",
        "packing_strategy": "say it with padding_free",
        "eval_packing": _EVALUATION,
        "dataset_kwargs": _LABELS,
        "dataset_num_proc": _LABELS,
        "dataset_text_field": _LABELS,
        "completion_only_loss": _LABELS,
        "assistant_only_loss": _LABELS,
        "remove_unused_columns": _LABELS,
        "chat_template_path": "put the template into the model's folder",
        "eos_token": "put it into the model's tokenizer_config.json",
        "pad_token": "put it into the model's tokenizer_config.json",
        "model_init_kwargs": "say it with the block model_options",
        "trust_remote_code": "no code that a model brings along is run",
        "logging_steps": "every step is logged in training.jsonl",
        "logging_strategy": "every step is logged in training.jsonl",
        "logging_first_step": "every step is logged in training.jsonl",
        "logging_nan_inf_filter": "a lost loss ends the run",
        "report_to": "say it with report_to",
        "run_name": "say it with run_name",
        "project": "it is the same for all runs",
        "disable_tqdm": "progress is shown by the command itself",
        "save_strategy": _CHECKPOINTS,
        "save_steps": _CHECKPOINTS,
        "save_total_limit": _CHECKPOINTS,
        "save_only_model": _CHECKPOINTS,
        "save_on_each_node": _CHECKPOINTS,
        "resume_from_checkpoint": "a stopped run is gone on with by the same command",
        "ignore_data_skip": _CHECKPOINTS,
        "average_tokens_across_devices": "a step's loss is over the tokens of all processes",
        "restore_callback_states_from_checkpoint": _CHECKPOINTS,
        "load_best_model_at_end": _EVALUATION,
        "do_train": "`finetune` trains",
        "do_eval": _EVALUATION,
        "do_predict": _EVALUATION,
        "eval_strategy": _EVALUATION,
        "eval_steps": _EVALUATION,
        "metric_for_best_model": "the best is that of the lowest loss; `sftdiv score` has others",
        "greater_is_better": "the best is that of the lowest loss",
        "eval_on_start": _EVALUATION,
        "per_device_eval_batch_size": _BATCH,
        "eval_do_concat_batches": _NO_PREDICTIONS,
        "eval_use_gather_object": _NO_PREDICTIONS,
        "batch_eval_metrics": _NO_PREDICTIONS,
        "eval_accumulation_steps": _NO_PREDICTIONS,
        "prediction_loss_only": _NO_PREDICTIONS,
        "push_to_hub": _HUB,
        "hub_model_id": _HUB,
        "hub_token": _HUB,
    },
    "peft": {
        "r": "say it with lora_rank",
        "lora_alpha": "say it with lora_alpha",
        "lora_dropout": "say it with lora_dropout",
        "task_type": "it is CAUSAL_LM",
        "inference_mode": "an adapter is trained",
        "base_model_name_or_path": "say it with model",
        "revision": "say it with revision",
    },
    "model_options": {
        "dtype": "say it with dtype",
        "torch_dtype": "say it with dtype",
        "revision": "say it with revision",
        "token": "the Hub's token is read from its own place (`hf auth login`)",
        "quantization_config": "say it with quantization",
        "load_in_4bit": "say it with quantization: 4bit",
        "load_in_8bit": "say it with quantization: 8bit",
        "use_safetensors": "pickled weights are not loaded",
        "weights_only": "pickled weights are not loaded",
        "trust_remote_code": "no code that a model brings along is run",
        "gguf_file": "say it with model: FILE.gguf",
        "local_files_only": "set HF_HUB_OFFLINE=1",
        "force_download": "remove it from the Hub's cache",
        "cache_dir": "set HF_HOME",
        "state_dict": "weights come from the model's folder",
        "output_loading_info": "it changes what comes back",
        "use_kernels": "kernels are code that is fetched from the Hub",
        "allow_all_kernels": "kernels are code that is fetched from the Hub",
        "kernel_config": "kernels are code that is fetched from the Hub",
    },
}  # fmt: skip

# Options of SFTConfig that need a package, which no extra of ours brings.
_NEEDS = {
    "use_liger_kernel": ("liger_kernel", "liger-kernel"), "deepspeed": ("deepspeed", "deepspeed")
}  # fmt: skip
# What `from_pretrained` takes besides its named parameters, and keys of the model's config.
_LOADING = (
    "attn_implementation", "experts_implementation", "device_map", "max_memory", "offload_folder",
    "offload_buffers", "low_cpu_mem_usage", "tp_plan", "tp_size", "variant", "key_mapping",
)  # fmt: skip


def check(config: FinetuneConfig) -> None:
    """Refuse keys of the blocks that a library does not know, or that are set here.

    Raises
    ------
    UsageError
        Naming the key: the nearest known one where it is unknown, the way out where it is refused.
    """
    if config.trainer:
        from trl import SFTConfig

        _check_block("trainer", config.trainer, _fields(SFTConfig), "TRL's SFTConfig")
        _check_truth("trainer", config.trainer, SFTConfig)
        for key, (module, package) in _NEEDS.items():
            if config.trainer.get(key) and not extras.has(module):
                raise UsageError(
                    f"finetune: `trainer.{key}` needs {package}, which is not installed; "
                    f"pip install {package}, or leave it out"
                )
    if config.peft:
        from peft import LoraConfig

        _check_block("peft", config.peft, _fields(LoraConfig), "PEFT's LoraConfig")
        _check_truth("peft", config.peft, LoraConfig)
    for key in config.model_options:
        _refuse("model_options", key)
    if config.quantization is not None:
        extras.require(
            "bitsandbytes", f"finetune: quantization {config.quantization}", "leave it out"
        )


def check_model_options(config: FinetuneConfig, base: ModelFolder) -> None:
    """Refuse keys of `model_options` that neither loading nor the model's config knows."""
    if not config.model_options:
        return
    from transformers import PreTrainedModel

    named = inspect.signature(PreTrainedModel.from_pretrained).parameters
    known = {*named, *_LOADING, *base.config.to_dict()}
    _check_block("model_options", config.model_options, known, f"loading {base.name}")


def _check_block(block: str, given: Mapping[str, Any], known: Iterable[str], where: str) -> None:
    names = set(known)
    for key in given:
        _refuse(block, key)
        if key not in names:
            near = difflib.get_close_matches(key, sorted(names - REFUSED[block].keys()), n=1)
            hint = f"did you mean `{near[0]}`?" if near else "see its documentation"
            raise UsageError(f"finetune: `{block}.{key}` is no option of {where}; {hint}")


def _check_truth(block: str, given: Mapping[str, Any], of: Any) -> None:
    """Refuse values of switches that are none: the libraries take any text for yes."""
    for field in dataclasses.fields(of):
        value = given.get(field.name)
        if field.type in (bool, "bool") and not isinstance(value, bool | None):
            raise UsageError(
                f"finetune: `{block}.{field.name}` is {value!r}, but must be true or false"
            )


def _refuse(block: str, key: str) -> None:
    if key in REFUSED[block]:
        raise UsageError(f"finetune: `{block}.{key}` is not taken: {REFUSED[block][key]}")


def _fields(of: Any) -> list[str]:
    return [field.name for field in dataclasses.fields(of) if field.init]


def made(of: type, block: str, options: Mapping[str, Any]) -> Any:
    """Return an object of a library's config class; what it refuses is wrong usage of a block."""
    try:
        return of(**options)
    except (ValueError, TypeError, ImportError, RuntimeError, OSError) as fault:
        raise UsageError(f"finetune: `{block}`: {hub.one_line(fault)}") from None


@contextlib.contextmanager
def refusals(config: FinetuneConfig) -> Iterator[None]:
    """Say in one line what a library refuses of the blocks once it has the model.

    Where no block is given, a refusal is a fault of this package, and stays what it is.
    """
    given = [n for n in ("trainer", "peft", "model_options") if getattr(config, n)]
    try:
        yield
    except (ValueError, TypeError, ImportError, AttributeError, LookupError) as fault:
        if not given:
            raise
        named = " or ".join(f"`{name}`" for name in given)
        raise UsageError(f"finetune: of {named}: {hub.one_line(fault, 400)}") from None
