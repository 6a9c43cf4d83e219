"""`score`: how well a model predicts references it was not trained on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field, field_validator

from sft_diversity.core import config as configs
from sft_diversity.core import folder, machine, parquet, progress, resources, stopping
from sft_diversity.core.config import Config
from sft_diversity.core.errors import DataError
from sft_diversity.core.models import ModelFolder
from sft_diversity.core.numbers import Floats
from sft_diversity.core.stage import Ask, Job, Result, Stage
from sft_diversity.scoring import heldout, likelihood
from sft_diversity.scoring import model as models
from sft_diversity.scoring.heldout import RECORDS, SCORED
from sft_diversity.scoring.model import Device, Precision, TrustCode
from sft_diversity.scoring.sets import EvalSet, Record, distinct, find_eval_dir, read_set
from sft_diversity.scoring.sets import file_keys as file_keys

VERSION = 2
_TOKENS_PER_S = 12_000  # tiny-base on two CPU cores; for estimates only


class ScoreConfig(Config):
    """What to score a model on."""

    suite: Literal["heldout"] = Field(
        default="heldout", description="likelihood of held-out references"
    )
    sets: tuple[EvalSet, ...] | None = Field(
        default=None, description="evaluation sets; default: those of configs/score/heldout.yaml"
    )
    eval_dir: Path | None = Field(
        default=None,
        description="folder of the sets' files; default: data/eval here or in the checkout",
    )
    max_length: int = Field(
        default=1024,
        ge=128,
        description="tokens of prompt and reference; at most the model's context",
    )
    batch_tokens: int | None = Field(
        default=None,
        ge=128,
        description="padded tokens a batch; bounds memory; default: 4,096, on a GPU 32,768",
    )
    draws: int = Field(default=1000, ge=100, description="bootstrap draws behind the intervals")
    seed: int = Field(
        default=0, ge=0, description="of the samples that `limit` takes, and the bootstrap"
    )
    device: Device = "auto"
    dtype: Precision = "auto"
    trust_remote_code: TrustCode = False

    _distinct = field_validator("sets")(distinct)


def needs(config: ScoreConfig, ask: Ask) -> None:
    """Read a model that is there, or will be fetched, and the files of the sets."""
    sets, eval_dir = sets_of(config)
    model = models.needed(ask.subject, ask.dry)
    ask.key("model", model.key if model else None)
    for name, key in file_keys(sets, eval_dir).items():
        ask.key(name, key)
    device, dtype = models.resolve(config.device, config.dtype, model)
    named = [one.model_dump(mode="json") for one in sets]
    size = batch_size(config, device)
    ask.resolve(
        sets=named, device=device, dtype=dtype, max_length=_length(config, model), batch_tokens=size
    )


def join(job: Job[ScoreConfig]) -> Result:
    """Score a model on the suite's sets: `records/SET.parquet` and `scores.json`, the figures.

    Raises
    ------
    DataError
        If an evaluation file is broken, the model does not load, or its loss is not finite.
    """
    config, (sets, eval_dir) = job.config, sets_of(job.config)
    model = models.MODELS.find(job.subject)
    max_length = _length(config, model)
    device, dtype = models.resolve(config.device, config.dtype, model)
    loaded: tuple[Any, Any] | None = None
    files = {one.name: f"records/{one.name}.parquet" for one in sets}
    for one in sets:
        if job.draft.has(files[one.name]):
            continue
        stopping.safe_point("score")
        if loaded is None:
            machine.keep_freed_memory()
            loaded = models.load_model(model, device, dtype, config.trust_remote_code)
        records = read_set(one, eval_dir, config.seed)
        scored = score_set(*loaded, records, max_length, batch_size(config, device))
        job.write_table(files[one.name], scored)
    table = parquet.join([job.draft.path / name for name in files.values()])
    scores = heldout.summarise_records(table, config.draws, config.seed)
    scores |= {"suite": config.suite, "max_length": max_length, "dtype": dtype}
    job.draft.write_json("scores.json", scores)
    skipped = scores["skipped"]
    return Result(
        rows=folder.rows_account(table.num_rows, table.num_rows - sum(skipped.values()), skipped),
        seeds={"seed": config.seed},
        figures=scores,
        run={"model": model.name},
    )


def batch_size(config: ScoreConfig, device: str) -> int:
    """Return the padded tokens of a batch: a GPU needs many to be busy."""
    return config.batch_tokens or (4096 if device == "cpu" else 32_768)


def _length(config: ScoreConfig, model: ModelFolder | None) -> int:
    return min(config.max_length, (model and model.context) or config.max_length)


def _options(config: ScoreConfig) -> dict[str, Any]:
    return config.model_dump(mode="json", exclude={"eval_dir"})


def _cost(config: ScoreConfig, ask: Ask) -> dict[str, Any]:
    return {"model": ask.subject, **estimate_heldout(config)}


def estimate_heldout(config: ScoreConfig) -> dict[str, Any]:
    """Return sets, records, and estimated seconds and bytes; loads no model."""
    sets, eval_dir = sets_of(config)
    counts, tokens = {}, 0
    for one in sets:
        records = read_set(one, eval_dir, config.seed)
        counts[one.name] = len(records)
        size = sum(len(m["content"]) for record in records for m in record.messages)
        tokens += min(size // 4, len(records) * config.max_length)
    return {
        "suite": config.suite,
        "eval_dir": str(eval_dir),
        "sets": counts,
        "rows": sum(counts.values()),
        "seconds": round(5 + tokens / _TOKENS_PER_S),
        "bytes": 60 * sum(counts.values()),
    }


HELDOUT = Stage("score", VERSION, ScoreConfig, needs=needs, join=join, options=_options, cost=_cost)


def score_set(
    model: Any, tokenizer: Any, records: Sequence[Record], max_length: int, batch_tokens: int
) -> pa.Table:
    """Return the RECORDS table of one set's records, in their order.

    Raises
    ------
    DataError
        If a reference's loss is not a number: the model is broken.
    """
    built = [likelihood.build_example(record, tokenizer, max_length) for record in records]
    ready = [one for one in built if isinstance(one, likelihood.Example)]
    label = f"score {records[0].set}" if records else "score"
    with progress.progress(label, len(ready), "records") as bar:

        def advance(done: int) -> None:
            bar.advance(done)
            stopping.safe_point("score")

        losses = iter(likelihood.token_nll(model, ready, batch_tokens, advance))
    rows = [
        _row(record, one, next(losses) if isinstance(one, likelihood.Example) else None)
        for record, one in zip(records, built, strict=True)
    ]
    return pa.Table.from_pylist(rows, schema=RECORDS)


def read_records(scored: Path) -> pa.Table:
    """Return the records of a finished `score` folder, for `compare` and own figures."""
    return parquet.join(parquet.listed(scored, "records", "score"))


def _row(record: Record, built: likelihood.Example | str, nll: Floats | None) -> dict[str, Any]:
    row: dict[str, Any] = {
        "set": record.set,
        "record": record.record,
        "kind": record.kind,
        "reference": record.reference,
        "domain": record.domain,
        "prompt": record.prompt_key,
        "reference_bytes": len(record.messages[-1]["content"].encode()),
    }
    if isinstance(built, str) or nll is None:
        return row | {"status": built, "truncated": False}
    if not np.isfinite(nll).all():
        raise DataError(
            f"score: {record.set}, record {record.record}: the model's loss is {nll.sum()}; "
            "its weights are broken or the precision is too low (try --dtype float32)"
        )
    text, first = built.stop - built.start, built.first_stop - built.start
    return row | {
        "status": SCORED,
        "truncated": built.truncated,
        "prompt_tokens": built.start,
        "tokens": text,
        "bytes": built.bytes,
        "nll": math.fsum(nll[:text]),
        "tokens_first64": first,
        "bytes_first64": built.bytes_first,
        "nll_first64": math.fsum(nll[:first]),
        "end_nll": None if built.end is None else float(nll[built.end - built.start]),
    }


def sets_of(config: ScoreConfig) -> tuple[tuple[EvalSet, ...], Path]:
    """Return the sets that a config means and the folder they lie in."""
    sets = config.sets
    if sets is None:
        default = resources.shipped("configs") / "score" / "heldout.yaml"
        sets = configs.load(default, ScoreConfig).sets or ()
    return sets, find_eval_dir(config.eval_dir)
