"""The stage `answers`: a model's answers to sets of prompts, a batch a unit."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from sft_diversity.core import chat, folder, machine, parquet, progress, stopping
from sft_diversity.core.stage import Ask, Job, Made, Result, Stage, Unit
from sft_diversity.scoring import model as models
from sft_diversity.scoring.decoding import Sampling, answers_to
from sft_diversity.scoring.generate.config import AnswersConfig
from sft_diversity.scoring.sets import Prompt, file_keys, find_eval_dir, read_prompts

STAGE, VERSION = "answers", 1
LEAST = 64  # tokens that must be left for an answer, else its prompt is over length
_TOKENS_PER_S = 100.0  # of a model of 100 million parameters on two cores; for estimates only

#: One answer a row. `status`: `ended` by itself, `cut` at the most tokens, or `over-length` (there
#: was no room for an answer); `tokens` without the end token.
ANSWERS = pa.schema(
    {
        "set": pa.string(),
        "record": pa.int32(),
        "answer": pa.string(),
        "status": pa.string(),
        "tokens": pa.int32(),
        "prompt_tokens": pa.int32(),
    }
)


def needs(config: AnswersConfig, ask: Ask) -> None:
    """Read a model that is there, or will be fetched, and the prompts' files."""
    model = models.needed(config.model, ask.dry)
    ask.key("model", model.key if model else None)
    for name, key in file_keys(config.sets, find_eval_dir(config.eval_dir)).items():
        ask.key(name, key)
    device = machine.device_for("score", config.device)
    ask.resolve(device=device, dtype=machine.precision_for(config.dtype, device))
    ask.rows(sum(map(len, _prompts(config).values())))


def units(config: AnswersConfig, inputs: Mapping[str, Made]) -> Sequence[Unit]:
    """Return the batches: prompts of like length, the same whatever is there already."""
    return [
        Unit(f"batches/{name}-{number:05d}.parquet", len(batch), batch)
        for name, prompts in _prompts(config).items()
        for number, batch in enumerate(in_batches(prompts, config.batch_size))
    ]


def in_batches(prompts: Sequence[Prompt], size: int) -> list[list[Prompt]]:
    """Return prompts by batch, shortest first; ties in the order of their file."""
    order = sorted(prompts, key=lambda one: (len(one.text.encode()), one.record))
    return [order[i : i + size] for i in range(0, len(order), size)]


def answer_batches(job: Job[AnswersConfig]) -> None:
    """Write the answers to each batch (schema ANSWERS)."""
    left = job.left()
    if not left:
        return
    config = job.config
    source = models.MODELS.find(config.model)
    device = machine.device_for("score", config.device)
    dtype = machine.precision_for(config.dtype, device)
    machine.keep_freed_memory()
    loaded = models.load_model(source, device, dtype, config.trust_remote_code)
    done, began, tokens = sum(unit.rows for unit in job.own) - sum(u.rows for u in left), 0.0, 0
    total = sum(unit.rows for unit in job.own)
    began = time.monotonic()
    with progress.progress(f"answers of {source.name}", total, "answers", done) as bar:
        for unit in left:
            stopping.safe_point("score")
            if not job.draft.has(unit.name):
                rows = _answered(unit.what, loaded, source.context, config)
                job.write_table(unit.name, pa.Table.from_pylist(rows, schema=ANSWERS))
                tokens += sum(row["tokens"] for row in rows)
            bar.note = f"{tokens / (time.monotonic() - began):,.0f} tokens/s"
            bar.advance(unit.rows)
    seconds = time.monotonic() - began
    job.run |= {
        "tokens_new": tokens,
        "answering_seconds": round(seconds, 2),
        "tokens_per_s": round(tokens / seconds, 1),
    }
    job.say(f"answers: {tokens:,} tokens, {tokens / seconds:,.1f} a second")


def _answered(
    prompts: Sequence[Prompt], loaded: tuple[Any, Any], context: int | None, config: AnswersConfig
) -> list[dict[str, Any]]:
    most = config.max_new_tokens
    ids = [chat.prompt([{"role": "user", "content": one.text}], loaded[1]) for one in prompts]
    room = [most if context is None else min(most, context - len(one)) for one in ids]
    fits = [i for i, left in enumerate(room) if left >= min(most, LEAST)]
    sampling = Sampling(config.temperature, config.top_p, config.seed)
    made = (
        answers_to(*loaded, [ids[i] for i in fits], [room[i] for i in fits], sampling)
        if fits
        else []
    )
    by_row = dict(zip(fits, made, strict=True))
    rows = []
    for i, prompt in enumerate(prompts):
        row = {"set": prompt.set, "record": prompt.record, "prompt_tokens": len(ids[i])}
        if (one := by_row.get(i)) is None:
            rows.append(row | {"answer": "", "status": "over-length", "tokens": 0})
            continue
        status = "cut" if one.finish == "length" else "ended"
        rows.append(row | {"answer": one.text, "status": status, "tokens": one.tokens_out})
    return rows


def join(job: Job[AnswersConfig]) -> Result:
    """Count what became of the prompts; the batches stay as they are."""
    table = parquet.join(job.files(), ["status", "tokens"])
    counts = parquet.counts(table, "status")
    left_out = {"over-length": counts.get("over-length", 0)}
    return Result(
        rows=folder.rows_account(table.num_rows, table.num_rows - sum(left_out.values()), left_out),
        seeds={"seed": job.config.seed},
        figures={
            "answers": dict(sorted(counts.items())),
            "tokens": sum(table["tokens"].to_pylist()),
        },
        run={"model": models.MODELS.find(job.config.model).name},
    )


def _prompts(config: AnswersConfig) -> dict[str, list[Prompt]]:
    place = find_eval_dir(config.eval_dir)
    return {one.name: read_prompts(one, place, config.seed, config.limit) for one in config.sets}


def estimated_s(prompts: int, max_new_tokens: int, parameters: float) -> float:
    """Return about how long a model takes to answer, half of the most tokens each."""
    rate = _TOKENS_PER_S * 1e8 / max(parameters, 1e7)
    return prompts * max_new_tokens / 2 / rate


def _cost(config: AnswersConfig, ask: Ask) -> dict[str, Any]:
    prompts = sum(map(len, _prompts(config).values()))
    model = models.needed(config.model, ask.dry)
    parameters = model.parameters() if model is not None else 1e8
    return {
        "model": config.model,
        "rows": prompts,
        "seconds": round(10 + estimated_s(prompts, config.max_new_tokens, parameters)),
        "bytes": 2 * prompts * config.max_new_tokens,
    }


def _options(config: AnswersConfig) -> dict[str, Any]:
    return config.model_dump(mode="json", exclude={"model"})  # it counts by its content


WRITTEN = Stage(
    STAGE, VERSION, AnswersConfig, needs=needs, units=units, each=answer_batches, join=join,
    options=_options, cost=_cost,
)  # fmt: skip
