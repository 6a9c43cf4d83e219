"""Samples whose assistant turns are written anew, one after another; pure but for the asking."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import pyarrow as pa

from sft_diversity.core import schema
from sft_diversity.core.hashing import text_key
from sft_diversity.core.messages import component_text, id_texts, without_nulls
from sft_diversity.endpoint.answers import Failure, Outcome, Request, without_thoughts

Way = Literal["answer", "revise"]
Turn: TypeAlias = dict[str, Any]
#: Asks for a round of answers; the number of the round, from 0, comes with them.
Ask = Callable[[Iterable[Request], int], Iterator[tuple[str, Outcome]]]

#: Version of what is asked; part of the key of every answer. Whoever changes a prompt raises it.
PROMPTS: dict[Way, str] = {"answer": "rewrite-answer-1", "revise": "rewrite-revise-1"}
_RAW = 65_536  # characters of an answer that the quarantine keeps
_SPEAKERS = {"system", "user", "assistant"}
_REVISE = (
    "{question}\n\n---\nAn answer to the message above is given below. Write it anew in your own "
    "words: keep what is right, mend what is wrong, keep its language and any form that the "
    "message asks for. Give the new answer alone.\n\n<answer>\n{answer}\n</answer>"
)

#: Reason codes of samples that are not asked for; those of the rest are the endpoint's, and `cut`,
#: an answer that ended at `max_tokens`.
NOT_ASKED = {
    "other-turns": "a turn is neither the system's, the user's nor the assistant's, or calls tools",
    "nothing-asked": "no assistant turn follows a user's",
}

#: What a row on the way has besides: the id it had, and how it went (`reason` is null if well).
_PROGRESS = pa.schema(
    [
        ("old_id", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("raw", pa.string()),
        ("tokens_in", pa.int64()),
        ("tokens_out", pa.int64()),
    ]
)


def parts_like(samples: pa.Schema) -> pa.Schema:
    """Return the schema of samples on the way."""
    return pa.schema([*schema.samples_like(samples), *_PROGRESS])


@dataclass
class Dialogue:
    """A sample's turns on the way: `turns` has the new answers so far, `originals` the old ones."""

    turns: list[Turn]
    places: list[int] = field(default_factory=list)  # assistant turns that answer a user's
    reason: str | None = None
    detail: str = ""
    raw: str = ""
    tokens_in: int = 0
    tokens_out: int = 0


def rewritten(samples: pa.Table, ask: Ask, way: Way, system: str | None, model: str) -> pa.Table:
    """Return the samples with new answers, schema of `parts_like`, in their order.

    A sample that got none stays as it was, with the reason in its row and in its `meta`. One that
    got them has a new id, the hash of its new turns.
    """
    rows = samples.to_pylist()
    dialogues = [opened(row["messages"]) for row in rows]
    rewrite(dialogues, ask, way, system)
    made = [_row(row, one, way, model) for row, one in zip(rows, dialogues, strict=True)]
    return pa.Table.from_pylist(made, parts_like(samples.schema))


def opened(messages: Iterable[Mapping[str, str]]) -> Dialogue:
    """Return a dialogue ready to be rewritten, or with the reason why it cannot be."""
    turns = [without_nulls(turn) for turn in messages]
    roles = [turn["role"] for turn in turns]
    if not set(roles) <= _SPEAKERS or any(turn.get("tool_calls") for turn in turns):
        return Dialogue(turns, reason="other-turns")
    places = [i for i in range(1, len(roles)) if roles[i] == "assistant" and roles[i - 1] == "user"]
    return Dialogue(turns, places, reason=None if places else "nothing-asked")


def rewrite(dialogues: list[Dialogue], ask: Ask, way: Way, system: str | None) -> None:
    """Replace the assistant turns of all dialogues, in rounds: all first turns, all second, …

    A later turn is asked for after the new earlier ones. A dialogue whose turn fails is not gone on
    with; its `reason` says why.
    """
    number = 0
    while True:
        live = {
            str(i): one
            for i, one in enumerate(dialogues)
            if one.reason is None and number < len(one.places)
        }
        if not live:
            return
        asked = ((i, question(one, number, way, system)) for i, one in live.items())
        for i, outcome in ask(asked, number):
            _take(live[i], number, outcome)
        number += 1


def question(one: Dialogue, number: int, way: Way, system: str | None) -> list[Turn]:
    """Return the messages after which the `number`-th new answer is to come."""
    place = one.places[number]
    asked = [{"role": t["role"], "content": t["content"]} for t in one.turns[:place]]
    if way == "revise":
        text = _REVISE.format(question=asked[-1]["content"], answer=one.turns[place]["content"])
        asked = [*asked[:-1], {"role": "user", "content": text}]
    if system is not None and asked[0]["role"] != "system":
        asked = [{"role": "system", "content": system}, *asked]
    return asked


def _take(one: Dialogue, number: int, outcome: Outcome) -> None:
    if isinstance(outcome, Failure):
        one.reason, one.detail = outcome.reason, outcome.detail
        return
    one.tokens_in += outcome.tokens_in
    one.tokens_out += outcome.tokens_out
    text = without_thoughts(outcome.text)
    if outcome.finish == "length" or not text:
        one.reason, one.raw = ("cut" if outcome.finish == "length" else "empty"), outcome.text
        return
    place = one.places[number]
    one.turns[place] = {"role": "assistant", "content": text}


def _row(row: dict[str, Any], one: Dialogue, way: Way, model: str) -> dict[str, Any]:
    how = {
        "old_id": row["id"],
        "reason": one.reason,
        "detail": one.detail,
        "raw": one.raw[:_RAW],
        "tokens_in": one.tokens_in,
        "tokens_out": one.tokens_out,
    }
    said: dict[str, Any] = {"model": model, "way": way}
    if row.get("pick") is not None:
        said["pick"] = row["pick"]
    if one.reason is not None:
        return row | how | {"meta": _meta(row["meta"], {**said, "not_rewritten": one.reason})}
    said |= {"id": row["id"], "originals": _spoken(row["messages"])}
    new = {
        "id": text_key(*id_texts(one.turns, row.get("tools"))),
        "messages": one.turns,
        "response": component_text(one.turns, "response"),
        "meta": _meta(row["meta"], said),
    }
    return row | how | new


def _meta(meta: str | None, said: dict[str, Any]) -> str:
    """Return a sample's `meta` with a key `rewrite`; an earlier rewriting stays inside it."""
    held = json.loads(meta or "{}")
    if not isinstance(held, dict):
        held = {"meta": held}
    if "rewrite" in held:
        said = said | {"before": held["rewrite"]}
    return json.dumps(
        held | {"rewrite": said}, sort_keys=True, ensure_ascii=False, separators=(",", ":")
    )


def _spoken(turns: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the assistant's turns."""
    return [turn["content"] for turn in turns if turn["role"] == "assistant"]
