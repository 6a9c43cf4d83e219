"""Answers of a model to one batch of prompts: equal batches give equal answers."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sft_diversity.core import seeding
from sft_diversity.endpoint.answers import Answer

_SPARE = 64  # columns that a cache grows by: it is copied once in so many tokens, not at each
_SHRUNK = 0.75  # rows that have ended are taken out once so many are left


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen: greedily at temperature 0, else with a seed from `seed` and prompts.

    What a model's own generation settings say of sampling and penalties is not used.
    """

    temperature: float = 0.0
    top_p: float | None = None
    seed: int = 0


def answers_to(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    limits: Sequence[int],
    sampling: Sampling,
) -> list[Answer]:
    """Return a model's answers to one batch of prompts.

    Parameters
    ----------
    model : transformers causal language model
        In eval mode; its own end tokens end an answer, as the tokenizer's does.
    prompts : sequence of token ids
    limits : sequence of int
        Most tokens of each answer.

    Notes
    -----
    Prompts are padded on the left, so that answers begin in one column, and positions count from a
    row's own first token. Rows that have ended leave the batch. A model without a plain cache of
    keys and values answers by `generate`, to the same rules.
    """
    import torch

    ends = _end_tokens(model, tokenizer)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else ends[0]
    longest = max(map(len, prompts))
    ids = torch.full((len(prompts), longest), pad, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, one in enumerate(prompts):
        ids[row, longest - len(one) :] = torch.tensor(one)
        mask[row, longest - len(one) :] = 1
    ids, mask = ids.to(model.device), mask.to(model.device)
    with torch.inference_mode(), torch.random.fork_rng():
        if sampling.temperature > 0:
            flat = ",".join(str(token) for one in prompts for token in (*one, -1))
            torch.manual_seed(seeding.derive(sampling.seed, "score", "answers", flat) % 2**63)
        if _has_plain_cache(model):
            rows = _decoded(model, ids, mask, ends, limits, sampling)
        else:
            rows = _generated(model, ids, mask, ends, pad, max(limits), sampling)
    return [
        _answer(row[:limit], set(ends), tokenizer, len(prompt))
        for row, limit, prompt in zip(rows, limits, prompts, strict=True)
    ]


def _decoded(
    model: Any, ids: Any, mask: Any, ends: list[int], limits: Sequence[int], sampling: Sampling
) -> list[list[int]]:
    """Return the answers' tokens, the end token included where one came."""
    import torch

    takes = _taken(model)
    held = {"cache" if "cache" in takes else "past_key_values": (cache := _cache(model))}
    # Taken by index, the last column is contiguous; of a slice, as the number 1 would be, a frozen
    # output layer (an adapter's base) is copied once a row: 5 GB of a vocabulary of 262,144.
    last = torch.tensor([-1], device=ids.device)
    held |= {"logits_to_keep": last} if "logits_to_keep" in takes else {}
    final = torch.tensor(ends, device=ids.device)
    found: list[list[int]] = [[] for _ in limits]
    rows = list(range(len(limits)))  # the answer that each row of the batch is
    position = (mask.cumsum(-1) - 1).clamp(min=0)
    while True:
        logits = model(
            input_ids=ids, attention_mask=mask, position_ids=position, use_cache=True, **held
        ).logits[:, -1]
        chosen = _choice(logits, sampling)
        ended = torch.isin(chosen, final).tolist()
        going = []
        for place, (row, token) in enumerate(zip(rows, chosen.tolist(), strict=True)):
            if row < 0:
                continue
            found[row].append(token)
            if ended[place] or len(found[row]) >= limits[row]:
                rows[place] = -1
            else:
                going.append(place)
        if not going:
            return found
        position = position[:, -1:] + 1
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
        if len(going) <= _SHRUNK * len(rows):
            kept = torch.tensor(going, device=ids.device)
            cache.batch_select_indices(kept)
            chosen, position, mask = chosen[kept], position[kept], mask[kept]
            rows = [rows[place] for place in going]
        ids = chosen[:, None]


def _choice(logits: Any, sampling: Sampling) -> Any:
    """Return the next token of each row."""
    import torch

    if sampling.temperature <= 0:
        return logits.argmax(-1)
    chances = torch.softmax(logits.float() / sampling.temperature, dim=-1)
    if sampling.top_p is not None:
        ordered, places = chances.sort(dim=-1, descending=True)
        before = ordered.cumsum(-1) - ordered  # the first token always stays
        chances = torch.zeros_like(chances).scatter(
            -1, places, ordered.masked_fill(before >= sampling.top_p, 0.0)
        )
    return torch.multinomial(chances, 1)[:, 0]


def _has_plain_cache(model: Any) -> bool:
    """Whether what a model keeps of a text is keys and values alone, all of them or a window's."""
    config = model.config.get_text_config(decoder=True)
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    plain = not getattr(_bare(model), "_is_stateful", True) and not config.is_encoder_decoder
    takes = _taken(model)
    asked = {"attention_mask", "position_ids"} <= takes and bool(
        {"cache", "past_key_values"} & takes
    )
    return plain and asked and kinds <= {"full_attention", "sliding_attention"}


def _bare(model: Any) -> Any:
    """Return a model without the adapter about it."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _taken(model: Any) -> set[str]:
    """Return the names of what a model's forward pass takes."""
    return set(inspect.signature(type(_bare(model)).forward).parameters)


def _cache(model: Any) -> Any:
    """Return an empty cache that has room to grow, where a layer keeps all keys and values."""
    import torch
    from transformers.cache_utils import DynamicCache, DynamicLayer

    class Roomy(DynamicLayer):  # type: ignore[no-untyped-call]
        """Writes into a buffer, where transformers' own copies the whole cache at each token."""

        def update(self, key_states: Any, value_states: Any, *_: Any, **__: Any) -> tuple[Any, Any]:
            if not self.is_initialized:
                self.lazy_initialization(key_states, value_states)
            before = self.get_seq_length()
            after = before + key_states.shape[-2]
            self.keys = self._written("_keys", self.keys, key_states, before, after)
            self.values = self._written("_values", self.values, value_states, before, after)
            return self.keys, self.values

        def _written(self, name: str, held: Any, new: Any, before: int, after: int) -> Any:
            room = getattr(self, name, None)
            if room is None or after > room.shape[-2] or len(room) != len(new):
                shape = (*new.shape[:-2], after + _SPARE, new.shape[-1])
                room = torch.empty(shape, dtype=new.dtype, device=new.device)
                if before:
                    room[..., :before, :] = held
                setattr(self, name, room)
            room[..., before:after, :] = new
            return room[..., :after, :]

    cache: Any = DynamicCache(config=model.config)
    roomy: Any = Roomy
    cache.layers = [roomy() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    if not cache.layers:
        cache.layer_class_to_replicate = Roomy
    return cache


def _generated(
    model: Any, ids: Any, mask: Any, ends: list[int], pad: int, limit: int, sampling: Sampling
) -> list[list[int]]:
    """Return the answers' tokens by transformers' own loop, padded behind their end."""
    import transformers

    settings_of: Any = transformers.GenerationConfig  # untyped
    settings: dict[str, Any] = {"do_sample": sampling.temperature > 0}
    if sampling.temperature > 0:
        top_p = sampling.top_p or 1.0
        settings |= {"temperature": sampling.temperature, "top_p": top_p, "top_k": 0}
    plain = settings_of(max_new_tokens=limit, eos_token_id=ends, pad_token_id=pad, **settings)
    own, model.generation_config = model.generation_config, settings_of()
    try:
        made = model.generate(ids, attention_mask=mask, generation_config=plain)
    finally:
        model.generation_config = own
    rows: list[list[int]] = made[:, ids.shape[1] :].tolist()
    return rows


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
