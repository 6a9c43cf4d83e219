"""Records -> token sequences with the span whose likelihood counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sft_diversity.core import chat
from sft_diversity.core.errors import DataError
from sft_diversity.scoring.sets import Record

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


def build(record: Record, tokenizer: Any, max_length: int) -> Example | str:
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
