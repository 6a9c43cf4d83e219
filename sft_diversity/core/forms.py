"""The form in which a chat template takes thoughts, calls of tools, and what tools answer.

Families differ: some read a thought from a field of the turn and others from `<think>` marks in its
text, some want the arguments of a call as an object and others as JSON, and a turn that only calls
has no content, or an empty one. Which it is shows when the template writes a short dialogue.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sft_diversity.core import messages as messaging
from sft_diversity.core.errors import DataError
from sft_diversity.core.messages import Turn

Turns = list[dict[str, Any]]
#: Renders turns, with tools or none, as a text; raises where the template does.
Write = Callable[[Turns, list[Any] | None], str]

#: Around a thought while a dialogue is rendered, so that it is found in the text.
THOUGHT, THOUGHT_END = "\U000f0003", "\U000f0004"
_TOOL = {
    "type": "function",
    "function": {
        "name": "zqtool",
        "description": "zqtells",
        "parameters": {
            "type": "object",
            "properties": {"zqkey": {"type": "string", "description": "zq"}},
            "required": ["zqkey"],
        },
        "return": {"type": "string", "description": "zq"},
    },
}
_ASKED = {"role": "user", "content": "zqask"}
_SAID = {"role": "assistant", "content": "zqsay"}


@dataclass(frozen=True)
class Form:
    """What a template reads.

    Attributes
    ----------
    thoughts : bool
        It writes a thought that is a field of the turn; else thoughts go into the content.
    calls : bool
        It writes calls that are a field of the turn; else they go into the content.
    arguments : bool
        Arguments of a call are an object; else their JSON.
    silent : str or None
        The content of a turn that only calls.
    results : bool
        It writes what tools answer.
    tools : bool
        It writes the tools that may be called.
    """

    thoughts: bool
    calls: bool
    arguments: bool
    silent: str | None
    results: bool
    tools: bool


def texts_alone(turns: Iterable[Turn], tools: str | None) -> bool:
    """Whether a dialogue is texts of system, user and assistant, which every template takes."""
    return tools is None and not any(
        turn["role"] == "tool" or any(turn.get(field) for field in messaging.FIELDS)
        for turn in turns
    )


def form_of(write: Write) -> Form:
    """Return the form that a template takes, from some ten renderings of short dialogues."""
    ways = [(True, *way) for way in itertools.product((True, False), ("", None))]
    ways.append((False, True, ""))
    for calls, arguments, silent in ways:
        form = Form(True, calls, arguments, silent, True, True)
        text = _written(write, _exchange(form))
        if all(part in text for part in ("zqtool", "zqvalue")):
            break
    thoughtful = [_ASKED, {**_SAID, "thinking": "zqthink"}]
    return Form(
        thoughts="zqthink" in _written(write, shaped(thoughtful, form))
        or "zqthink" in _written(write, _exchange(form, thinking="zqthink")),
        calls=calls,
        arguments=arguments,
        silent=silent,
        results="zqresult" in text or not text,  # one that refuses says itself why
        tools="zqtool" in _written(write, [_ASKED, _SAID], [_TOOL]),
    )


def _exchange(form: Form, **more: str) -> Turns:
    function = {"name": "zqtool", "arguments": {"zqkey": "zqvalue"}}
    call = {"id": "zqcall0000", "type": "function", "function": function}
    called = {"role": "assistant", "content": "", "tool_calls": [call], **more}
    answer = {"role": "tool", "content": "zqresult", "name": "zqtool", "tool_call_id": "zqcall0000"}
    return shaped([_ASKED, called, answer, _SAID], form)


def _written(write: Write, turns: Turns, tools: list[Any] | None = None) -> str:
    try:
        return write(turns, tools)
    except DataError:
        return ""


def shaped(turns: Sequence[Turn], form: Form) -> Turns:
    """Return turns in the form that a template takes, thoughts between their marks.

    Raises
    ------
    DataError
        If a tool answers and the template does not write that.
    """
    if not form.results and any(turn["role"] == "tool" for turn in turns):
        raise DataError(
            "chat: the tokenizer's chat template does not write what tools answer; drop such rows, "
            "or use a tokenizer whose template does, or one without (it gets ours)"
        )
    return [_fitted(turn, form) for turn in turns]


def _fitted(turn: Turn, form: Form) -> dict[str, Any]:
    found: dict[str, Any] = {"role": turn["role"], "content": turn["content"]}
    found |= {field: turn[field] for field in ("name", "tool_call_id") if turn.get(field)}
    called, thought = messaging.calls(turn), str(turn.get("thinking") or "").strip()
    if called and form.calls:
        found["tool_calls"] = [_call(call, form) for call in called]
        if not found["content"]:
            found["content"] = form.silent
    elif called:
        texts = [f"<tool_call>\n{messaging.call_text(call)}\n</tool_call>" for call in called]
        found["content"] = "\n".join(filter(None, [found["content"], *texts]))
    if thought:
        thought = f"{THOUGHT}{thought}{THOUGHT_END}"
        if form.thoughts:
            found |= {"thinking": thought, "reasoning_content": thought}
        else:
            found["content"] = f"<think>\n{thought}\n</think>\n\n{found['content'] or ''}"
    return found


def without_thought(turn: Turn) -> dict[str, Any]:
    """Return a shaped turn without its thought, where that is a field."""
    return {k: v for k, v in turn.items() if k not in ("thinking", "reasoning_content")}


def _call(call: dict[str, Any], form: Form) -> dict[str, Any]:
    function = dict(call["function"])
    if not form.arguments and not isinstance(function["arguments"], str):
        function["arguments"] = json.dumps(function["arguments"], ensure_ascii=False)
    return {**call, "function": function}


def thoughts_of(text: str, spans: Sequence[tuple[int, int]]) -> tuple[str, list[Any], list[Any]]:
    """Return a text without the marks of thoughts, spans of it moved, and the thoughts' spans.

    A mark whose other half the template left out goes with no thought.
    """
    if THOUGHT not in text and THOUGHT_END not in text:
        return text, list(spans), []
    at = [i for i, character in enumerate(text) if character in (THOUGHT, THOUGHT_END)]
    kinds = [text[i] for i in at]
    moved = [sum(1 for place in at if place < edge) for span in spans for edge in span]
    edges = [edge - gone for edge, gone in zip(itertools.chain(*spans), moved, strict=True)]
    thoughts = [
        (at[i] - i, at[i + 1] - i - 1)
        for i in range(len(at) - 1)
        if (kinds[i], kinds[i + 1]) == (THOUGHT, THOUGHT_END)
    ]
    clean = text.replace(THOUGHT, "").replace(THOUGHT_END, "")
    return clean, list(zip(edges[::2], edges[1::2], strict=True)), thoughts
