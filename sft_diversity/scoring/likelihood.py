"""Records -> token sequences -> negative log-likelihood of what is scored in them, in nats."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sft_diversity.core import chat
from sft_diversity.core.errors import DataError
from sft_diversity.core.numbers import Floats
from sft_diversity.scoring.sets import Record

_HEAD_FLOATS = 1 << 26  # logits held at once: 256 MB of float32
FIRST = 64  # the head of a response, in tokens; DESIGN's "first 64 response tokens"


@dataclass(frozen=True)
class Example:
    """A rendered record.

    Attributes
    ----------
    ids : list of int
        Prompt and reference, cut after the last token that is scored.
    start, stop : int
        Text tokens of the reference are `ids[start:stop]`.
    end : int or None
        Where the end-of-turn token stands, at or behind `stop`; it is scored apart from the text.
    first_stop : int
        End of the first 64 text tokens.
    bytes, bytes_first : int
        UTF-8 bytes of the text that `[start:stop]` and `[start:first_stop]` stand for.
    truncated : bool
        Whether the reference was cut to fit `max_length`.
    """

    ids: list[int]
    start: int
    stop: int
    end: int | None
    first_stop: int
    bytes: int
    bytes_first: int
    truncated: bool


def build_example(record: Record, tokenizer: Any, max_length: int) -> Example | str:
    """Return the example, or why the record is skipped: `no-reference` or `over-length`.

    A record is over length when its prompt leaves no room for the reference's first 64 tokens (for
    all of it, where it is shorter); a longer reference is cut at `max_length` and marked.
    """
    if not record.messages[-1]["content"].strip():
        return "no-reference"
    made = chat.reference(record.messages, tokenizer)
    ids, start = made.ids, made.start
    if made.stop <= start:
        raise DataError(
            f"score: {record.set}, record {record.record}: the model's chat template writes none "
            "of the reference"
        )
    first_stop = min(start + FIRST, made.stop)
    if first_stop > max_length:
        return "over-length"
    stop = min(made.stop, max_length)
    truncated = stop < made.stop
    end = made.end if made.end < max_length else None
    size = len(made.text.encode())
    return Example(
        ids=ids[: stop if end is None else end + 1],
        start=start,
        stop=stop,
        end=end,
        first_stop=first_stop,
        bytes=_prefix_bytes(tokenizer, ids[start:stop]) if truncated else size,
        bytes_first=(
            _prefix_bytes(tokenizer, ids[start:first_stop]) if first_stop < made.stop else size
        ),
        truncated=truncated,
    )


def _prefix_bytes(tokenizer: Any, ids: Sequence[int]) -> int:
    """Return the UTF-8 bytes of a cut text; a character cut in the middle counts as not there."""
    text = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return max(1, len(text.rstrip("\ufffd").encode()))


def by_length(lengths: Sequence[int], batch_tokens: int) -> list[list[int]]:
    """Group rows of similar length so that rows × longest row stays within `batch_tokens`.

    Depends on the lengths alone (ties: lowest row), so that equal sets make equal batches. A row
    longer than `batch_tokens` is a batch of its own.
    """
    groups: list[list[int]] = []
    for row in np.argsort(np.asarray(lengths), kind="stable").tolist():
        if groups and (len(groups[-1]) + 1) * lengths[row] <= batch_tokens:
            groups[-1].append(row)
        else:
            groups.append([row])
    return groups


def token_nll(
    model: Any,
    examples: Sequence[Example],
    batch_tokens: int,
    advance: Callable[[int], None] = lambda _: None,
) -> list[Floats]:
    """Return for each example the NLL of its scored tokens: text, then end of turn if it has one.

    Parameters
    ----------
    model : transformers causal language model
        In eval mode; it runs on its own device in its own precision, softmax in float32.
    advance : callable
        Called with the number of examples done after each batch.

    Returns
    -------
    list of float64 arrays, shape (len(ids) - start,) each

    Notes
    -----
    Rows are padded on the right: under a causal mask no real token sees the padding, so no
    attention mask is needed and the fast kernels serve. The language-model head, half the work of
    a small model, runs only where a token is scored.
    """
    import torch

    head = _head_of(model)
    found: list[Floats | None] = [None] * len(examples)
    with torch.inference_mode():
        for group in by_length([len(e.ids) for e in examples], batch_tokens):
            rows = [examples[i] for i in group]
            longest = max(len(e.ids) for e in rows) - 1
            ids = torch.zeros((len(rows), longest), dtype=torch.long)
            for r, example in enumerate(rows):
                ids[r, : len(example.ids) - 1] = torch.tensor(example.ids[:-1])
            where = torch.cat(
                [
                    r * longest + torch.arange(e.start - 1, len(e.ids) - 1)
                    for r, e in enumerate(rows)
                ]
            )
            targets = torch.cat([torch.tensor(e.ids[e.start :]) for e in rows])
            nll = _nll_at(model, head, ids.to(model.device), where, targets)
            ends = np.cumsum([len(e.ids) - e.start for e in rows])[:-1]
            for i, part in zip(group, np.split(nll, ends), strict=True):
                found[i] = part
            advance(len(group))
    return [part for part in found if part is not None]


def _nll_at(model: Any, head: Any, ids: Any, where: Any, targets: Any) -> Floats:
    """Return the NLL of `targets` predicted at the flat positions `where` of a batch."""
    import torch

    if head is None:
        logits = model(input_ids=ids, use_cache=False).logits
        chosen = logits.flatten(0, 1)[where.to(ids.device)]
        return _cross_entropy(chosen, targets)
    hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
    chosen = hidden.flatten(0, 1)[where.to(ids.device)]
    step = max(1, _HEAD_FLOATS // head.weight.shape[0])
    parts = [
        _cross_entropy(head(block), wanted)
        for block, wanted in zip(torch.split(chosen, step), torch.split(targets, step), strict=True)
    ]
    return np.concatenate(parts)


def _cross_entropy(logits: Any, targets: Any) -> Floats:
    import torch

    nll = torch.nn.functional.cross_entropy(
        logits.float(), targets.to(logits.device), reduction="none"
    )
    return np.asarray(nll.cpu().numpy(), dtype=np.float64)


def _head_of(model: Any) -> Any | None:
    """Return the output layer, if body then layer gives the model's own logits, else None.

    Some models scale or cap their logits afterwards; a probe tells them from the others.
    """
    import torch

    head = model.get_output_embeddings()
    if head is None or not hasattr(model, "base_model") or model.base_model is model:
        return None
    probe = torch.arange(1, 17, device=model.device)[None] % head.weight.shape[0]
    with torch.inference_mode():
        whole = model(input_ids=probe, use_cache=False).logits
        parts = head(model.base_model(input_ids=probe, use_cache=False).last_hidden_state)
    same = whole.shape == parts.shape and torch.allclose(whole, parts, rtol=1e-3, atol=1e-3)
    return head if same else None
