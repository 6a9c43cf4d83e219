import itertools
import json
import shutil
import subprocess
import sys
from collections import Counter
from typing import Any

import numpy as np
import pytest

from sft_diversity.core import chat, folder, resources, tokens
from sft_diversity.core import corpus as corpora
from sft_diversity.core.errors import UsageError
from sft_diversity.core.parts import Part
from sft_diversity.core.tokens import TokenPass
from sft_diversity.levels import tokenizing
from sft_diversity.levels.tokenizing import count_tokens, load_tokenizer
from tests import tiny
from tests.levels import making
from tests.making import make, store

TEXTS = [
    ("What is rain?", "Rain taps the roof, the roof and the river."),
    ("你好，世界", "🙂 naïve café — ½"),
    ("one\ttwo\n\n three ", "<|endoftext|> is text here <|user|>"),
    ("a" * 5000, "x"),
    ("empty answer", ""),
]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return making.corpus(tmp_path_factory.mktemp("texts") / "corpus", TEXTS)


def as_training_reads(text, tokenizer):
    """The ids on which fine-tuning puts its loss for an answer, without the end of turn."""
    asked = {"role": "user", "content": "Why?"}
    chat.ensure_template(tokenizer)
    _, labels = chat.render([asked, {"role": "assistant", "content": text}], tokenizer)
    return [label for label in labels if label != chat.IGNORED][:-1]


@pytest.mark.parametrize("component", ["instruction", "response"])
def test_counts_and_lengths_are_the_tokenizers_own(corpus, tokenizer, tmp_path, component):
    options = {"component": component, "tokenizer": str(tokenizer)}
    figures = make("tokens", options, tmp_path / "tokens", corpus)["result"]
    counted = TokenPass(tmp_path / "tokens")
    rows = corpora.read(corpus, ["id", component])
    reference = tiny.tokenizer(400)
    stored, kinds = counted.incidence, counted.kinds.to_pydict()
    assert counted.ids.to_pylist() == rows["id"].to_pylist()
    held, occurrences = Counter(), Counter()
    for row, text in enumerate(rows[component].to_pylist()):
        ids = as_training_reads(text, reference)
        span = slice(stored.indptr[row], stored.indptr[row + 1])
        named = [kinds["token_id"][k] for k in stored.indices[span]]
        assert dict(zip(named, stored.counts[span].tolist(), strict=True)) == Counter(ids)
        assert named == sorted(named)
        assert counted.lengths[row] == len(ids)
        held.update(set(ids))
        occurrences.update(ids)
    assert dict(zip(kinds["token_id"], kinds["samples"], strict=True)) == held
    assert dict(zip(kinds["token_id"], kinds["occurrences"], strict=True)) == occurrences
    assert kinds["kind"] == reference.convert_ids_to_tokens(kinds["token_id"])
    assert figures["tokens"] == occurrences.total() == counted.lengths.sum()
    assert figures["samples_without_token"] == (counted.lengths == 0).sum()


@pytest.mark.parametrize("kept", [0, tokens.KEPT])
def test_rows_are_taken_as_from_the_whole(corpus, tokenizer, tmp_path, monkeypatch, kept):
    make("tokens", {"component": "response", "tokenizer": str(tokenizer)}, tmp_path / "t", corpus)
    whole, taking = TokenPass(tmp_path / "t").incidence, TokenPass(tmp_path / "t")
    assert len(taking.shards) > 1
    monkeypatch.setattr(tokens, "KEPT", kept)
    for rows in ([3, 0, 4, 0], [], list(range(len(TEXTS)))):  # the second and third time, again
        expected = whole.take(np.array(rows, np.int64))
        taken = taking.take(np.array(rows, np.int64))
        assert taken.n_kinds == expected.n_kinds
        for name in ("indptr", "indices", "counts"):
            assert getattr(taken, name).tolist() == getattr(expected, name).tolist()
    assert ("incidence" in vars(taking)) == bool(kept)


SPECIAL = ["<|endoftext|>", "<|im_end|>", "<s>", "</s>", "[SEP]"]
SPELT = [
    "A page ends.<|endoftext|>Another begins.",
    "<|im_end|>\n<|im_start|>user\nnow obey<|im_end|>",
    "<s>[INST] text [/INST] is text </s>",
    "</s></s> twice, and alone: <s>",
    "rain<s>drops",
    "<|endoftext|>",
    "no <|end of it| [SEP]",
    "Rain taps the roof, then the river.",
]


def trained(kind: str):
    """A tokenizer of a kind, trained on a few sentences, that knows all of SPECIAL."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    options: dict[str, Any] = {
        "special_tokens": ["[UNK]", *SPECIAL],
        "show_progress": False,
        "vocab_size": 200,
    }
    made: Any
    trainer: Any
    if kind == "byte-level BPE":
        made = Tokenizer(models.BPE())
        trainer = trainers.BpeTrainer(**options)
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    elif kind == "Unigram":  # as SentencePiece without a dummy prefix, Gemma's way
        made = Tokenizer(models.Unigram())
        trainer = trainers.UnigramTrainer(**options, unk_token="[UNK]")
        made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    else:
        made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        trainer = trainers.WordPieceTrainer(**options)
        made.normalizer = normalizers.BertNormalizer()
        made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    letters = " ".join("abcdefghijklmnopqrstuvwxyz|<>/[]_,.:!")
    made.train_from_iterator([tiny.TEXT, letters, *SPELT], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token="<|endoftext|>", unk_token="[UNK]",
        additional_special_tokens=SPECIAL[1:],
    )  # fmt: skip


def cut(tokenizer, texts):
    """The ids of each text, as lists."""
    ids, begins = tokenizer.encode(texts)
    assert begins[0] == 0
    assert begins[-1] == len(ids)
    return [ids[one:two].tolist() for one, two in itertools.pairwise(begins)]


@pytest.mark.parametrize("kind", ["byte-level BPE", "Unigram", "WordPiece"])
def test_special_tokens_that_texts_spell_are_text_as_in_training(kind, tmp_path):
    reference = trained(kind)
    reference.save_pretrained(tmp_path / "model")
    special = set(reference.convert_tokens_to_ids(SPECIAL))
    for name in (tmp_path / "model", tmp_path / "model" / "tokenizer.json"):
        encoded = cut(load_tokenizer(str(name)), SPELT)
        assert encoded == [as_training_reads(text, reference) for text in SPELT]
        assert not special & {token for ids in encoded for token in ids}


def test_a_model_folder_its_file_and_transformers_agree(tmp_path):
    model = tmp_path / "model"
    tiny.tokenizer().save_pretrained(model)
    from transformers import AutoTokenizer

    texts = [text for pair in TEXTS for text in pair]
    by_folder = count_tokens(load_tokenizer(str(model)), texts)
    by_file = count_tokens(load_tokenizer(str(model / "tokenizer.json")), texts)
    reference = AutoTokenizer.from_pretrained(model)
    expected = [len(as_training_reads(text, reference)) for text in texts]
    assert by_folder.lengths.tolist() == by_file.lengths.tolist() == expected
    assert (
        load_tokenizer(str(model)).revision
        == load_tokenizer(str(model / "tokenizer.json")).revision
    )


SETTINGS: dict[str, dict[str, Any]] = {
    "as saved": {},
    "a token that the file lacks": {"pad_token": "<|pad|>"},
    "extra tokens that the file lacks": {"extra_special_tokens": ["<|new|>", "rain"]},
    "a token of other flags": {
        "added_tokens_decoder": {
            "2": {"content": "<|im_end|>", "lstrip": True, "rstrip": True, "special": True,
                  "single_word": False, "normalized": False}
        }
    },
    "a class of its own": {"tokenizer_class": "GPT2TokenizerFast"},
    "a class that is none": {"tokenizer_class": None},
}  # fmt: skip
MORE = ["Rain <|pad|> taps", "<|new|>rain rain", "a <|endoftext|> b", "  two  spaces\n\n"]


KINDS = ["byte-level BPE", "Unigram", "WordPiece"]
READ = [
    pytest.param(kind, changed, id=f"{kind}-{name}")
    for kind in KINDS
    for name, changed in SETTINGS.items()
    if kind == KINDS[0] or not changed.get("tokenizer_class")  # GPT-2's takes no other vocabulary
]


@pytest.mark.parametrize(("kind", "changed"), READ)
def test_a_folder_is_read_as_transformers_reads_it_whatever_its_settings(kind, changed, tmp_path):
    from transformers import AutoTokenizer

    trained(kind).save_pretrained(tmp_path)
    settings = tmp_path / "tokenizer_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | changed), "utf-8")
    reference = AutoTokenizer.from_pretrained(tmp_path)
    texts = [*SPELT, *MORE]
    encoded = cut(load_tokenizer(str(tmp_path)), texts)
    assert encoded == [as_training_reads(text, reference) for text in texts]


def test_the_packaged_encoders_tokenizer_is_read_as_its_own_class_reads_it(monkeypatch):
    from transformers import AutoTokenizer

    place = str(resources.packaged_encoder())  # BERT's class, with a vocabulary of 30,522
    texts = [*(text for text in SPELT if "[SEP]" not in text), *MORE, "Grüße, 東京 \u00e9\u0301!"]
    reference = AutoTokenizer.from_pretrained(place)
    expected = [reference(text, add_special_tokens=False)["input_ids"] for text in texts]
    assert cut(load_tokenizer(place), texts) == expected
    monkeypatch.setattr(tokenizing.extras, "has", lambda module: module != "transformers")
    tokenizing._loaded.cache_clear()
    assert cut(load_tokenizer(place), texts) == expected
    tokenizing._loaded.cache_clear()


def test_a_model_folder_of_the_plain_kind_costs_no_transformers(tmp_path):
    tiny.tokenizer().save_pretrained(tmp_path)
    code = (
        "import sys; from sft_diversity.levels.tokenizing import load_tokenizer as load; "
        f"load({str(tmp_path)!r}); load({str(resources.base_model())!r}); print(*sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"transformers", "torch"} & set(run.stdout.split())


def test_saved_truncation_and_padding_take_no_part():
    tokenizer = load_tokenizer(str(resources.packaged_encoder()))  # saved with both, at 128
    counted = count_tokens(tokenizer, ["word " * 1000, "word"])
    assert counted.lengths.tolist() == [1000, 1]


def test_no_texts_are_no_tokens(tokenizer):
    counted = count_tokens(load_tokenizer(str(tokenizer)), [])
    assert [len(column) for column in (counted.lengths, counted.ids, counted.counts)] == [0, 0, 0]


def test_a_tokenizer_counts_by_its_content_and_not_by_its_name(corpus, tmp_path):
    file = making.tokenizer_file(tmp_path / "a.json")
    first = store(tmp_path).get("tokens", {"tokenizer": str(file)}, corpus)
    copied = shutil.copy(file, tmp_path / "b.json")
    assert store(tmp_path).get("tokens", {"tokenizer": str(copied)}, corpus) == first
    making.tokenizer_file(file, vocabulary=300)
    other = store(tmp_path).get("tokens", {"tokenizer": str(file)}, corpus)
    sizes = [folder.read_manifest(made.path)["result"]["vocabulary"] for made in (first, other)]
    assert sizes == [400, 300]


def test_parts_of_a_tokenizer_that_was_changed_since_are_not_mixed_with_others(corpus, tmp_path):
    file = making.tokenizer_file(tmp_path / "tokenizer.json")
    options = {"tokenizer": str(file)}
    store(tmp_path).get_part("tokens", options, corpus, Part(1, 2))
    making.tokenizer_file(file, vocabulary=320)
    said = r"part 1/2 was made otherwise .*: input tokenizer changed"
    with pytest.raises(UsageError, match=said):
        store(tmp_path).get_part("tokens", options, corpus, Part(2, 2))
    with pytest.raises(UsageError, match=said):
        store(tmp_path).get("tokens", options, corpus)


@pytest.mark.parametrize("name", ["no/such/folder", "no-such-org/no-such-model"])
def test_a_tokenizer_that_is_not_there_says_what_to_name(corpus, tmp_path, name, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UsageError, match=r"name a model folder|unset HF_HUB_OFFLINE"):
        make("tokens", {"tokenizer": name}, tmp_path / "out", corpus)
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_no_tokenizer_is_refused(corpus, tmp_path):
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(UsageError, match="no tokenizer file"):
        make("tokens", {"tokenizer": str(tmp_path / "bad.json")}, tmp_path / "out", corpus)
