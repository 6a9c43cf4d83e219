"""Which tokens are trained, beside TRL's own masks: every chat template that its package ships.

    python benchmarks/masks_vs_trl.py [--dialogues 1000] [--seed 0] [--families qwen3,llama3]

Random dialogues of four sorts: one exchange, three, three with tools (a call, its result, an
answer), three with thoughts; words from the sample's texts among line breaks, marks and white space
at their ends. The tokenizer is a small byte-level BPE to which all control tokens of all templates
were added. TRL's mask is what its trainer uses: the template's own marks, or those of the template
that it keeps for training. Per family and sort: dialogues with equal masks, those that differ in
what TRL trains behind the token that ends a turn, and those that differ otherwise; "in the text"
where the template leaves calls or thoughts out and both are given them as text; where TRL has
nothing, dialogues whose trained text is what the assistant says and the tokens that end it.
Writes benchmarks/results/masks_vs_trl.json; of some families alone it goes on with what is there.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import trl
from trl.chat_template_utils import get_training_chat_template

from sft_diversity.core import chat, folder, forms, machine
from sft_diversity.core.errors import DataError
from sft_diversity.core.messages import calls, for_trainers
from tests import tiny

RESULTS = Path(__file__).parent / "results" / "masks_vs_trl.json"
FILES = {
    path.stem: path.read_text("utf-8")
    for path in sorted((Path(trl.__file__).parent / "chat_templates").glob("*.jinja"))
    if not re.match("idefics|llava|smolvlm", path.name)  # of images
}
PIECES = [
    "rain", "the sea", "1,024", "naïve", "日本", "—", "\n", "\n\n", "  ", "`x = 1`", "**bold**",
    "[/x]", "{{ y }}", "Why?", "Because.", "…", "\t", "🦉", "A:", "user", "assistant", "model",
]  # fmt: skip
SORTS = ("one turn", "three turns", "tools", "thinking")
Turns = list[dict[str, Any]]


def with_marks() -> Any:
    """Return the tokenizer; marks of thoughts are text to it, as they are in most models."""
    tokenizer = tiny.tokenizer()
    marks = re.findall(r"<[|｜]?/?\w[\w▁]*[|｜]?>", "".join(FILES.values()))
    tokenizer.add_tokens(sorted(set(marks) - {"<think>", "</think>"}), special_tokens=True)
    return tokenizer


def words(drawn: np.random.Generator) -> str:
    """Return a text that is not white space alone."""
    chosen = drawn.choice(PIECES, drawn.integers(1, 12)).tolist()
    text = " ".join(chosen) if drawn.random() < 0.7 else "".join(chosen)
    return text if text.strip() else "Yes."


def function(drawn: np.random.Generator, number: int) -> dict[str, Any]:
    """Return the definition of a tool."""
    names = ["query", "count", "unit"][: drawn.integers(1, 4)]
    fields = {name: {"type": "string", "description": words(drawn)} for name in names}
    parameters = {"type": "object", "properties": fields, "required": names[:1]}
    return {
        "type": "function",
        "function": {
            "name": f"tool_{number}", "description": words(drawn), "parameters": parameters,
            "return": {"type": "string", "description": words(drawn)},
        },
    }  # fmt: skip


def called(drawn: np.random.Generator, tool: dict[str, Any], number: int) -> Turns:
    """Return a turn that calls a tool, and what the tool answers."""
    fields = tool["function"]["parameters"]["properties"]
    said = {"name": tool["function"]["name"], "arguments": {f: words(drawn) for f in fields}}
    name = f"call{number:05d}"
    call = json.dumps([{"id": name, "type": "function", "function": said}])
    text = words(drawn) if drawn.random() < 0.3 else ""
    return [
        {"role": "assistant", "content": text, "tool_calls": call},
        {"role": "tool", "content": words(drawn), "name": said["name"], "tool_call_id": name},
    ]


def dialogues(count: int, seed: int, sort: str) -> Iterator[tuple[Turns, str | None]]:
    """Yield dialogues of a sort, and their tools as JSON."""
    drawn = np.random.default_rng([seed, SORTS.index(sort)])
    for number in range(count):
        tools = [function(drawn, n) for n in range(drawn.integers(1, 4))] if sort == "tools" else []
        turns: Turns = []
        for _ in range(1 if sort == "one turn" else 3):
            turns.append({"role": "user", "content": words(drawn)})
            if tools and drawn.random() < 0.7:
                turns += called(drawn, tools[drawn.integers(len(tools))], number)
            turns.append({"role": "assistant", "content": words(drawn)})
            if sort == "thinking" and drawn.random() < 0.8:
                turns[-1]["thinking"] = words(drawn).strip()
        yield turns, json.dumps(tools) if tools else None


def compared(tokenizer: Any, template: str | None, turns: Turns, tools: str | None) -> str:
    """Return how the mask of one dialogue compares."""
    try:
        ours = chat.rendering(turns, tokenizer, tools)
    except DataError:
        ours = None
    if template is None:
        return alone(tokenizer, turns, ours)
    given = json.loads(tools) if tools else None
    theirs = masked(tokenizer, template, [for_trainers(turn) for turn in turns], given)
    if ours is None or theirs is None:
        return "refused by both" if ours is theirs else "refused by one"
    found = difference(tokenizer, ours, theirs)
    if found == "other tokens" and not forms.texts_alone(turns, tools):
        form = chat._form(tokenizer, template)
        text = json.dumps(forms.shaped(turns, form), ensure_ascii=False)
        written = json.loads(text.replace(forms.THOUGHT, "").replace(forms.THOUGHT_END, ""))
        theirs = masked(tokenizer, template, written, given if form.tools else None)
        if theirs is not None:
            found = f"in the text: {difference(tokenizer, ours, theirs)}"
    return found


def masked(tokenizer: Any, template: str, turns: Turns, tools: Any) -> Any:
    """Return TRL's tokens and mask; None where the template refuses."""
    try:
        return tokenizer.apply_chat_template(
            turns, tools=tools, chat_template=template, return_dict=True,
            return_assistant_tokens_mask=True,
        )  # fmt: skip
    except (jinja2.TemplateError, TypeError):
        return None


def difference(tokenizer: Any, ours: chat.Rendering, theirs: Any) -> str:
    """Return how two masks differ."""
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    marks = [label != chat.IGNORED for label in ours.labels]
    trained = [bool(mark) for mark in theirs["assistant_masks"]]
    if ours.input_ids != theirs["input_ids"][: len(marks)]:
        return "other tokens"
    marks += [False] * (len(trained) - len(marks))
    if marks == trained:
        return "equal"
    last = None
    for token, mine, trls in zip(theirs["input_ids"], marks, trained, strict=True):
        if mine and not trls:
            return "other"
        if trls and not mine:
            blank = token in special or not tokenizer.decode([token]).strip()
            if last not in special or not blank:
                return "other"
        last = token if mine else last
    return "equal but for what follows an end of turn"


def alone(tokenizer: Any, turns: Turns, ours: chat.Rendering | None) -> str:
    """Return whether trained text is all that the assistant says, and nobody else's."""
    if ours is None:
        return "refused"
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    trained = tokenizer.decode([t for t in ours.labels if t != chat.IGNORED])
    at, rest = 0, ""
    for turn in turns:
        if turn["role"] != "assistant":
            continue
        said = [call["function"]["name"] for call in calls(turn)] + [turn["content"].strip()]
        for text in filter(None, said if not calls(turn) else said[:1]):
            found = trained.find(text, at)
            if found < 0:
                return "answer missing"
            rest, at = rest + trained[at:found], found + len(text)
    asked = [turn["content"] for turn in turns if turn["role"] in ("user", "tool")]
    others = [text for text in asked if len(text) > 20 and text in rest + trained[at:]]
    return "answers alone" if ours.input_ids[-1] in special and not others else "other"


def main() -> None:
    """Compare all families and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dialogues", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--families", default="", help="some alone, with commas between")
    asked = parser.parse_args()
    tokenizer = with_marks()
    started = time.monotonic()
    before = json.loads(RESULTS.read_text("utf-8")) if asked.families else {}
    families, seconds = dict(before.get("families", {})), before.get("seconds", 0)
    wanted = asked.families.split(",") if asked.families else [*FILES, "ours"]
    for family in wanted:
        if family.endswith("_training"):
            continue
        tokenizer.chat_template = FILES.get(family, chat.TEMPLATE)
        try:
            template = get_training_chat_template(tokenizer) or tokenizer.chat_template
        except ValueError:
            template = None
        families[family] = {"trl": template is not None, "dialogues": asked.dialogues}
        for sort in SORTS:
            pairs = dialogues(asked.dialogues, asked.seed, sort)
            counts = Counter(compared(tokenizer, template, *pair) for pair in pairs)
            families[family][sort] = dict(counts.most_common())
        print(family, families[family], flush=True)
        result = {
            "seed": asked.seed, "trl": trl.__version__,
            "seconds": seconds + round(time.monotonic() - started),
            "machine": machine.measured_on(), "families": dict(sorted(families.items())),
        }  # fmt: skip
        RESULTS.write_text(folder.dump_json(json.loads(json.dumps(result))), "utf-8")


if __name__ == "__main__":
    main()
