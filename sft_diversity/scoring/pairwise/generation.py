"""Answers of a model that runs here: fixed batches, so that equal calls give equal texts."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sft_diversity.core import chat, machine, progress, seeding, stopping
from sft_diversity.core.hashing import content_key
from sft_diversity.core.models import ModelFolder
from sft_diversity.endpoint.answers import Answer, Answers, folder_for
from sft_diversity.scoring import model as models
from sft_diversity.scoring.pairwise.config import PairwiseConfig
from sft_diversity.scoring.sets import Prompt

VERSION = "answers-1"
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
    store = Answers(folder_for(kept, source.key, VERSION), "score")

    def made(batch: list[list[int]]) -> list[Answer]:
        whole = content_key([device, dtype, settings, batch])
        keys = [content_key([whole, row]) for row in range(len(batch))]
        if not all(key in store for key in keys):
            most = min(context - max(map(len, batch)), config.max_new_tokens)
            for key, one in zip(
                keys, answer(*loaded, batch, **settings | {"max_new_tokens": most}), strict=True
            ):
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


def answer(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    temperature: float,
    top_p: float | None,
    seed: int,
) -> list[Answer]:
    """Return the model's answers to one batch of prompts, given as token ids.

    Greedy at temperature 0, else sampled with a seed drawn from `seed` and the prompts. What the
    model's own generation settings say about sampling and penalties is not used; its end tokens
    are.
    """
    import torch
    import transformers

    settings_of: Any = transformers.GenerationConfig  # untyped
    ends = _end_tokens(model, tokenizer)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else ends[0]
    settings: dict[str, Any] = {"do_sample": temperature > 0}
    if temperature > 0:
        settings |= {"temperature": temperature, "top_p": top_p or 1.0, "top_k": 0}
    plain = settings_of(
        max_new_tokens=max_new_tokens, eos_token_id=ends, pad_token_id=pad, **settings
    )
    longest = max(map(len, prompts))
    ids = torch.full((len(prompts), longest), pad, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, one in enumerate(prompts):  # padded on the left: answers begin in one column
        ids[row, longest - len(one) :] = torch.tensor(one)
        mask[row, longest - len(one) :] = 1
    own, model.generation_config = model.generation_config, settings_of()
    try:
        with torch.inference_mode(), torch.random.fork_rng():
            if temperature > 0:
                flat = ",".join(str(token) for one in prompts for token in (*one, -1))
                torch.manual_seed(seeding.derive(seed, "score", "answers", flat) % 2**63)
            made = model.generate(
                ids.to(model.device), attention_mask=mask.to(model.device), generation_config=plain
            )
    finally:
        model.generation_config = own
    return [
        _answer(row, set(ends), tokenizer, len(prompts[i]))
        for i, row in enumerate(made[:, longest:].tolist())
    ]


def _answer(row: list[int], ends: set[int], tokenizer: Any, tokens_in: int) -> Answer:
    stop = next((i for i, token in enumerate(row) if token in ends), None)
    text = tokenizer.decode(row[:stop], skip_special_tokens=True)
    finish, size = ("length", len(row)) if stop is None else ("stop", stop)
    return Answer(text.strip(), finish, tokens_in, size)


def _end_tokens(model: Any, tokenizer: Any) -> list[int]:
    """Return what ends a turn: the tokenizer's token and those of the model's own settings."""
    own = getattr(model.generation_config, "eos_token_id", None)
    named = own if isinstance(own, list) else [] if own is None else [own]
    return list(dict.fromkeys([tokenizer.eos_token_id, *named]))
