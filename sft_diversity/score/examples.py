"""Records -> token sequences with the span whose likelihood counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sft_diversity.core.errors import DataError
from sft_diversity.score.sets import Record

FIRST = 64  # the head of a response, in tokens; DESIGN's "first 64 response tokens"

Render = Callable[[list[dict[str, str]], Any], tuple[list[int], list[int]]]


@dataclass(frozen=True)
class Example:
    """A rendered record.

    Attributes
    ----------
    ids : list of int
        Prompt and reference, cut after the last token that is scored.
    start, stop : int
        Text tokens of the reference are `ids[start:stop]`.
    ended : bool
        Whether `ids[stop]` is the end-of-turn token; it is scored apart from the text.
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
    ended: bool
    first_stop: int
    bytes: int
    bytes_first: int
    truncated: bool


def build(record: Record, tokenizer: Any, render: Render, max_length: int) -> Example | str:
    """Return the example, or why the record is skipped: `no-reference` or `over-length`.

    A record is over length when its prompt leaves no room for the reference's first 64 tokens (for
    all of it, where it is shorter); a longer reference is cut at `max_length` and marked.
    """
    response = record.messages[-1]["content"]
    if not response.strip():
        return "no-reference"
    ids, labels = render(record.messages, tokenizer)
    start, text_stop, run_stop = last_turn(ids, labels, set(tokenizer.all_special_ids))
    if text_stop <= start:
        raise DataError(
            f"score: {record.set}, record {record.record}: rendering labels none of the reference; "
            "the model's chat template does not mark the assistant's turn"
        )
    first_stop = min(start + FIRST, text_stop)
    if first_stop > max_length:
        return "over-length"
    stop = min(text_stop, max_length)
    truncated = stop < text_stop
    ended = text_stop < run_stop and text_stop < max_length
    return Example(
        ids=list(ids[: stop + ended]),
        start=start,
        stop=stop,
        ended=ended,
        first_stop=first_stop,
        bytes=_prefix_bytes(tokenizer, ids[start:stop]) if truncated else len(response.encode()),
        bytes_first=(
            _prefix_bytes(tokenizer, ids[start:first_stop])
            if first_stop < text_stop
            else len(response.encode())
        ),
        truncated=truncated,
    )


def last_turn(ids: Sequence[int], labels: Sequence[int], special: set[int]) -> tuple[int, int, int]:
    """Return where the last labelled run starts, where its text stops, and where the run stops.

    The text stops at the run's last special token, the end of turn; what a template puts behind it
    (a line break) is no text. Without one the text is the whole run.
    """
    stop = len(labels)
    while stop > 0 and labels[stop - 1] == -100:
        stop -= 1
    start = stop
    while start > 0 and labels[start - 1] != -100:
        start -= 1
    ends = [i for i in range(start, stop) if ids[i] in special]
    return start, (ends[-1] if ends else stop), stop


def _prefix_bytes(tokenizer: Any, ids: Sequence[int]) -> int:
    """Return the UTF-8 bytes of a cut text; a character cut in the middle counts as not there."""
    text = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return max(1, len(text.rstrip("\ufffd").encode()))
