"""Canonical samples -> rows that trainers read: `messages`, and `prompt` with `completion`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from sft_diversity.core import schema
from sft_diversity.core.errors import DataError

#: An exported row. `prompt` + `completion` are `messages` up to the last assistant turn, which is
#: the completion: both lists of messages, so that a trainer renders them with its chat template.
EXPORTED = pa.schema(
    [
        ("id", pa.string()),
        ("source", pa.string()),
        ("messages", schema.MESSAGES),
        ("prompt", schema.MESSAGES),
        ("completion", schema.MESSAGES),
        ("meta", pa.string()),
    ]
)
EXPORTED_SUBSET = EXPORTED.insert(2, pa.field("pick", pa.int32()))


def exported(samples: pa.Table) -> pa.Table:
    """Return samples (SAMPLES or SUBSET) as exported rows, in their order.

    Raises
    ------
    DataError
        If a row has no assistant turn, nothing before its last one, or a turn without text:
        no trainer could use it, and leaving it out would change the subset's size.
    """
    messages = samples["messages"].to_pylist()
    prompts, completions = [], []
    for row, turns in enumerate(messages):
        try:
            at = last_assistant(turns)
        except ValueError as fault:
            raise DataError(
                f"export: sample {samples['id'][row]}: {fault}; drop it at ingest"
            ) from None
        prompts.append(turns[:at])
        completions.append(turns[at : at + 1])
    arrays = {
        **{name: samples[name] for name in samples.schema.names},
        "prompt": pa.array(prompts, schema.MESSAGES),
        "completion": pa.array(completions, schema.MESSAGES),
    }
    wanted = EXPORTED_SUBSET if "pick" in arrays else EXPORTED
    return pa.table({name: arrays[name] for name in wanted.names}, schema=wanted)


def last_assistant(turns: Sequence[Mapping[str, Any]]) -> int:
    """Return the place of the last assistant turn.

    Raises
    ------
    ValueError
        If there is none, it is the first turn, or a turn has no text.
    """
    if any(turn["content"] is None or turn["role"] is None for turn in turns):
        raise ValueError("a turn has no role or no text")
    places = [place for place, turn in enumerate(turns) if turn["role"] == "assistant"]
    if not places:
        raise ValueError("no assistant turn")
    if places[-1] == 0:
        raise ValueError("nothing precedes its assistant turn")
    return places[-1]


def is_dialogue(turns: Sequence[Mapping[str, Any]]) -> bool:
    """Whether more than one turn is the assistant's: prompt and completion then train the last."""
    return sum(1 for turn in turns if turn["role"] == "assistant") > 1
