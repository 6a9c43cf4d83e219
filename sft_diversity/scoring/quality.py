"""Quality of a corpus's samples under a local model: perplexity of the response, and IFD."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from sft_diversity.core import chat, folder, machine, progress, resources, stopping
from sft_diversity.core import corpus as corpora
from sft_diversity.core.config import Config
from sft_diversity.scoring import likelihood
from sft_diversity.scoring import model as models
from sft_diversity.scoring.likelihood import Example

VERSION = 2
STAGE = "quality"
SCORERS = ("perplexity", "ifd")
_TOKENS_PER_S = 6_000  # tiny-base on two CPU cores; for estimates only

Floats = npt.NDArray[np.float64]

#: Both likelihoods of each sample, in nats a token; NaN where the response has no token.
SCORES = pa.schema([("id", pa.string()), ("given", pa.float64()), ("alone", pa.float64())])


class QualityConfig(Config):
    """The model that judges, and how it reads."""

    model: str | None = Field(
        default=None, description="folder or Hub id of the judging model; default: tiny-base"
    )
    max_length: int = Field(default=1024, ge=16, description="tokens of a sample; the rest is cut")
    batch_tokens: int = Field(default=8192, ge=128, description="padded tokens a batch")
    device: machine.Device = Field(default="auto", description="auto: CUDA where there is one")
    dtype: machine.Precision = Field(
        default="auto", description="auto: float32 on CPU, bfloat16 on a GPU that multiplies it"
    )
    trust_remote_code: bool = Field(
        default=False, description="run code that a model repository brings"
    )


def check(config: QualityConfig) -> None:
    """Refuse a judging model that is not there."""
    models.check(config.model or resources.tiny_base())


def plan(corpus: Path, out: Path, config: QualityConfig) -> dict[str, Any]:
    """Return what `quality` would do; loads no model."""
    rows = sum(pq.read_metadata(path).num_rows for path in corpora.shards(corpus))
    done = folder.stage_of(out) == STAGE
    seconds = 0.0 if done else round(rows * 220 / _TOKENS_PER_S, 1)
    return {"stage": STAGE, "rows": rows, "cached": done, "seconds": seconds, "bytes": rows * 50}


def quality(
    corpus: Path,
    out: Path,
    config: QualityConfig,
    say: Callable[[str], None] = progress.say,
) -> dict[str, Any]:
    """Write `scores/<shard>.parquet` (schema SCORES) of every sample; return the manifest.

    Notes
    -----
    Two forward passes a sample: the last response after its conversation in the model's chat
    template, and the same tokens after the end-of-text token alone. Resumes by shard.
    """
    source = models.find(config.model or resources.tiny_base())
    device, dtype = models.resolve(config.device, config.dtype)
    context = models.context(source.path)
    length = min(config.max_length, context or config.max_length)
    work = folder.Work(
        STAGE,
        VERSION,
        {"corpus": corpora.key(corpus), "model": source.key},
        {"max_length": length, "dtype": dtype},
    )
    draft = folder.open_draft(out, work)
    say(f"quality: {draft.state}, {draft.reason}")
    if draft.reused:
        return folder.read_manifest(out, STAGE)
    model, tokenizer = models.load(source, device, dtype, config.trust_remote_code)
    start = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    shards = corpora.shards(corpus)
    total = sum(pq.read_metadata(path).num_rows for path in shards)
    unscored = 0
    with progress.progress("quality", total, "samples") as bar:
        for path in shards:
            name = f"scores/{path.name}"
            if not draft.has(name):
                stopping.safe_point(STAGE)
                table = pq.read_table(path, columns=["id", "messages"])
                given, alone = [], []
                for messages in table["messages"].to_pylist():
                    pair = _pair(chat.reference(messages, tokenizer), start, length)
                    given.append(pair[0])
                    alone.append(pair[1])
                means = [_means(model, part, config.batch_tokens) for part in (given, alone)]
                made = pa.table([table["id"], *means], schema=SCORES)
                draft.write_table(name, made)
            done = pq.read_table(draft.path / name, columns=["given"])["given"].to_numpy()
            unscored += int(np.isnan(done).sum())
            bar.advance(len(done))
    return draft.commit(
        rows=folder.rows_account(total, total, {}),
        result={"model": source.name, "max_length": length, "unscored": unscored},
    )


def read(scores: Path, scorer: str) -> Floats:
    """Return every sample's score, in corpus order, higher is better; NaN where it has none.

    `perplexity`: minus the mean NLL of the response, so that a low perplexity scores high. `ifd`,
    instruction-following difficulty: the mean NLL with the instruction over that without it; above
    1 the instruction does not help, and the sample counts as one without a score.

    Notes
    -----
    IFD: Li et al. 2024, arXiv:2308.12032, section 2.2.
    """
    folder.read_manifest(scores, STAGE)
    table = pa.concat_tables(
        [pq.read_table(p) for p in sorted((scores / "scores").glob("*.parquet"))]
    )
    given, alone = (table[name].to_numpy() for name in ("given", "alone"))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = given / alone
    found: Floats = -given if scorer == "perplexity" else np.where(ratio <= 1.0, ratio, np.nan)
    return found


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
