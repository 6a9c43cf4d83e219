"""The known row formats: a row in, its turns out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from sft_diversity.core.messages import FIELDS
from sft_diversity.ingestion import tools
from sft_diversity.ingestion.exchanges import Exchange
from sft_diversity.ingestion.rows import BadRow, Unreadable

_SPEAKERS = {
    "system": "system",
    "developer": "system",
    "human": "user",
    "user": "user",
    "prompter": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "bard": "assistant",
    "bing": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "function_call": "call",
    "tool_call": "call",
    "observation": "tool",
    "tool": "tool",
    "tool_response": "tool",
    "function": "tool",
    "function_response": "tool",
    "ipython": "tool",
}


class Turn(NamedTuple):
    """A speaker and what is said, with the fields of `core.messages`.

    Speakers: system, user, assistant, call (the assistant calls a tool in words of its own), tool.
    """

    speaker: str
    said: str
    thinking: str | None = None
    tool_calls: str | None = None
    name: str | None = None
    tool_call_id: str | None = None

    @property
    def message(self) -> dict[str, str | None]:
        """The turn as samples hold it."""
        role = "assistant" if self.speaker == "call" else self.speaker
        more = dict(zip(FIELDS, self[2:], strict=True))
        return {"role": role, "content": self.said, **more}


class Origin(NamedTuple):
    """Where a sample was that an earlier corpus held: its id, source, file ("": not told), row."""

    id: bytes
    source: str
    file: str
    row: int


class Sample(NamedTuple):
    """What a row says: its turns, and the columns that have no place in them.

    `task` is instruction and input of the last exchange before they were joined, where the format
    has them apart: duplicates are told by the three texts. `origin` is that of a row that this
    package wrote (`own.known`). `tools` is JSON: what the assistant may call.
    """

    turns: list[Turn]
    task: tuple[str, str] | None
    meta: dict[str, Any]
    origin: Origin | None = None
    tools: str | None = None


@dataclass(frozen=True)
class Reader:
    """What makes samples of rows: `read` of any, `exchange` of those that hold texts alone.

    Raises
    ------
    BadRow
        By `read`, if the row can be no sample.
    """

    read: Callable[[dict[str, Any]], Sample]
    exchange: Exchange | None = None

    def __call__(self, row: dict[str, Any]) -> Sample:
        """Return what a row says."""
        return self.read(row)


def text_of(row: dict[str, Any], column: str) -> str:
    """Return the text in a required column.

    Raises
    ------
    BadRow
        If the column is missing, null or no text.
    """
    try:
        value = row[column]
    except KeyError:
        raise BadRow("missing-column", column) from None
    if isinstance(value, str):
        return value
    raise BadRow("null-text" if is_null(value) else "not-text", f"{column}: {_kind(value)}")


def optional_text(row: dict[str, Any], column: str) -> str:
    """Return the text in a column that may be missing or null: then it is empty."""
    value = row.get(column, "")
    if isinstance(value, str):
        return value
    if is_null(value):
        return ""
    raise BadRow("not-text", f"{column}: {_kind(value)}")


def is_null(value: Any) -> bool:
    """Whether a value stands for nothing: null, or NaN as data frames write it."""
    return value is None or (isinstance(value, float) and value != value)


_KINDS: dict[type, str] = {
    int: "a number",
    float: "a number",
    bool: "a truth value",
    list: "a list",
    Unreadable: "out of range",
}


def _kind(value: Any) -> str:
    return _KINDS.get(type(value), "null" if is_null(value) else "an object")


def joined(instruction: str, given: str) -> str:
    """Return the task: the instruction, a blank line, the input where there is one."""
    if not given or given.isspace():
        return instruction
    if not instruction or instruction.isspace():
        return given
    return f"{instruction}\n\n{given}"


def _rest(row: dict[str, Any], used: frozenset[str]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in used}


def single_turn(instruction: str, given: str, response: str) -> Reader:
    """Return the reader of rows with an instruction, an optional input and a response column."""
    used = frozenset({instruction, given, response, "history", "system"})

    def read(row: dict[str, Any]) -> Sample:
        task = (text_of(row, instruction), optional_text(row, given) if given else "")
        answer = text_of(row, response)
        turns = [Turn("user", joined(*task)), Turn("assistant", answer)]
        if "history" in row or "system" in row:
            before = _history(row.get("history"))
            system = optional_text(row, "system")
            turns = [Turn("system", system)] * bool(system.strip()) + before + turns
            return Sample(turns, task, _rest(row, used))
        return Sample(turns, task, _rest(row, used) if not used.issuperset(row) else {})

    task, more, answer = (("", column) for column in (instruction, given, response))
    columns = frozenset({instruction, given, response})
    return Reader(read, Exchange(columns, (task,), (more,) if given else (), (answer,)))


def _history(value: Any) -> list[Turn]:
    if not value:
        return []
    if not isinstance(value, list):
        raise BadRow("bad-turns", f"history: {_kind(value)}")
    turns = []
    for pair in value:
        if not isinstance(pair, list) or len(pair) != 2:
            raise BadRow("bad-turns", "history: not a list of pairs")
        for speaker, said in zip(("user", "assistant"), pair, strict=True):
            if not isinstance(said, str):
                raise BadRow("not-text", f"history: {_kind(said)}")
            turns.append(Turn(speaker, said))
    return turns


def dialogue(
    column: str, role: str, content: str, roles: Mapping[str, str] | None = None
) -> Reader:
    """Return the reader of rows with a list of turns in `column`."""
    speakers = _SPEAKERS | dict(roles or {})
    used = frozenset({column, "system"})

    def read(row: dict[str, Any]) -> Sample:
        if column not in row:
            raise BadRow("missing-column", column)
        turns = turns_of(row[column], role, content, speakers)
        system = optional_text(row, "system")
        if system.strip() and (not turns or turns[0].speaker != "system"):
            turns.insert(0, Turn("system", system))
        return _with_tools(turns, row, used)

    return Reader(read)


def turns_of(value: Any, role: str, content: str, speakers: Mapping[str, str]) -> list[Turn]:
    """Return a row's list of turns as speaker and text; other key names are tried too."""
    if not isinstance(value, list):
        raise BadRow("null-text" if is_null(value) else "bad-turns", _kind(value))
    turns: list[Turn] = []
    for turn in value:
        turn = tools.parsed(turn)
        if not isinstance(turn, dict):
            raise BadRow("bad-turns", f"a turn is {_kind(turn)}")
        if role not in turn and "role" in turn:
            said_by, said = turn["role"], turn.get("content")
        elif role not in turn and "from" in turn:
            said_by, said = turn["from"], turn.get("value")
        else:
            said_by, said = turn.get(role), turn.get(content)
        speaker = speakers.get(said_by.lower()) if isinstance(said_by, str) else None
        if speaker is None:
            raise BadRow("unknown-role", repr(said_by)[:80])
        turns.append(_turn(speaker, said, turn))
    return turns


def _turn(speaker: str, said: Any, turn: dict[str, Any]) -> Turn:
    """Return a turn with what its object holds besides, of the fields that its speaker may have."""
    if speaker == "assistant":
        thinking = next(filter(None, (tools.text_in(turn, name) for name in _THINKING)), None)
        calls = tools.calls_of(turn.get("tool_calls") or turn.get("function_call"))
        if thinking or calls:
            text = "" if is_null(said) else _said(said)
            return Turn(speaker, text, thinking, calls, tools.text_in(turn, "name"))
    elif speaker == "call":
        calls = tools.calls_in(said)
        if calls is not None:
            return Turn("assistant", "", None, calls)
    elif speaker == "tool":
        name, call = tools.text_in(turn, "name"), tools.text_in(turn, "tool_call_id")
        return Turn(speaker, _said(said), None, None, name, call)
    return Turn(speaker, _said(said))


_THINKING = ("thinking", "reasoning_content", "reasoning")  # what others call it


def _with_tools(turns: list[Turn], row: dict[str, Any], used: frozenset[str]) -> Sample:
    """Return a sample of turns with the tools of its row, which are still in its `meta` too."""
    listed = (tools.tools_of(row.get(column)) for column in _TOOLS)
    given = next((one for one in listed if one is not None), None)
    return Sample(turns, None, _rest(row, used), None, given)


_TOOLS = ("tools", "functions")


def without_tools(meta: dict[str, Any]) -> dict[str, Any]:
    """Return a row's `meta` without the column that tools were read from."""
    taken = next((name for name in _TOOLS if tools.tools_of(meta.get(name)) is not None), None)
    return {name: value for name, value in meta.items() if name != taken}


def opened_up(sample: Sample) -> Sample:
    """Return a sample with what its assistant turns hold as text taken out of it.

    That is a thought in `<think>` marks at the beginning of a turn, and calls in `<tool_call>`
    marks at its end, unless the system turn asks for such marks: they then belong to the text.
    """
    if not any(turn.speaker == "assistant" and "<t" in turn.said for turn in sample.turns):
        return sample
    asked = any(turn.speaker == "system" and "<tool_call>" in turn.said for turn in sample.turns)
    turns = [turn if turn.speaker != "assistant" else _marks(turn, asked) for turn in sample.turns]
    return sample._replace(turns=turns) if turns != sample.turns else sample


def _marks(turn: Turn, asked: bool) -> Turn:
    if turn.thinking is None:
        said, thinking = tools.thought_in(turn.said)
        turn = turn._replace(said=said, thinking=thinking)
    if turn.tool_calls is None and not asked:
        said, calls = tools.marked_calls(turn.said)
        turn = turn._replace(said=said, tool_calls=calls)
    return turn


def _said(said: Any) -> str:
    """Return a turn's text; OpenAI's list of text parts is joined."""
    if isinstance(said, str):
        return said
    if isinstance(said, list):
        parts = [part.get("text") if isinstance(part, dict) else part for part in said]
        texts = [part for part in parts if isinstance(part, str)]
        if not texts or len(texts) < len(parts):
            raise BadRow("not-text", "a turn holds parts that are no text")
        return "".join(texts)
    raise BadRow("null-text" if is_null(said) else "not-text", f"a turn's text: {_kind(said)}")


def prompt_completion(completion: str) -> Reader:
    """Return the reader of prompt–completion rows; both may be text or lists of turns."""
    plain = single_turn("prompt", "", completion)
    used = frozenset({"prompt", completion})

    def read(row: dict[str, Any]) -> Sample:
        if isinstance(row.get("prompt"), list):
            turns = turns_of(row["prompt"], "role", "content", _SPEAKERS)
            said = row.get(completion)
            if isinstance(said, str):
                turns.append(Turn("assistant", said))
            else:
                turns += turns_of(said, "role", "content", _SPEAKERS)
            return _with_tools(turns, row, used)
        return plain(row)

    return Reader(read, plain.exchange)


#: Format names and their columns, the most telling first: `auto` takes the first that a row has.
_KNOWN: list[tuple[str, frozenset[str], Reader]] = [
    ("messages", frozenset({"messages"}), dialogue("messages", "role", "content")),
    ("sharegpt", frozenset({"conversations"}), dialogue("conversations", "from", "value")),
    ("sharegpt", frozenset({"conversation"}), dialogue("conversation", "from", "value")),
    ("alpaca", frozenset({"instruction", "output"}), single_turn("instruction", "input", "output")),
    (
        "dolly",
        frozenset({"instruction", "context", "response"}),
        single_turn("instruction", "context", "response"),
    ),
    (
        "gpteacher",
        frozenset({"instruction", "response"}),
        single_turn("instruction", "input", "response"),
    ),
    ("prompt-completion", frozenset({"prompt", "completion"}), prompt_completion("completion")),
    ("prompt-completion", frozenset({"prompt", "response"}), prompt_completion("response")),
    ("question-answer", frozenset({"question", "answer"}), single_turn("question", "", "answer")),
]

KNOWN_COLUMNS = "; ".join(f"{name}: {', '.join(sorted(columns))}" for name, columns, _ in _KNOWN)


def named(name: str, columns: Iterable[str]) -> Reader:
    """Return the reader of a format, in the variant that `columns` show."""
    variants = [(needed, reader) for known, needed, reader in _KNOWN if known == name]
    held = set(columns)
    return next((reader for needed, reader in variants if needed <= held), variants[0][1])


def recognised(columns: Iterable[str]) -> tuple[str, Reader] | None:
    """Return the first known format whose columns are all there."""
    held = set(columns)
    return next(((name, reader) for name, needed, reader in _KNOWN if needed <= held), None)
