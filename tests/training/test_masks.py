"""Which tokens are trained, beside TRL's own masks in the chat templates that it ships."""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import trl
from hypothesis import given, settings
from hypothesis import strategies as st
from trl.chat_template_utils import get_training_chat_template

from sft_diversity.core import chat, forms
from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.training import rendering
from sft_diversity.training.show import finetuned
from sft_diversity.verbs.training import finetune
from tests import tiny
from tests.training.conftest import write_subset

FILES = {
    path.stem: path.read_text("utf-8")
    for path in sorted((Path(trl.__file__).parent / "chat_templates").glob("*.jinja"))
    if not re.match("idefics|llava|smolvlm", path.name)  # of images
}
SHIPPED = {name: text for name, text in FILES.items() if not name.endswith("_training")}
MARKS = sorted(set(re.findall(r"<[|｜]?/?\w[\w▁]*[|｜]?>", "".join(FILES.values()))))
THREE = ["What is rain?", "It taps the roof.", "And snow?", "It falls, too.", "Why?", "Cold."]


@functools.cache
def _with_marks():
    tokenizer = tiny.tokenizer()
    tokenizer.add_tokens(MARKS, special_tokens=True)
    return tokenizer


def tokenizer_of(family):
    tokenizer = _with_marks()
    tokenizer.chat_template = SHIPPED[family]
    return tokenizer


def dialogue(texts):
    return [{"role": ("user", "assistant")[i % 2], "content": t} for i, t in enumerate(texts)]


@functools.cache
def training_template(family):
    """Return what TRL trains with, None where it has nothing of its own."""
    try:
        return get_training_chat_template(tokenizer_of(family)) or SHIPPED[family]
    except ValueError:
        return None


def unmarked(turns):
    """Return fitted turns without the marks around thoughts."""
    text = json.dumps(turns, ensure_ascii=False)
    return json.loads(text.replace(forms.THOUGHT, "").replace(forms.THOUGHT_END, ""))


def compare(family, messages, tools=None):
    """Check that TRL's mask is ours and what it trains behind the end of a turn."""
    tokenizer = tokenizer_of(family)
    form = chat._form(tokenizer, training_template(family))
    marked = tokenizer.apply_chat_template(
        unmarked(forms.shaped(messages, form)),
        tools=json.loads(tools) if tools and form.tools else None,
        chat_template=training_template(family),
        return_dict=True,
        return_assistant_tokens_mask=True,
    )
    ids, labels = chat.render(messages, tokenizer, tools)
    assert ids == marked["input_ids"][: len(ids)]
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    ours = [label != chat.IGNORED for label in labels]
    last = None
    theirs = marked["assistant_masks"]
    for i, (token, mark) in enumerate(zip(marked["input_ids"], theirs, strict=True)):
        if i < len(ids) and ours[i]:
            assert mark
            last = token
        elif mark:  # nobody generates on after the token that ends a turn
            assert last in special
            assert token in special or not tokenizer.decode([token]).strip()


WITH_MASKS = [family for family in SHIPPED if training_template(family)]


def test_trl_keeps_templates_for_most_families():
    assert len(WITH_MASKS) > 25


@pytest.mark.parametrize("family", SHIPPED)
@pytest.mark.parametrize("turns", [2, 6])
def test_every_family_trains_its_answers_and_what_ends_them(family, turns):
    tokenizer = tokenizer_of(family)
    ids, labels = chat.render(dialogue(THREE[:turns]), tokenizer)
    trained = tokenizer.decode([label for label in labels if label != chat.IGNORED])
    assert ids[-1] == labels[-1]  # the end of the last turn, and nothing behind it
    assert [text for text in THREE if text in trained] == THREE[1:turns:2]


@pytest.mark.parametrize("family", WITH_MASKS)
def test_masks_are_those_of_trl_up_to_the_end_of_each_turn(family):
    compare(family, dialogue(THREE[:2]))
    compare(family, dialogue(THREE))


FUNCTION = {"name": "look_up", "arguments": {"bird": "wren", "when": "now"}}
CALL = {"id": "call00000", "type": "function", "function": FUNCTION}
TOOL = {
    "name": "look_up",
    "description": "Where birds are.",
    "parameters": {"type": "object", "properties": {"bird": {"type": "string"}}},
    "return": {"type": "string"},
}
TOOLS = json.dumps([{"type": "function", "function": TOOL}])
CALLED = [
    {"role": "user", "content": "Where is it?"},
    {"role": "assistant", "content": "", "tool_calls": json.dumps([CALL])},
    {"role": "tool", "content": "In the oak.", "name": "look_up", "tool_call_id": "call00000"},
    {"role": "assistant", "content": "It sits in the oak."},
    {"role": "user", "content": "Why?"},
    {"role": "assistant", "content": "It rains."},
]
THOUGHT = [
    turn | ({"thinking": f"So, {i}?"} if turn["role"] == "assistant" else {})
    for i, turn in enumerate(dialogue(THREE))
]
ALTERNATE = {"cohere", "cohere2", "gemma", "gemma3"}  # users and assistants alone
UNWRITTEN = {"phi3", "phi3_5"}  # what a tool answers is left out
WRITES = {"deepseekv3", "glm4moe", "gptoss", "qwen2_5", "qwen3", "qwen3_5_think", "muse_glimmer"}


@pytest.mark.parametrize("family", WITH_MASKS)
def test_masks_of_calls_and_results_are_those_of_trl(family):
    if family in ALTERNATE | UNWRITTEN:
        why = "does not write what tools answer" if family in UNWRITTEN else "must alternate"
        with pytest.raises(DataError, match=why):
            chat.render(CALLED, tokenizer_of(family), TOOLS)
        return
    compare(family, CALLED, TOOLS)
    tokenizer = tokenizer_of(family)
    ids, labels = chat.render(CALLED, tokenizer, TOOLS)
    trained = tokenizer.decode([t for t in labels if t != chat.IGNORED])
    for said in ("look_up", "wren", "It sits in the oak.", "It rains."):
        assert said in trained
    assert "In the oak." not in trained
    assert "In the oak." in tokenizer.decode(ids)
    form = chat._form(tokenizer, training_template(family))
    assert form.calls or family not in WRITES
    assert ("Where birds are." in tokenizer.decode(ids)) == form.tools


@pytest.mark.parametrize("family", WITH_MASKS)
def test_masks_of_thoughts_are_those_of_trl_and_thoughts_are_told_apart(family):
    compare(family, THOUGHT)
    tokenizer = tokenizer_of(family)
    made = chat.rendering(THOUGHT, tokenizer)
    thinking = np.array(made.thoughts)
    ids, labels = np.array(made.input_ids), np.array(made.labels)
    thoughts = tokenizer.decode(ids[thinking])
    kept = [turn["thinking"] for turn in THOUGHT[1::2] if turn["thinking"] in thoughts]
    assert len(kept) == 3 - made.unthought
    assert kept[-1:] == ([] if family == "deepseekv3" else ["So, 5?"])  # it leaves out all
    assert len(thoughts) <= len("".join(kept)) + 2 * len(kept)  # a token may end behind the thought
    read = chat.rendering(THOUGHT, tokenizer, train_thinking=False)
    assert read.input_ids == made.input_ids
    assert (np.array(read.labels)[thinking] == chat.IGNORED).all()
    assert (np.array(read.labels)[~thinking] == labels[~thinking]).all()
    assert (labels[thinking] == ids[thinking]).all()


@pytest.mark.parametrize("family", sorted(set(SHIPPED) - set(WITH_MASKS)))
def test_what_is_trained_without_marks_is_what_the_assistant_says(family):
    tokenizer = tokenizer_of(family)
    _, labels = chat.render(CALLED, tokenizer, TOOLS)
    trained = tokenizer.decode([t for t in labels if t != chat.IGNORED])
    parts = ["look_up", "wren", "It sits in the oak.", "It rains."]
    assert [part for part in parts if part in trained] == parts
    assert "In the oak." not in trained
    assert "Where birds are." not in trained
    made = chat.rendering(THOUGHT, tokenizer)
    trained = tokenizer.decode([t for t in made.labels if t != chat.IGNORED])
    written = sum(turn["thinking"] in trained for turn in THOUGHT[1::2])
    assert (written, made.unthought) in ((3, 0), (1, 2), (0, 3))


texts = st.text(st.characters(codec="utf-8", exclude_characters="<>|｜▁"), max_size=30)


@settings(max_examples=40)
@given(
    family=st.sampled_from(WITH_MASKS),
    turns=st.lists(st.tuples(texts, texts.filter(str.strip)), min_size=1, max_size=3),
)
def test_masks_are_those_of_trl_for_any_texts(family, turns):
    compare(family, dialogue([text for turn in turns for text in turn]))


def test_thoughts_are_marked_counted_and_read_alone_when_asked(base, tmp_path):
    asked = {"role": "user", "content": "Why?"}
    thinking = [asked, {"role": "assistant", "content": "Rain.", "thinking": "Clouds?"}]
    empty = [asked, {"role": "assistant", "content": "", "thinking": "Hm."}]
    folder = tmp_path / "rows"
    folder.mkdir()
    pq.write_table(pa.table({"messages": [thinking, empty]}), folder / "a.parquet")
    shown = {
        told: finetune(folder, show_masks=2, model=str(base), train_thinking=told)["masks"]
        for told in (True, False)
    }
    text = finetuned({"masks": shown[True]})
    assert "⟦<think>\n⟨Clouds?⟩\n</think>\n\nRain.<|endoftext|>⟧" in text
    assert "are thoughts" in text
    assert "⟦<think>\n⟧⟨Clouds?⟩⟦\n</think>\n\nRain." in finetuned({"masks": shown[False]})
    trained = [one["trained"] for one in shown[True]]
    assert [one["trained"] + one["thinking"] for one in shown[False]] == trained


def test_a_dialogue_without_a_trained_token_says_which_turn_lost_it():
    turns = [*dialogue(["Why?", ""]), *dialogue(["How?", ""])]
    turns[3]["thinking"] = "Hm."
    said = rendering._without_label(np.zeros(7, np.int32), turns, False)
    assert said == (
        "7 tokens, no label: turn 2, the assistant's, is empty; "
        "turn 4, the assistant's, is a thought, which is not trained"
    )


def test_masks_are_shown_sample_by_sample_and_nothing_is_written(base, tmp_path):
    answers = [dialogue(["What is rain?", "It taps."]), dialogue(["And snow?", ""])]
    subset = write_subset(tmp_path / "subset", answers)
    seen = finetune(subset, show_masks=5, model=str(base), max_length=64)["masks"]
    assert [sample["id"][-1] for sample in seen] == ["0", "1"]
    for sample, (_, answer) in zip(seen, (answers[0], answers[1]), strict=True):
        trained = "".join(text for text, marked, _ in sample["pieces"] if marked)
        assert trained == answer["content"] + tiny.EOS
        assert sample["trained"] == len(tiny.tokenizer()(trained)["input_ids"])
    assert [path.name for path in tmp_path.iterdir()] == ["subset"]
    text = finetuned({"masks": seen})
    assert "⟦It taps.<|endoftext|>⟧" in text


def test_what_cannot_be_trained_is_shown_with_its_reason(base, tmp_path):
    subset = write_subset(tmp_path / "subset", [dialogue(["Why? " * 40, "Cold."])])
    (seen,) = finetune(subset, show_masks=1, model=str(base), max_length=16)["masks"]
    assert seen["unusable"].startswith("cut-off: ")
    assert "left out, cut-off" in finetuned({"masks": [seen]})


def test_a_run_needs_a_place():
    with pytest.raises(UsageError, match="name the folder to write with --out"):
        finetune("subset")
