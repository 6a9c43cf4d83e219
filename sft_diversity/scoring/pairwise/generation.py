"""Answers of a model that runs here: fixed batches, so that equal calls give equal texts."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sft_diversity.core import chat, machine, progress, stopping
from sft_diversity.core.hashing import content_key
from sft_diversity.core.models import ModelFolder
from sft_diversity.endpoint.answers import Answer, Answers, folder_for
from sft_diversity.scoring import model as models
from sft_diversity.scoring.decoding import Sampling, answers_to
from sft_diversity.scoring.pairwise.config import PairwiseConfig
from sft_diversity.scoring.sets import Prompt

VERSION = "answers-2"
LEAST = 64  # tokens that must be left for an answer, else its prompt is over length


@dataclass(frozen=True)
class Said:
    """An answer, or why there is none.

    Attributes
    ----------
    status : str
        `answered`; `empty` or `refused`, which count as an empty answer; `over-length` (the prompt
        does not fit the model), `missing` (a file holds no answer) or `gave-up` (the endpoint did
        not answer), which leave the prompt out.
    cut : bool
        Whether the answer ended at the most tokens.
    """

    text: str
    status: str
    cut: bool = False
    tokens: int = 0


def answers(
    source: ModelFolder,
    device: str,
    dtype: str,
    config: PairwiseConfig,
    kept: Path,
    sets: Mapping[str, Sequence[Prompt]],
) -> Generator[tuple[str, list[Said]], None, None]:
    """Yield a model's answers to the prompts of each set, in their order; kept ones are not made.

    The key of a kept answer names its whole batch: in another batch, float noise may turn a
    near-tie between two tokens.
    """
    if not sets:
        return
    machine.keep_freed_memory()
    loaded = models.load_model(source, device, dtype, config.trust_remote_code)
    context = source.context or 2**31
    settings: dict[str, Any] = {
        "max_new_tokens": config.max_new_tokens,
        "temperature": config.temperature,
        "top_p": config.top_p if config.temperature else None,
        "seed": config.seed if config.temperature else 0,
    }
    sampling = Sampling(config.temperature, config.top_p, config.seed)
    store = Answers(folder_for(kept, source.key, VERSION), "score")

    def made(batch: list[list[int]]) -> list[Answer]:
        whole = content_key([device, dtype, settings, batch])
        keys = [content_key([whole, row]) for row in range(len(batch))]
        if not all(key in store for key in keys):
            most = min(context - max(map(len, batch)), config.max_new_tokens)
            new = answers_to(*loaded, batch, [most] * len(batch), sampling)
            for key, one in zip(keys, new, strict=True):
                store.put(key, one)
        return [store.get(key) for key in keys]

    least, room = min(config.max_new_tokens, LEAST), context - config.max_new_tokens
    with contextlib.closing(store):
        for name, prompts in sets.items():
            ids = [chat.prompt([{"role": "user", "content": p.text}], loaded[1]) for p in prompts]
            rows = [row for row, one in enumerate(ids) if len(one) + least <= context]
            found = [Said("", "over-length")] * len(prompts)
            with progress.progress(f"answers of {source.name}", len(prompts), "answers") as bar:
                bar.advance(len(prompts) - len(rows))
                for group in in_batches([len(ids[row]) for row in rows], config.batch_size, room):
                    stopping.safe_point("score")
                    batch = [rows[i] for i in group]
                    for row, one in zip(batch, made([ids[row] for row in batch]), strict=True):
                        status = "answered" if one.text else "empty"
                        found[row] = Said(one.text, status, one.finish == "length", one.tokens_out)
                    bar.advance(len(batch))
            yield name, found


def in_batches(lengths: Sequence[int], batch_size: int, room: int) -> list[list[int]]:
    """Return rows by batch: in the order given, those longer than `room` each alone.

    So no row's answer is cut short for the sake of a longer one in its batch.
    """
    plain = [row for row, length in enumerate(lengths) if length <= room]
    groups = [plain[i : i + batch_size] for i in range(0, len(plain), batch_size)]
    return groups + [[row] for row, length in enumerate(lengths) if length > room]
