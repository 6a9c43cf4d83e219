"""Fine-tune a model on a subset: TRL's trainer, AdamW or LION, under a budget-aware schedule."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sft_diversity.core import chat, extras, machine, stopping
from sft_diversity.core import progress as talk
from sft_diversity.core.drafts import Draft, Work, check_out, open_draft, unfinished
from sft_diversity.core.errors import Interrupted, UsageError
from sft_diversity.core.folder import MANIFEST, read_manifest, rows_account
from sft_diversity.core.models import ModelFolder, without_bars
from sft_diversity.training import (
    blocks,
    checkpoints,
    course,
    memory,
    optimizers,
    output,
    reporters,
    samples,
    team,
)
from sft_diversity.training.config import FinetuneConfig
from sft_diversity.training.models import BASES, load_right_padding_tokenizer

VERSION = 6


#: Options that change where or how fast, but not what is made.
_NO_RESULT = {
    "model", "revision", "checkpoint_steps", "report_to", "run_name", "max_bad_fraction"
}  # fmt: skip


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
    BadRowsError
        If more samples than `max_bad_fraction` would train nothing.
    DataError
        If none is left, one is too long under `on_truncation: error`, or the loss is lost.
    Interrupted
        If a signal came: a checkpoint was written, the same call goes on from there.

    Notes
    -----
    A killed run resumes at its last whole checkpoint; on a CPU the final weights are then the same
    bit for bit (same machine, same number of threads).
    """
    crew = team.join_team()
    crew.by_leader(lambda: check_finetune(subset, out, config))
    say = say if crew.leads else _silence
    crew.by_leader(lambda: BASES.find(config.model, config.revision))  # one downloads, not all
    source, base = samples.find_samples(subset), BASES.find(config.model, config.revision)
    config = config.within(base.context)
    draft = crew.by_leader(lambda: _open(out, _work(source, base, config)))
    say(f"finetune: {draft.reason}")
    if draft.reused:
        return read_manifest(out)

    machine.keep_freed_memory()
    from sft_diversity.training import trainer as training

    dtype = draft.work.config["dtype"]
    tokenizer = load_right_padding_tokenizer(base)
    chat.ensure_template(tokenizer)
    course.resolve_settings(base, config)  # refuses what cannot be before all is tokenised
    blocks.check_model_options(config, base)
    rendered = samples.render_samples(source, tokenizer, config.max_length, config.on_truncation)
    crew.by_leader(
        lambda: samples.check_usable(
            rendered, config.max_length, config.max_bad_fraction, draft.out
        )
    )
    run = course.lay_out(rendered, base, config, not machine.gpus(), crew.size)
    shared = f", {crew.size} processes ({team.kind()})" if crew.size > 1 else ""
    say(_description(run, base, config, dtype) + shared)
    if short := memory.warning(_memory(base, config, dtype, int(rendered.lengths.max()))):
        say(short)

    folder = draft.path / "checkpoints"
    checkpoint = crew.by_leader(lambda: checkpoints.last_complete(folder))
    at = checkpoints.step_of(checkpoint) if checkpoint else 0
    say(f"finetune: resumed at step {at:,}" if checkpoint else "finetune: fresh start")
    with (
        without_bars(),
        talk.progress("finetune", run.steps, "steps", at, silent=not crew.leads) as bar,
    ):
        trainer = training.build_trainer(run, base, tokenizer, config, dtype, draft, bar, crew)
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        if trainer.state.global_step < run.steps:
            stopping.safe_point("finetune")
            raise Interrupted(  # the signal came to another process
                f"finetune: stopped after step {trainer.state.global_step:,} of {run.steps:,}; "
                "run the same command to resume"
            )
        weights = output.gather_weights(trainer)

    def finish() -> dict[str, Any]:
        with without_bars():
            output.save_model(draft, base, trainer, weights, tokenizer, config.merge_adapter)
        log = output.training_log(trainer.state.log_history, run.tokens_by_step())
        result = output.run_figures(run, config, log)
        output.write_texts(draft, base, config, log, result, rendered.unusable)
        shutil.rmtree(folder)
        return draft.commit(
            rows=rows_account(
                rendered.rows,
                len(rendered.lengths),
                {"too_long": rendered.dropped},
                len(rendered.unusable),
            ),
            seeds={"train_seed": config.train_seed},
            result=result,
            run={
                "device": str(trainer.args.device),
                "processes": crew.size,
                "resumed_at_step": at,
            },
        )

    return crew.by_leader(finish)


def show_masks(subset: Path, config: FinetuneConfig, count: int) -> list[dict[str, Any]]:
    """Return the first `count` samples as they would be trained on; see `samples.marked_samples`.

    Nothing is trained or written.
    """
    base = BASES.find(config.model, config.revision)
    config = config.within(base.context)
    tokenizer = load_right_padding_tokenizer(base)
    chat.ensure_template(tokenizer)
    source = samples.find_samples(subset)
    rendered = samples.render_samples(
        source, tokenizer, config.max_length, config.on_truncation, count
    )
    return samples.marked_samples(rendered, tokenizer)


def check_finetune(subset: Path, out: Path, config: FinetuneConfig) -> None:
    """Refuse what this machine has not, and places that would not do; nothing is read or fetched.

    Raises
    ------
    UsageError, DataError
        If a model, a package or a GPU that the options need is not there, `subset` holds no
        samples, or `out` cannot be written to.
    """
    check_options(config)
    check_out(out, "finetune")
    samples.root_of(subset)


def check_options(config: FinetuneConfig) -> None:
    """Refuse options whose model, packages or GPU are not there; nothing is fetched."""
    for module in ("torch", "transformers", "trl", "peft"):
        extras.require(module, "finetune: training")
    blocks.check(config)
    reporters.check_reporters(config.report_to)
    optimizers.check_optimizer(config.optimizer)
    BASES.at_hand(config.model, config.revision)


def plan(subset: Path, out: Path, config: FinetuneConfig) -> dict[str, Any]:
    """Say what `finetune` would do, touching nothing.

    Returns
    -------
    dict
        `stage, out, cached, checkpoint, rows, seconds, bytes, steps, tokens, memory`: `checkpoint`
        is the step it would resume at, or None; the others are estimates (`bytes` on the disk,
        `memory` of the device that trains), None where the model would be fetched first, as
        `reason` then says.
    """
    check_finetune(subset, out, config)
    source, base = samples.find_samples(subset), BASES.at_hand(config.model, config.revision)
    config = config if base is None else config.within(base.context)
    tokens = samples.estimate_tokens(source, config.max_length)
    planned = {"stage": "finetune", "out": str(out), "rows": len(tokens)}
    if base is None:
        unknown = dict.fromkeys(("checkpoint", "seconds", "bytes", "steps", "tokens", "memory"))
        why = "the model would be downloaded first"
        return planned | {"cached": False, **unknown, "reason": why}
    course.resolve_settings(base, config)
    blocks.check_model_options(config, base)
    work = _work(source, base, config)
    _keep_other_run(out, work)
    cached = (out / MANIFEST).is_file() and read_manifest(out).get("key") == work.key
    partial = checkpoints.peek(out.parent / f".{out.name}.partial" / "checkpoints")
    mean = float(tokens.mean())
    read = config.samples_read(len(tokens), mean)
    seconds = START_S + training_seconds(base, mean * read)
    return planned | {
        "cached": cached,
        "checkpoint": None if cached else partial,
        "seconds": 0.0 if cached else round(seconds, 1),
        "bytes": 0 if cached else 4 * base.parameters(),
        "steps": math.ceil(read / config.batch_size),
        "tokens": round(mean * read),
        "memory": round(_memory(base, config, str(work.config["dtype"]), int(tokens.max()))),
    }


def _memory(base: ModelFolder, config: FinetuneConfig, dtype: str, longest: int) -> float:
    micro = course.micro_batch_size(config, not machine.gpus())
    return memory.needed_bytes(base, config, dtype, micro * longest)


# For estimates alone: loading, measured with tiny-base on cores without bfloat16, and operations a
# second of such a core in float32 and of a GPU in bfloat16.
START_S, _CORE_FLOPS, _GPU_FLOPS = 12.0, 7e10, 2e14


def training_seconds(base: ModelFolder, tokens: float, cores: int | None = None) -> float:
    """Return about how long training on so many tokens takes, on a GPU or on `cores` (all)."""
    speed = _GPU_FLOPS if machine.gpus() else _CORE_FLOPS * (cores or machine.cores())
    return 6.0 * base.parameters() * tokens / speed


def _work(source: samples.Source, base: ModelFolder, config: FinetuneConfig) -> Work:
    options = config.model_dump(mode="json", exclude=_NO_RESULT)
    options["dtype"] = machine.precision_for(config.dtype, machine.device_for("finetune"))
    return Work("finetune", VERSION, {"subset": source.key, "model": base.key}, options)


def _open(out: Path, work: Work) -> Draft:
    _keep_other_run(out, work)
    return open_draft(out, work)


def _silence(line: str) -> None:
    """What a process that does not lead has to say."""


def _keep_other_run(out: Path, work: Work) -> None:
    """Refuse to remove the checkpoints of a stopped run that this call would not go on with."""
    left = unfinished(out, work)
    step = checkpoints.peek(left[0] / "checkpoints") if left else None
    if left and step:
        raise UsageError(
            f"finetune: {left[0]} holds a run stopped at step {step:,}, but since then "
            f"{left[1]}; resume it as it was, name another --out, or remove that folder"
        )


def _description(run: course.Course, base: ModelFolder, config: FinetuneConfig, dtype: str) -> str:
    rendered = run.rendered
    return (
        f"finetune: {base.name} on {len(rendered.lengths):,} samples "
        f"({rendered.truncated / rendered.rows:.1%} cut at {config.max_length} tokens, "
        f"{rendered.dropped:,} left out, {len(rendered.unusable):,} unusable, "
        f"{rendered.lost_share:.1%} of response tokens lost), "
        f"{run.steps:,} steps of {config.batch_size}, "
        f"{run.response_tokens:,} response tokens of {run.total_tokens:,}; {config.optimizer}, "
        f"lr {run.settings.lr:g}, {output.schedule_name(config)}, {dtype}"
        + (", LoRA" if config.lora else "")
    )
