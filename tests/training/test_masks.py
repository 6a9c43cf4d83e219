"""Which tokens are trained, beside TRL's own masks in the chat templates that it ships."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import pytest
import trl
from hypothesis import given, settings
from hypothesis import strategies as st
from trl.chat_template_utils import get_training_chat_template

from sft_diversity.core import chat
from sft_diversity.core.errors import UsageError
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


def compare(family, messages):
    """Check that TRL's mask is ours and what it trains behind the end of a turn."""
    tokenizer = tokenizer_of(family)
    marked = tokenizer.apply_chat_template(
        messages,
        chat_template=training_template(family),
        return_dict=True,
        return_assistant_tokens_mask=True,
    )
    ids, labels = chat.render(messages, tokenizer)
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


texts = st.text(st.characters(codec="utf-8", exclude_characters="<>|｜▁"), max_size=30)


@settings(max_examples=40)
@given(
    family=st.sampled_from(WITH_MASKS),
    turns=st.lists(st.tuples(texts, texts.filter(str.strip)), min_size=1, max_size=3),
)
def test_masks_are_those_of_trl_for_any_texts(family, turns):
    compare(family, dialogue([text for turn in turns for text in turn]))


def test_masks_are_shown_sample_by_sample_and_nothing_is_written(base, tmp_path):
    answers = [dialogue(["What is rain?", "It taps."]), dialogue(["And snow?", ""])]
    subset = write_subset(tmp_path / "subset", answers)
    seen = finetune(subset, show_masks=5, model=str(base), max_length=64)["masks"]
    assert [sample["id"][-1] for sample in seen] == ["0", "1"]
    for sample, (_, answer) in zip(seen, (answers[0], answers[1]), strict=True):
        trained = "".join(text for text, marked in sample["pieces"] if marked)
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
