"""gigatoken stands in for a tokenizer only where it gives the same ids."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sft_diversity.core import folder, resources
from sft_diversity.core.parquet import read
from sft_diversity.levels import quick_tokens, tokens
from sft_diversity.levels.tokenizing import Tokenizer, load_tokenizer
from tests import tiny
from tests.levels import making
from tests.making import make

pytest.importorskip("gigatoken")

#: How Qwen-2 and Llama-3 split text, from their tokenizers' files.
PATTERNS = {
    digits: r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
    + digits
    + r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    for digits in (r"\p{N}", r"\p{N}{1,3}")
}
TEXTS = [("What is rain?", "Rain taps the roof."), ("你好", "naïve café"), ("a", "<|pad|> b")]


def trained(pattern, corpus=(tiny.TEXT, *quick_tokens.HARD)):
    """A byte-level BPE of a pattern."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
    bytes_of = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.pre_tokenizer = pre_tokenizers.Sequence([split, bytes_of])
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=["<|endoftext|>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    made.train_from_iterator(corpus, trainer)
    return made


READERS = {pattern: trained(pattern) for pattern in PATTERNS.values()}


@pytest.mark.parametrize("pattern", PATTERNS.values())
@given(texts=st.lists(st.text(max_size=60), min_size=1, max_size=40))
@settings(max_examples=60, deadline=None)
def test_ids_are_the_tokenizers_own(pattern, texts):
    backend = READERS[pattern]
    quick = quick_tokens.quick_tokens(backend)
    assert quick is not None
    ids, begins = quick._engine.encode(texts)
    expected = [backend.encode(text, add_special_tokens=False).ids for text in texts]
    assert [ids[a:b].tolist() for a, b in itertools.pairwise(begins)] == expected


def test_what_it_cannot_read_is_left_to_the_tokenizer():
    for file in (resources.tokenizer(), resources.packaged_encoder() / "tokenizer.json"):
        assert load_tokenizer(str(file)).library.startswith("tokenizers ")


def test_a_tokenizer_that_it_reads_otherwise_is_not_left_to_it(monkeypatch):
    import gigatoken

    by_words, by_digits = READERS.values()
    real = gigatoken.Tokenizer
    monkeypatch.setattr(gigatoken, "Tokenizer", lambda backend: real(by_digits))
    assert quick_tokens.quick_tokens(by_words) is None
    assert quick_tokens.quick_tokens(by_digits) is not None


def counted(out, monkeypatch, tokenizer, corpus):
    monkeypatch.setattr(tokens, "load_tokenizer", lambda name: tokenizer)
    said: list[str] = []
    manifest = make("tokens", {}, out, corpus, work=out.parent / out.name / "work", say=said.append)
    rows = [read(path).to_pylist() for path in sorted((out / "counts").glob("*.parquet"))]
    manifest.pop("run")
    return folder.read_manifest(out)["run"]["tokens_by"], rows, manifest, said


def test_a_pass_is_the_same_by_either_and_one_that_differs_begins_anew(tmp_path, monkeypatch):
    corpus = making.corpus(tmp_path / "corpus", TEXTS * 3)
    one = READERS[PATTERNS[r"\p{N}{1,3}"]]
    plain, quick, wrong = (Tokenizer(one, "revision") for _ in range(3))
    plain.distrust()
    assert wrong._quick is not None
    wrong._quick._engine = quick_tokens.Gigatoken(trained(PATTERNS[r"\p{N}"], ["abc"]))
    by = {
        name: counted(tmp_path / name, monkeypatch, tokenizer, corpus)
        for name, tokenizer in {"plain": plain, "quick": quick, "wrong": wrong}.items()
    }
    assert by["plain"][1:3] == by["quick"][1:3] == by["wrong"][1:3]
    assert [by[name][0].split()[0] for name in by] == ["tokenizers", "gigatoken", "tokenizers"]
    assert not any("anew" in line for line in by["quick"][3])
    assert any("counted anew with the tokenizer" in line for line in by["wrong"][3])
