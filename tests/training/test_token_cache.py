"""Tokens that are kept: made once for the same samples and tokenizer, and the same as new ones."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from sft_diversity.core import chat
from sft_diversity.core.errors import DataError
from sft_diversity.training import rendering, samples, token_cache
from sft_diversity.training.models import BASES, load_right_padding_tokenizer
from tests.training.conftest import dialogue, write_subset


@pytest.fixture
def asked(base, config, tmp_path):
    """Return a function that asks for a subset's tokens, and the list of what was rendered."""
    model = BASES.find(base)
    tokenizer = load_right_padding_tokenizer(model)
    chat.ensure_template(tokenizer)
    rendered = []

    def ask(subset, **options):
        source, said = samples.find_samples(subset), config(**options)

        def render():
            rendered.append(source.key)
            return rendering.render_samples(source, tokenizer, said.max_length, said.on_truncation)

        return token_cache.kept(source, model, said, tmp_path / "work", render)

    return ask, rendered


def test_the_same_samples_are_tokenised_once_whatever_else_a_run_asks(asked, tmp_path):
    ask, rendered = asked
    talks = [dialogue(i) for i in range(9)]
    talks[4] = [{"role": "user", "content": "nobody answers"}]
    subset = write_subset(tmp_path / "subset", talks)
    new, again = ask(subset), ask(subset, train_seed=5, optimizer="lion")
    assert len(rendered) == 1
    assert len(new.unusable) == 1
    for field in dataclasses.fields(new):
        one, other = getattr(new, field.name), getattr(again, field.name)
        if field.type == "list[Tokens]":
            assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
            assert {a.dtype for a in other} == {a.dtype for a in one}
        else:
            assert one == other, field.name


def test_others_are_tokenised_anew(asked, tmp_path):
    ask, rendered = asked
    subset = write_subset(tmp_path / "one", [dialogue(i) for i in range(5)])
    assert ask(subset).truncated < ask(subset, max_length=16).truncated
    ask(write_subset(tmp_path / "two", [dialogue(i) for i in range(6)]))
    assert len(rendered) == 3


def test_a_fault_leaves_nothing_in_the_way(asked, tmp_path):
    ask, rendered = asked
    subset = write_subset(tmp_path / "one", [dialogue(i) for i in range(5)])
    for _ in range(2):
        with pytest.raises(DataError, match="max_length is 16"):
            ask(subset, max_length=16, on_truncation="error")
    assert len(rendered) == 2
