"""Canonical samples -> rows that trainers read, and which dialogues each layout holds whole."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import pyarrow as pa

from sft_diversity.core import schema
from sft_diversity.core.errors import DataError
from sft_diversity.core.messages import OBJECTS, call_text, calls, objects

Name = Literal["chat", "messages", "prompt-completion", "alpaca", "sharegpt"]
Turns = Sequence[Mapping[str, Any]]

_SPOKEN = pa.list_(pa.struct([("from", pa.string()), ("value", pa.string())]))
_ALPACA = [(name, pa.string()) for name in ("instruction", "input", "output", "system")]
#: Canonical role -> ShareGPT's name for it.
SHAREGPT = {"system": "system", "user": "human", "assistant": "gpt", "tool": "observation"}
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
_LISTS = ("messages", "prompt", "completion")


def exported_schema(samples: pa.Schema) -> pa.Schema:
    """Return the schema of the rows that samples are exported as.

    Of structured samples turns are `OBJECTS`, and `tools`, a list as JSON, stands beside them.
    """
    wanted = EXPORTED_SUBSET if "pick" in samples.names else EXPORTED
    if "tools" not in samples.names:
        return wanted
    for name in _LISTS:
        wanted = wanted.set(wanted.get_field_index(name), pa.field(name, OBJECTS))
    return wanted.insert(wanted.get_field_index("meta"), pa.field("tools", pa.string()))


def dialogues(column: pa.ChunkedArray) -> list[list[dict[str, Any]]]:
    """Return lists of turns as objects, of either form."""
    rows: list[Any] = column.to_pylist()
    if column.type != OBJECTS:
        return rows
    return [[json.loads(turn) for turn in turns] for turns in rows]


def exported(samples: pa.Table) -> pa.Table:
    """Return samples (of `core.schema`, or a subset) as exported rows, in their order.

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
    wanted = exported_schema(samples.schema)
    lists = dict(zip(_LISTS, (messages, prompts, completions), strict=True))
    arrays = {name: samples[name] for name in samples.schema.names} | {
        name: objects(rows) if "tools" in wanted.names else pa.array(rows, schema.MESSAGES)
        for name, rows in lists.items()
    }
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


def _nothing(_turns: Turns) -> str | None:
    return None


def _trailing(turns: Turns) -> str | None:
    return None if turns[-1]["role"] == "assistant" else "a turn after the last answer"


def _no_exchanges(turns: Turns) -> str | None:
    """Why a dialogue is not (system, then) user and assistant by turns: all that Alpaca holds."""
    roles = [turn["role"] for turn in turns]
    if "tool" in roles:
        return "a tool turn"
    if any(turn.get("tool_calls") for turn in turns):
        return "a call of a tool"
    if any(turn.get("thinking") for turn in turns):
        return "a thought apart from its answer"
    if roles[0] == "system":
        roles = roles[1:]
        if not turns[0]["content"].strip():
            return "a blank system turn"
    if "system" in roles:
        return "a system turn that is not the first"
    if roles[-1] != "assistant":
        return "a turn after the last answer"
    if roles != ["user", "assistant"] * (len(roles) // 2):
        return "two turns of one speaker in a row"
    return None


def alpaca(turns: Turns) -> dict[str, Any]:
    """Return an Alpaca row: the last exchange, and the ones before it as `history`.

    `input` stays empty: a canonical user turn has the input in it, and readers differ in how they
    would join the two.
    """
    system = turns[0]["content"] if turns[0]["role"] == "system" else ""
    said = [turn["content"] for turn in turns[1 if system else 0 :]]
    history = [said[at : at + 2] for at in range(0, len(said) - 2, 2)]
    return {
        "instruction": said[-2], "input": "", "output": said[-1],
        "system": system, "history": history,
    }  # fmt: skip


def _said_and_called(turns: Turns) -> str | None:
    """Why ShareGPT cannot hold a dialogue: its turns are texts or calls."""
    for turn in turns:
        if turn.get("tool_calls") and (turn["content"] or turn.get("thinking")):
            return "a text or a thought beside a call of a tool"
    return None


def sharegpt(turns: Turns) -> dict[str, Any]:
    """Return a ShareGPT row: turns with `from` and `value`, calls as JSON, thoughts in marks."""
    return {"conversations": [_spoken(turn) for turn in turns]}


def _spoken(turn: Mapping[str, Any]) -> dict[str, str]:
    called = [json.loads(call_text(call)) for call in calls(turn)]
    if called:
        value = called[0] if len(called) == 1 else called
        return {"from": "function_call", "value": json.dumps(value, ensure_ascii=False)}
    thought = f"<think>\n{turn['thinking']}\n</think>\n\n" if turn.get("thinking") else ""
    return {"from": SHAREGPT[turn["role"]], "value": thought + turn["content"]}


class Format(NamedTuple):
    """A layout: its columns beside `id, source, pick, meta`; why it cannot hold a dialogue, if so.

    `row` makes the columns' values of a dialogue; without it they are columns of `EXPORTED`, in
    either form.
    """

    fields: list[pa.Field]
    fault: Callable[[Turns], str | None] = _nothing
    row: Callable[[Turns], dict[str, Any]] | None = None


_CHAT = {name: EXPORTED.field(name) for name in ("messages", "prompt", "completion")}
FORMATS: dict[str, Format] = {
    "chat": Format(list(_CHAT.values())),
    "messages": Format([_CHAT["messages"]]),
    "prompt-completion": Format([_CHAT["prompt"], _CHAT["completion"]], _trailing),
    "alpaca": Format(
        [*map(pa.field, *zip(*_ALPACA, strict=True)),
         pa.field("history", pa.list_(pa.list_(pa.string())))],
        _no_exchanges, alpaca,
    ),
    "sharegpt": Format([pa.field("conversations", _SPOKEN)], _said_and_called, sharegpt),
}  # fmt: skip


def format_columns(name: str, wanted: pa.Schema) -> list[str]:
    """Return the columns of an export of samples with the schema `wanted`."""
    kept = [column for column in ("id", "source", "pick") if column in wanted.names]
    tools = ["tools"] if "tools" in wanted.names else []
    return [*kept, *(one.name for one in FORMATS[name].fields), *tools, "meta"]


def formatted(chat: pa.Table, name: str) -> pa.Table:
    """Return exported rows (`EXPORTED`) in another layout, in their order."""
    layout = FORMATS[name]
    if layout.row is not None:
        made = [layout.row(turns) for turns in dialogues(chat["messages"])]
        for one in layout.fields:
            chat = chat.append_column(one, pa.array([row[one.name] for row in made], one.type))
    return chat.select(format_columns(name, chat.schema))


def alternates(turns: Turns) -> bool:
    """Whether, after a system turn, users or tools and the assistant speak by turns, it last.

    LLaMA-Factory leaves other rows out of a training, with a line in its log.
    """
    roles = [turn["role"] for turn in turns]
    if roles[0] == "system":
        roles = roles[1:]
    by_turns = set(roles[::2]) <= {"user", "tool"} and set(roles[1::2]) <= {"assistant"}
    return len(roles) % 2 == 0 and by_turns


@dataclass
class Survey:
    """Which rows a layout holds, told before anything is written."""

    rows: int = 0
    unfit: list[dict[str, str]] = field(default_factory=list)  # id, reason
    dialogues: int = 0  # of the rows that fit, those with several assistant turns
    broken_turns: int = 0  # of the rows that fit, those for which `alternates` is false
    with_system: int = 0  # of the rows that fit, those that begin with a system turn
    structured: bool = False  # whether samples hold thoughts, calls or tools apart

    @property
    def fit(self) -> int:
        """How many rows fit."""
        return self.rows - len(self.unfit)


def survey_rows(samples: Iterable[pa.Table], name: str, file_type: str = "parquet") -> Survey:
    """Look at every sample (tables with `id` and `messages`) once."""
    found = Survey()
    for table in samples:
        found.structured = table["messages"].type != schema.MESSAGES
        for one, turns in zip(table["id"].to_pylist(), table["messages"].to_pylist(), strict=True):
            found.rows += 1
            reason = fault(turns, name, file_type)
            if reason is not None:
                found.unfit.append({"id": one, "reason": reason})
                continue
            found.dialogues += is_dialogue(turns)
            found.broken_turns += not alternates(turns)
            found.with_system += turns[0]["role"] == "system"
    return found


def fault(turns: Turns, name: str, file_type: str = "parquet") -> str | None:
    """Return why a layout cannot hold a dialogue whole, or why no trainer could use it.

    Readers of JSONL take a column's type from the first rows: `datasets` and polars fail where
    those have no `history` and a later one has. Parquet states the type.
    """
    try:
        last_assistant(turns)
    except ValueError as why:
        return str(why)
    found = FORMATS[name].fault(turns)
    if found is None and (name, file_type) == ("alpaca", "jsonl") and is_dialogue(turns):
        return "an earlier exchange, whose type JSONL does not state: Parquet does"
    return found


def unfit_error(found: Survey, name: str) -> DataError:
    """Return the error that says how many rows do not fit, which is the first, and the way out."""
    first = found.unfit[0]
    holds_all = FORMATS[name].fault is _nothing
    way = "drop them at ingest" if holds_all else "use --format messages"
    return DataError(
        f"export: {len(found.unfit):,} of {found.rows:,} samples do not fit format {name}, the "
        f"first is {first['id']} ({first['reason']}); {way}, or --leave-out-unfit exports the rest "
        "and lists these"
    )
