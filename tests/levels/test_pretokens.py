"""Each pre-token encoded once: the ids are the tokenizer's own, whatever a text is made of."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, pre_tokenizers

from sft_diversity.core import resources
from sft_diversity.levels import pretokens, quick_tokens
from sft_diversity.levels.tokenizing import load_tokenizer

BACKEND = Tokenizer.from_file(str(resources.tokenizer() / "tokenizer.json"))
ENGINE = pretokens.Pretokens(BACKEND)
#: What the pattern's alternatives look at.
TELLING = (
    "'’sSſtTrRevVmMlLdD \t\n\r\v\u0085\u00a0\u2028\u3000aÉß1²Ⅷ\u0301\u0903.-!🙂你क\u200b\x1c\0"
)
TEXT = st.text(st.sampled_from(TELLING), max_size=30) | st.text(max_size=30)


def cut(engine, texts):
    ids, begins = engine.encode(texts)
    return [ids[a:b].tolist() for a, b in itertools.pairwise(begins)]


def expected(texts):
    return [BACKEND.encode(text, add_special_tokens=False).ids for text in texts]


@settings(max_examples=400, deadline=None)
@given(st.lists(TEXT, max_size=12))
def test_ids_are_the_tokenizers_own(texts):
    assert cut(ENGINE, texts) == expected(texts)


@settings(max_examples=40, deadline=None)
@given(st.lists(TEXT, min_size=1, max_size=12))
def test_full_tables_grow_and_forgotten_pieces_come_back(texts):
    engine = pretokens.Pretokens(BACKEND)
    engine._slots = np.full(2, -1, np.int64)
    engine._begins, engine._bytes = np.zeros(2, np.int64), np.zeros(1, np.uint8)
    assert cut(engine, texts) == expected(texts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretokens, "_MOST_PIECES", 0)
        assert cut(engine, texts[::-1]) == expected(texts[::-1])


def test_every_script_has_the_classes_that_the_pattern_gives_it():
    """Letters, marks, numbers, spaces and all else, of Unicode as the tokenizer knows it."""
    codes = {*range(0x700), *range(0x2000, 0x2100), *range(0x3000, 0x3040), *range(0x897, 0x8A0)}
    codes |= {code for code in range(0x700, 0x110000, 499) if not 0xD800 <= code < 0xE000}
    texts = [
        f"a{letter}a1{letter}1.{letter}. {letter}'s{letter}\n{letter}\n"
        for letter in map(chr, sorted(codes))
    ]
    assert cut(ENGINE, texts) == expected(texts)


def test_the_packaged_tokenizer_is_read_so_and_others_are_not():
    assert "each pre-token once" in load_tokenizer(str(resources.tokenizer())).library
    other = Tokenizer.from_str(BACKEND.to_str())
    other.pre_tokenizer = pre_tokenizers.ByteLevel()
    assert not quick_tokens._splits_as_packaged(other)
    other = Tokenizer.from_str(BACKEND.to_str())
    other.add_tokens(["naïve"])
    assert not quick_tokens._splits_as_packaged(other)
