"""Fine-tune a model on a subset: TRL's trainer, AdamW or LION, under a budget-aware schedule."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sft_diversity.core import chat, extras, machine, stopping
from sft_diversity.core import progress as talk
from sft_diversity.core.drafts import Draft, Work, check_out, open_draft, unfinished
from sft_diversity.core.errors import Interrupted, UsageError
from sft_diversity.core.folder import MANIFEST, read_manifest, rows_account
from sft_diversity.core.models import without_bars
from sft_diversity.training import (
    blocks,
    checkpoints,
    course,
    estimates,
    evaluation,
    memory,
    mixture,
    optimizers,
    output,
    rendering,
    reporters,
    samples,
    team,
    token_cache,
)
from sft_diversity.training.config import FinetuneConfig
from sft_diversity.training.inputs import VERSION as VERSION
from sft_diversity.training.inputs import Inputs, find_inputs, folders_of
from sft_diversity.training.models import BASES, at_hand, load_right_padding_tokenizer


def finetune(
    subset: Path | Sequence[Path],
    out: Path,
    config: FinetuneConfig,
    say: Callable[[str], None] = talk.say,
    work: Path | None = None,
) -> dict[str, Any]:
    """Train a model on the samples of `subset`, write it to `out`, return its manifest.

    Parameters
    ----------
    subset : Path, or several
        Output of `select`, `ingest` or `export`, or a folder of Parquet files with `messages` or
        `prompt` and `completion`. Several are read as one, or by `config.weights`.
    out : Path
        A model folder: weights, tokenizer with chat template, `training.jsonl`, `README.md`.
    work : Path, optional
        Where samples are kept as tokens, for other runs on them.

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
    inputs = find_inputs(subset, config)
    draft = crew.by_leader(lambda: _open(out, inputs.work))
    say(f"finetune: {draft.reason}")
    if draft.reused:
        return read_manifest(out)

    machine.keep_freed_memory()
    from sft_diversity.training import trainer as training  # after the line before

    tokenizer = load_right_padding_tokenizer(inputs.base)
    chat.ensure_template(tokenizer)
    course.resolve_settings(inputs.base, inputs.config)  # refuses before all is tokenised
    blocks.check_model_options(config, inputs.base)
    run = _laid_out(inputs, tokenizer, draft, crew, work)
    shared = f", {crew.size} processes ({team.kind()})" if crew.size > 1 else ""
    say(_description(run, inputs) + shared)
    if short := memory.warning(estimates.memory_bytes(inputs, int(run.rendered.lengths.max()))):
        say(short)

    folder = draft.path / "checkpoints"
    checkpoint = crew.by_leader(lambda: checkpoints.last_complete(folder))
    at = checkpoints.step_of(checkpoint) if checkpoint else 0
    say(f"finetune: resumed at step {at:,}" if checkpoint else "finetune: fresh start")
    if evaluation.stopped_early(checkpoints.history(checkpoint), config):
        run = run.until(at)  # killed before the model was written
    with (
        without_bars(),
        talk.progress("finetune", run.steps, "steps", at, silent=not crew.leads) as bar,
    ):
        trainer = training.build_trainer(
            run, inputs.base, tokenizer, inputs.config, inputs.dtype, draft, bar, crew
        )
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        run = _ended(run, trainer.state, config)
        weights = output.gather_weights(trainer)

    def finish() -> dict[str, Any]:
        with without_bars():
            output.save_model(draft, inputs.base, trainer, weights, tokenizer, config.merge_adapter)
        log = output.training_log(trainer.state.log_history, run.tokens_by_step())
        result = output.run_figures(run, inputs.config, log)
        output.write_texts(draft, inputs, log, result, run.rendered.unusable)
        shutil.rmtree(folder)
        return draft.commit(
            rows=_account(run, inputs),
            seeds={"train_seed": config.train_seed},
            result=result,
            run={
                "device": str(trainer.args.device),
                "processes": crew.size,
                "resumed_at_step": at,
            },
        )

    return crew.by_leader(finish)


def _laid_out(
    inputs: Inputs, tokenizer: Any, draft: Draft, crew: team.Team, work: Path | None
) -> course.Course:
    """Tokenise all samples, hold out those that the loss is measured on, lay out the steps."""
    config = inputs.config

    def rendered(source: samples.Source) -> rendering.Rendered:
        told = token_cache.kept(
            source, inputs.base, config, work, lambda: _rendered(source, tokenizer, config)
        )
        crew.by_leader(
            lambda: rendering.check_usable(
                told, config.max_length, config.max_bad_fraction, draft.out
            )
        )
        return told

    trained = mixture.join_sets([rendered(source) for source in inputs.sources])
    held_out = None if inputs.held_out is None else rendered(inputs.held_out)
    if config.eval_share:
        trained, held_out = evaluation.hold_out(trained, config.eval_share, config.train_seed)
    most = memory.tokens_at_once(inputs.base, config, inputs.dtype)
    run = course.lay_out(trained, inputs.base, config, most, crew.size)
    return replace(run, held_out=held_out)


def _ended(run: course.Course, state: Any, config: FinetuneConfig) -> course.Course:
    """Return the run as far as it went; raise Interrupted where a signal ended it."""
    if state.global_step < run.steps and not evaluation.stopped_early(state.log_history, config):
        stopping.safe_point("finetune")
        raise Interrupted(  # the signal came to another process
            f"finetune: stopped after step {state.global_step:,} of {run.steps:,}; "
            "run the same command to resume"
        )
    return run.until(state.global_step)


def _account(run: course.Course, inputs: Inputs) -> dict[str, Any]:
    rendered, shared = run.rendered, inputs.held_out is None
    held_out = len(run.held_out.ids) if run.held_out is not None and shared else 0
    dropped = {"too_long": rendered.dropped, "held_out": held_out}
    return rows_account(rendered.rows, len(rendered.ids), dropped, len(rendered.unusable))


def show_masks(subset: Path, config: FinetuneConfig, count: int) -> list[dict[str, Any]]:
    """Return the first `count` samples as they would be trained on; see `rendering.marked_samples`.

    Nothing is trained or written.
    """
    base = BASES.find(config.model, config.revision)
    config = config.within(base.context)
    tokenizer = load_right_padding_tokenizer(base)
    chat.ensure_template(tokenizer)
    source = samples.find_samples(subset)
    return rendering.marked_samples(_rendered(source, tokenizer, config, count), tokenizer)


def _rendered(
    source: samples.Source, tokenizer: Any, config: FinetuneConfig, limit: int | None = None
) -> rendering.Rendered:
    """Return the samples as tokens, all or the first."""
    return rendering.render_samples(
        source, tokenizer, config.max_length, config.on_truncation, limit, config.train_thinking
    )


def check_finetune(subset: Path | Sequence[Path], out: Path, config: FinetuneConfig) -> None:
    """Refuse what this machine has not, and places that would not do; nothing is read or fetched.

    Raises
    ------
    UsageError, DataError
        If a model, a package or a GPU that the options need is not there, `subset` holds no
        samples, or `out` cannot be written to.
    """
    check_options(config)
    check_out(out, "finetune")
    places = folders_of(subset)
    if config.weights and len(config.weights) != len(places):
        raise UsageError(
            f"finetune: {len(config.weights)} weights for {len(places)} sets; give each set its own"
        )
    for place in (*places, *([] if config.eval_data is None else [Path(config.eval_data)])):
        samples.root_of(place)


def check_options(config: FinetuneConfig) -> None:
    """Refuse options whose model, packages or GPU are not there; nothing is fetched."""
    for module in ("torch", "transformers", "trl", "peft"):
        extras.require(module, "finetune: training")
    blocks.check(config)
    reporters.check_reporters(config.report_to)
    optimizers.check_optimizer(config.optimizer)
    at_hand(config.model, config.revision)


def plan(subset: Path | Sequence[Path], out: Path, config: FinetuneConfig) -> dict[str, Any]:
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
    base = at_hand(config.model, config.revision)
    if base is None:
        found = map(samples.find_samples, folders_of(subset))
        rows = sum(len(samples.estimate_tokens(one, config.max_length)) for one in found)
        names = ("checkpoint", "seconds", "bytes", "steps", "tokens", "memory")
        told = {"stage": "finetune", "out": str(out), "rows": rows, "cached": False}
        return told | dict.fromkeys(names) | {"reason": "the model would be downloaded first"}
    inputs = find_inputs(subset, config, base)
    course.resolve_settings(base, inputs.config)
    blocks.check_model_options(config, base)
    _keep_other_run(out, inputs.work)
    cached = (out / MANIFEST).is_file() and read_manifest(out).get("key") == inputs.work.key
    partial = checkpoints.peek(out.parent / f".{out.name}.partial" / "checkpoints")
    said = estimates.of_run(inputs)
    return {
        "stage": "finetune",
        "out": str(out),
        "rows": said["rows"],
        "cached": cached,
        "checkpoint": None if cached else partial,
        "seconds": 0.0 if cached else said["seconds"],
        "bytes": 0 if cached else 4 * base.parameters(),
        "steps": said["steps"],
        "tokens": said["tokens"],
        "memory": said["memory"],
    }


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


def _description(run: course.Course, inputs: Inputs) -> str:
    rendered, config, held_out = run.rendered, inputs.config, run.held_out
    return (
        f"finetune: {inputs.base.name} on {len(rendered.lengths):,} samples "
        f"({rendered.truncated / rendered.rows:.1%} cut at {config.max_length} tokens, "
        f"{rendered.dropped:,} left out, {len(rendered.unusable):,} unusable, "
        f"{rendered.lost_share:.1%} of response tokens lost), "
        f"{run.steps:,} steps of {config.batch_size}, "
        f"{run.response_tokens:,} response tokens of {run.total_tokens:,}"
        f"{_thoughts(run)}; {config.optimizer}, "
        f"lr {run.settings.lr:g}, {output.schedule_name(config)}, {inputs.dtype}"
        + (", LoRA" if config.lora else "")
        + (f"; loss of {len(held_out.ids):,} samples beside them" if held_out else "")
    )


def _thoughts(run: course.Course) -> str:
    """Say how much is thought, and what of thoughts and tools the chat template leaves out."""
    rendered, found = run.rendered, ""
    if run.thinking_tokens:
        found += f", {run.thinking_tokens:,} of thoughts"
    if rendered.unthought:
        found += f", {rendered.unthought:,} thoughts not written by the chat template"
    if rendered.untold:
        found += f", tools of {rendered.untold:,} samples not written by it"
    return found
