"""Quality of a corpus's samples under a local model: perplexity of the response, and IFD."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import Field

from sft_diversity.core import chat, folder, parquet, parts
from sft_diversity.core.config import Config
from sft_diversity.core.models import ModelFolder
from sft_diversity.core.quality import SCORES, SHARDS, STAGE
from sft_diversity.core.stage import Ask, Job, Made, Result, Stage, Unit
from sft_diversity.scoring import likelihood
from sft_diversity.scoring import model as models
from sft_diversity.scoring.likelihood import Example
from sft_diversity.scoring.model import Device, Precision, TrustCode

VERSION = 2
_TOKENS_PER_S = 6_000  # tiny-base on two CPU cores; for estimates only


class QualityConfig(Config):
    """The model that judges, and how it reads."""

    model: str | None = Field(
        default=None, description="folder or Hub id of the judging model; default: tiny-base"
    )
    max_length: int = Field(default=1024, ge=16, description="tokens of a sample; the rest is cut")
    batch_tokens: int = Field(default=8192, ge=128, description="padded tokens a batch")
    device: Device = "auto"
    dtype: Precision = "auto"
    trust_remote_code: TrustCode = False


def needs(config: QualityConfig, ask: Ask) -> None:
    """Read the corpus, and a model that is there, or will be fetched."""
    model = models.needed(config.model, ask.dry)
    ask.resolve(dtype=models.resolve(config.device, config.dtype, model)[1])
    if not ask.corpus().there:
        return
    ask.key("model", model.key if model else None)
    if model is not None:
        ask.resolve(max_length=_length(config, model))


def units(config: QualityConfig, inputs: Mapping[str, Made]) -> Sequence[Unit]:
    """Return the slices of the corpus."""
    found = parts.slices(inputs["corpus"].path)
    return [Unit(f"{SHARDS}/{one.name}.parquet", one.rows, one) for one in found]


def judge_slices(job: Job[QualityConfig]) -> None:
    """Write both likelihoods of every sample of each slice (schema SCORES).

    Notes
    -----
    Two forward passes a sample: the last response after its conversation in the model's chat
    template, and the same tokens after the end-of-text token alone.
    """
    if not job.left():
        return
    config = job.config
    source = models.MODELS.find(config.model)
    device, dtype = models.resolve(config.device, config.dtype, source)
    model, tokenizer = models.load_model(source, device, dtype, config.trust_remote_code)
    start = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    length = _length(config, source)
    for unit in job.todo():
        table = unit.what.read(["id", "messages", "tools"])
        given, alone = [], []
        dialogues = table["messages"].to_pylist(), table["tools"].to_pylist()
        for messages, tools in zip(*dialogues, strict=True):
            pair = _pair(chat.reference(messages, tokenizer, tools), start, length)
            given.append(pair[0])
            alone.append(pair[1])
        means = [_means(model, part, config.batch_tokens) for part in (given, alone)]
        job.write_table(unit.name, pa.table([table["id"], *means], schema=SCORES))


def join(job: Job[QualityConfig]) -> Result:
    """Count the samples without a score; the slices stay as they are."""
    given = (parquet.read(path, ["given"])["given"].to_numpy() for path in job.files())
    unscored = sum(int(np.isnan(values).sum()) for values in given)
    rows = sum(unit.rows for unit in job.units)
    source = models.MODELS.find(job.config.model)
    length = _length(job.config, source)
    return Result(
        rows=folder.rows_account(rows, rows, {}),
        figures={"model": source.name, "max_length": length, "unscored": unscored},
    )


def _length(config: QualityConfig, model: ModelFolder) -> int:
    return min(config.max_length, model.context or config.max_length)


def _options(config: QualityConfig) -> dict[str, Any]:
    return {"max_length": config.max_length, "dtype": config.dtype}  # as resolved in `needs`


def _cost(config: QualityConfig, ask: Ask) -> dict[str, Any]:
    rows = ask.inputs["corpus"].rows
    return {"seconds": round(rows * 220 / _TOKENS_PER_S, 1), "bytes": rows * 50}


QUALITY = Stage(
    STAGE, VERSION, QualityConfig, needs=needs, units=units, each=judge_slices, join=join,
    options=_options, cost=_cost,
)  # fmt: skip


def _pair(answer: chat.Reference, start: int, length: int) -> tuple[Example | None, Example | None]:
    """Return the response after its conversation and on its own; None where nothing is scored."""
    ids, first = answer.ids, answer.start
    stop = min(answer.stop, length, first + length - 1)
    if stop <= first or first == 0:
        return None, None
    alone = [start, *ids[first:stop]]
    return _example(ids[:stop], first), _example(alone, 1)


def _example(ids: list[int], start: int) -> Example:
    return Example(list(ids), start, len(ids), None, len(ids), 0, 0, False)


def _means(model: Any, examples: list[Example | None], batch_tokens: int) -> pa.Array:
    scored = [example for example in examples if example is not None]
    found = iter(likelihood.token_nll(model, scored, batch_tokens))
    means = [np.nan if example is None else float(next(found).mean()) for example in examples]
    return pa.array(means, pa.float64())
