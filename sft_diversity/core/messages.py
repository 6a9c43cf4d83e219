"""Turns that hold more than a text: thoughts, calls of tools, which call a result answers.

A turn is `{role, content}`, in structured samples with the nullable fields of `FIELDS` besides, and
the sample then has `tools`. What is null is not there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import pyarrow as pa

Turn = Mapping[str, Any]
Component = Literal["instruction", "response", "thinking", "answer", "tool-call"]

#: Fields of a turn beside role and content, all texts: `thinking` is what the assistant thought
#: before it spoke, `tool_calls` JSON (a list of `{id?, type, function: {name, arguments}}`), `name`
#: who speaks, `tool_call_id` the call that a tool's turn answers.
FIELDS = ("thinking", "tool_calls", "name", "tool_call_id")

#: Components that structured messages hold and no column does; of other samples there are none,
#: and the answer is the response.
DERIVED: tuple[Component, ...] = ("thinking", "answer", "tool-call")
#: Strategies that go by kinds: level and component, or kinds of one's own.
KindStrategy = Literal[
    "macro-instruction", "macro-response", "macro-thinking", "macro-answer", "macro-tool-call",
    "meso-instruction", "meso-response", "meso-thinking", "meso-answer", "meso-tool-call",
    "micro-instruction", "micro-response", "micro-thinking", "micro-answer", "micro-tool-call",
    "own",
]  # fmt: skip


def component_of(strategy: str) -> Component:
    """Return the component that a strategy names, LEVEL-COMPONENT; of others the response."""
    named: tuple[Component, ...] = ("instruction", *DERIVED)
    return next((name for name in named if strategy.endswith(f"-{name}")), "response")


def id_texts(turns: Iterable[Turn], tools: str | None = None) -> list[str]:
    """Return the texts that a sample's id is the hash of.

    Of a sample without further fields: role and content of every turn. What there is besides
    follows, each named by its turn and field, which no role is.
    """
    texts, more = [], []
    for number, turn in enumerate(turns):
        texts += [turn["role"], turn["content"]]
        for field in FIELDS:
            value = turn.get(field)
            if value is not None:
                more += [f"{number}.{field}", value]
    return [*texts, *more, *(["tools", tools] if tools is not None else [])]


def without_nulls(turn: Turn) -> dict[str, Any]:
    """Return a turn without the fields that are null."""
    return {name: value for name, value in turn.items() if value is not None}


def calls(turn: Turn) -> list[dict[str, Any]]:
    """Return the calls of a turn as objects; none where it has none."""
    found: Any = turn.get("tool_calls") or []
    return list(json.loads(found) if isinstance(found, str) else found)


def for_trainers(turn: Turn) -> dict[str, Any]:
    """Return a turn as chat templates read it: calls as objects, nothing that is null.

    A thought goes by both names that templates have for it.
    """
    found = without_nulls(turn)
    if "tool_calls" in found:
        found["tool_calls"] = calls(turn)
    if "thinking" in found:
        found["reasoning_content"] = found["thinking"]
    return found


#: Lists of turns as trainers read them: objects, each with its own keys, which `datasets` loads as
#: such where a table would fill up what others have.
OBJECTS = pa.list_(pa.json_(pa.string()))


def objects(rows: Iterable[Sequence[Turn]]) -> pa.Array:
    """Return lists of turns as a column of `OBJECTS`."""
    texts = [[json.dumps(for_trainers(t), ensure_ascii=False) for t in turns] for turns in rows]
    return pa.array(texts, pa.list_(pa.string())).cast(OBJECTS)


def from_trainers(turn: Any) -> dict[str, Any]:
    """Return a turn of somebody's messages, an object or its JSON, with our names of its fields."""
    found = without_nulls(json.loads(turn) if isinstance(turn, str) else turn)
    thinking = found.pop("reasoning_content", None)
    if thinking and not found.get("thinking"):
        found["thinking"] = thinking
    if found.get("content") is None and (found.get("tool_calls") or found.get("thinking")):
        found["content"] = ""
    return found


def call_text(call: Mapping[str, Any]) -> str:
    """Return a call as most templates write it: name and arguments, as JSON."""
    function = call["function"]
    said = {"name": function["name"], "arguments": function["arguments"]}
    return json.dumps(said, ensure_ascii=False)


def component_text(turns: Iterable[Turn], component: str) -> str:
    """Return a component's text: pieces of turns, a blank line between them.

    The instruction is what users say; the response all that the assistant writes, in each turn its
    thoughts, its answer, its calls.
    """
    if component == "instruction":
        return "\n\n".join(turn["content"] for turn in turns if turn["role"] == "user")
    pieces: list[str] = []
    for turn in turns:
        if turn["role"] == "assistant":
            pieces += _pieces(turn, component)
    return "\n\n".join(pieces)


def _pieces(turn: Turn, component: str) -> list[str]:
    thoughts = [turn["thinking"]] if turn.get("thinking") else []
    called = [call_text(call) for call in calls(turn)] if turn.get("tool_calls") else []
    more = bool(thoughts or called)
    answer = [turn["content"]] if turn["content"] or not more else []
    of = {"thinking": thoughts, "answer": answer, "tool-call": called}
    return of.get(component, [*thoughts, *answer, *called])


def derived(messages: pa.ChunkedArray | pa.Array, component: str) -> pa.Array:
    """Return a component of every sample that no column holds, as a column of texts."""
    rows: Sequence[list[Turn]] = messages.to_pylist()
    return pa.array([component_text(turns, component) for turns in rows], pa.string())
