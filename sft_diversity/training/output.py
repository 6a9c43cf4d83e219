"""What a run leaves behind: weights, tokenizer, log, model card, figures for the manifest."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_diversity.core import quarantine
from sft_diversity.core.drafts import Draft
from sft_diversity.core.folder import dump_json, json_lines
from sft_diversity.training import evaluation, mixture, rendering
from sft_diversity.training.models import load_base

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from sft_diversity.core.models import ModelFolder
    from sft_diversity.training.config import FinetuneConfig
    from sft_diversity.training.course import Course
    from sft_diversity.training.inputs import Inputs
    from sft_diversity.training.trainer import Trainer

# The fields of `theory.Figures`, named here so that this file loads without torch.
_THEORY = ("grad_l1", "grad_l2", "grad_ratio", "kkt_gap", "box_share")
LOG = "training.jsonl"
Log = list[dict[str, Any]]


def training_log(history: list[dict[str, Any]], response_tokens: list[int]) -> Log:
    """Return a record a step and one an evaluation, no times: equal runs write equal bytes.

    `response_tokens` are those read up to and including each step.
    """
    log: Log = []
    for entry in history:
        if evaluation.LOSS in entry:
            log.append({"step": entry["step"], evaluation.LOSS: entry[evaluation.LOSS]})
        elif "loss" in entry:
            log.append(
                {
                    "step": entry["step"],
                    "loss": entry["loss"],
                    "lr": entry["learning_rate"],
                    "grad_norm": entry["grad_norm"],
                    **{name: entry[name] for name in _THEORY if name in entry},
                    "response_tokens": response_tokens[entry["step"] - 1],
                }
            )
    return log


def gather_weights(trainer: Trainer) -> dict[str, Any] | None:
    """Return the whole weights where each process may hold a part; to be called by all."""
    if not (trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled):
        return None
    sharded = trainer.model_wrapped if trainer.is_deepspeed_enabled else trainer.model
    weights: dict[str, Any] = trainer.accelerator.get_state_dict(sharded) or {}  # one has them all
    model = trainer.accelerator.unwrap_model(trainer.model)
    for alias in getattr(model, "all_tied_weights_keys", {}):
        weights.pop(alias, None)  # gathering made two tensors of one
    return weights


def save_model(
    draft: Draft,
    base: ModelFolder,
    trainer: Trainer,
    weights: dict[str, Any] | None,
    tokenizer: PreTrainedTokenizerBase,
    merge: bool,
) -> None:
    """Write safetensors, config and tokenizer with its template; each file appears whole.

    `weights` are those of `gather_weights`; None where the model holds them.
    """
    scratch = draft.path / ".model"
    shutil.rmtree(scratch, ignore_errors=True)
    model = trainer.accelerator.unwrap_model(trainer.model, keep_torch_compile=False)
    if merge and hasattr(model, "merge_and_unload") and weights is None:
        model = model.merge_and_unload()
    model.save_pretrained(scratch, state_dict=weights)
    if merge and weights is not None:
        model = _merged(base, scratch)
        shutil.rmtree(scratch)
        model.save_pretrained(scratch)
    tokenizer.save_pretrained(scratch)
    _order_adapter_targets(scratch / "adapter_config.json")
    for path in sorted(scratch.iterdir()):
        if path.name != "README.md":  # PEFT's; ours says more
            with draft.writing(path.name) as target:
                path.replace(target)
    shutil.rmtree(scratch)


def _merged(base: ModelFolder, adapter: Path) -> PreTrainedModel:
    """Return fresh base weights with a saved adapter in them."""
    from peft import PeftModel

    model = PeftModel.from_pretrained(load_base(base.base or base, 0), adapter)
    return model.merge_and_unload()  # type: ignore[no-any-return]


def _order_adapter_targets(path: Path) -> None:
    """PEFT writes a set in hash order, which differs from run to run."""
    if path.exists():
        adapter = json.loads(path.read_text("utf-8"))
        for key, value in adapter.items():
            if key in ("target_modules", "modules_to_save") and isinstance(value, list):
                adapter[key] = sorted(value)
        path.write_text(dump_json(adapter), "utf-8")


def run_figures(course: Course, config: FinetuneConfig, log: Log) -> dict[str, Any]:
    """Return the run's figures; `final_...` are means over the last tenth of the steps."""
    rendered, held_out = course.rendered, course.held_out
    evaluated = {} if held_out is None else evaluation.evaluated(held_out, rendered, log, config)
    log = [entry for entry in log if "loss" in entry]
    tail = log[-max(len(log) // 10, 1) :]
    clip = config.max_grad_norm
    return {
        "steps": course.steps,
        "epochs": round(len(course.order) / len(rendered.lengths), 6),
        "samples": len(rendered.lengths),
        "samples_read": len(course.order),
        **mixture.reads_of(course, config.weights),
        "response_tokens": course.response_tokens,
        "thinking_tokens": course.thinking_tokens,
        "total_tokens": course.total_tokens,
        "truncated_share": round(rendered.truncated / rendered.rows, 6),
        "dropped_share": round(rendered.dropped / rendered.rows, 6),
        "unusable": rendered.unusable_by_reason,
        "response_tokens_lost_share": round(rendered.lost_share, 6),
        "thoughts_not_written": rendered.unthought,
        "tools_not_written": rendered.untold,
        "optimizer": config.optimizer,
        "lr": course.settings.lr,
        "weight_decay": course.settings.weight_decay,
        "first_loss": log[0]["loss"],
        "final_loss": _mean(tail, "loss"),
        "clipped_share": sum(0 < clip < entry["grad_norm"] for entry in log) / len(log),
        **{f"final_{name}": _mean(tail, name) for name in _THEORY[2:] if name in log[0]},
        **evaluated,
    }


def _mean(log: Log, name: str) -> float | None:
    """Return the mean of a figure; None where it is not a number in some step (no gradient)."""
    mean = sum(entry[name] for entry in log) / len(log)
    return mean if math.isfinite(mean) else None


def write_texts(
    draft: Draft,
    inputs: Inputs,
    log: Log,
    result: dict[str, Any],
    unusable: list[rendering.Unusable],
) -> None:
    """Write `training.jsonl`, the model card and, where there are any, the unusable samples."""
    if unusable:
        with draft.writing(quarantine.FILE) as path:
            path.write_bytes(json_lines(map(asdict, unusable)))
    with draft.writing(LOG) as path:
        path.write_bytes(json_lines(log))
    with draft.writing("README.md") as path:
        path.write_text(_card(inputs, result), "utf-8")


def schedule_name(config: FinetuneConfig) -> str:
    """Return the schedule for people: `UBA, φ = 5`."""
    name = f"UBA, φ = {config.phi:g}" if config.schedule == "uba" else config.schedule
    return name + (f", {len(config.phases)} phases" if config.phases else "")


def _thoughts(result: dict[str, Any], config: FinetuneConfig) -> str:
    how = "" if config.train_thinking else ", read and not trained"
    return f"{result['thinking_tokens']:,}{how}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _unusable(counts: dict[str, int]) -> str:
    if not counts:
        return "0"
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in counts.items())
    return f"{sum(counts.values()):,} (`{quarantine.FILE}`: {reasons})"


def _evaluated(result: dict[str, Any]) -> str:
    return (
        f"loss {result['first_eval_loss']:.3f} at first, {result['final_eval_loss']:.3f} at last, "
        f"lowest {result['best_eval_loss']:.3f} after step {result['best_step']:,}, on "
        f"{result['eval_samples']:,} samples; these are the weights of step {result['kept_step']:,}"
    )


def _card(inputs: Inputs, result: dict[str, Any]) -> str:
    from huggingface_hub import ModelCardData

    base, config, keys = inputs.base, inputs.config, inputs.work.inputs
    trained = f"LoRA, rank {config.lora_rank}" if config.lora else "all weights"
    adapter = config.lora and not config.merge_adapter
    clipped = f", clipped in {result['clipped_share']:.0%} of steps" if config.max_grad_norm else ""
    box = ""
    if result.get("final_kkt_gap") is not None:
        gap, share = result["final_kkt_gap"], result["final_box_share"]
        box = f"\n| KKT gap, weights in LION's box | {gap:.4g}, {share:.1%} |"
    for number, one in enumerate(result.get("sets", []), 1):
        reads = f"{one['samples_read']:,} reads of {one['samples']:,} samples"
        box += f"\n| set {number} | {reads}, {one['epochs']:g} epochs |"
    if "eval_samples" in result:
        box += f"\n| evaluation | {_evaluated(result)} |"
    head = ModelCardData(
        library_name="peft" if adapter else "transformers",
        base_model=base.name,
        tags=["sft", "trl", "sft-diversity"],
    )
    return f"""---
{head.to_yaml()}
---

# {base.name}, fine-tuned

Supervised fine-tuning of `{base.name}` with `sftdiv finetune`; loss on assistant turns alone.

| | |
| --- | --- |
| samples | {result["samples"]:,} |
| epochs | {result["epochs"]:g} |
| optimizer steps | {result["steps"]:,} of {config.batch_size} samples |
| response tokens read | {result["response_tokens"]:,} of {result["total_tokens"]:,} |
| of them thoughts | {_thoughts(result, config)} |
| truncated | {result["truncated_share"]:.1%} at {config.max_length} tokens |
| left out for length | {result["dropped_share"]:.1%} |
| unusable, left out | {_unusable(result["unusable"])} |
| response tokens lost | {result["response_tokens_lost_share"]:.1%} |
| trained | {trained}, {inputs.dtype} |
| optimizer | {config.optimizer}, lr {result["lr"]:g}, weight decay {result["weight_decay"]:g} |
| schedule | {schedule_name(config)}, warm-up {config.warmup:g} |
| training loss | {result["first_loss"]:.3f} at first, {result["final_loss"]:.3f} at last |
| gradient, last tenth | ‖g‖₁/(√d‖g‖₂) = {_number(result.get("final_grad_ratio"))}{clipped} |{box}
| lineage | {", ".join(f"{name} `{key}`" for name, key in keys.items())} |

`training.jsonl` has every step, `manifest.json` the whole configuration.
"""
