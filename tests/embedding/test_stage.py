"""The verb: aligned with the corpus, cached by text, the same bytes however it came about."""

import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from sft_diversity.core import corpus as corpora
from sft_diversity.core import extras, machine
from sft_diversity.core import vectors as core_vectors
from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.core.parts import Slice
from sft_diversity.embedding import base, stage
from sft_diversity.embedding import cache as caches
from sft_diversity.embedding.base import Placement
from sft_diversity.embedding.stage import EmbedConfig, place_encoder
from sft_diversity.embedding.texts import text_encoder
from tests import making
from tests.embedding import make
from tests.processes import Child


def run(corpus, out, tiny, work, **options):
    return making.make("embed", {"encoder": str(tiny), **options}, out, corpus, work=work)


def distinct(pairs):
    return {text for pair in pairs for text in pair}


def test_rows_are_those_of_the_corpus(tmp_path, tiny):
    corpus = make.corpus(tmp_path / "corpus", make.pairs(40))
    manifest = run(corpus, tmp_path / "out", tiny, tmp_path / "work")
    ids, vectors = core_vectors.read_component(tmp_path / "out", "response")
    assert ids.to_pylist() == corpora.read(corpus, ["id"])["id"].to_pylist()
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert manifest["result"]["dim"] == 16
    assert manifest["rows"] == {"in": 40, "kept": 40, "dropped": {}, "quarantined": 0}


@pytest.mark.parametrize(
    ("precision", "cosine"), [("float32", 0.99999), ("bfloat16", 0.9999), ("int8", 0.998)]
)
def test_vectors_equal_those_of_the_library_and_equal_texts_are_embedded_once(
    tmp_path, tiny, precision, cosine
):
    from sentence_transformers import SentenceTransformer

    pairs = make.pairs(30)
    corpus = make.corpus(tmp_path / "corpus", pairs)
    manifest = run(corpus, tmp_path / "out", tiny, tmp_path / "work", precision=precision)
    assert manifest["run"]["texts_embedded"] == len(distinct(pairs))
    texts = corpora.read(corpus, ["instruction"])["instruction"].to_pylist()
    expected = SentenceTransformer(str(tiny), device="cpu").encode(
        texts, normalize_embeddings=True, show_progress_bar=False
    )
    _, vectors = core_vectors.read_component(tmp_path / "out", "instruction")
    assert np.einsum("nd,nd->n", vectors, expected).min() > cosine


def test_a_model_without_a_fast_tokenizer_is_run_by_its_library(tmp_path):
    from sentence_transformers import SentenceTransformer

    static = make.static(tmp_path / "static")
    corpus = make.corpus(tmp_path / "corpus", make.pairs(30))
    run(corpus, tmp_path / "out", static, tmp_path / "work", precision="float32")
    texts = corpora.read(corpus, ["response"])["response"].to_pylist()
    expected = SentenceTransformer(str(static), device="cpu").encode(
        texts, normalize_embeddings=True, show_progress_bar=False
    )
    _, vectors = core_vectors.read_component(tmp_path / "out", "response")
    np.testing.assert_allclose(vectors, expected, atol=1e-3)
    lent = text_encoder(EmbedConfig(encoder=str(static), precision="float32")).load()
    np.testing.assert_allclose(lent(texts[:5]), expected[:5], atol=1e-6)
    assert lent(texts[:1]).shape == (1, 16)


@pytest.mark.parametrize(("bf16", "precision"), [(0, "float32"), (1, "bfloat16")])
def test_auto_takes_the_precision_that_the_processor_multiplies(
    tmp_path, tiny, monkeypatch, bf16, precision
):
    corpus = make.corpus(tmp_path / "corpus", make.pairs(20))
    named = run(
        corpus, tmp_path / "named", tiny, tmp_path / "w1", device="cpu", precision=precision
    )
    monkeypatch.setenv(machine.DETECT, f"bf16={bf16},gpus=0")
    auto = run(corpus, tmp_path / "auto", tiny, tmp_path / "w2")
    assert auto["result"]["encoder"]["precision"] == precision
    assert auto["digest"] == named["digest"]


def test_auto_takes_every_core_or_every_gpu_that_is_seen(monkeypatch):
    monkeypatch.setenv(machine.DETECT, "bf16=0,cores=3,gpus=0")
    assert place_encoder(EmbedConfig()) == Placement("torch", "cpu", "float32", 3)
    assert place_encoder(EmbedConfig(workers=2)).workers == 2
    monkeypatch.setenv(machine.DETECT, "bf16=1,cores=3,gpus=2")
    assert place_encoder(EmbedConfig()) == Placement("torch", "cuda", "bfloat16", 2)
    assert place_encoder(EmbedConfig(workers=9)).workers == 2
    assert place_encoder(EmbedConfig(device="cpu")) == Placement("torch", "cpu", "bfloat16", 3)
    monkeypatch.setattr(extras, "has", lambda module: True)  # installed or not
    assert place_encoder(EmbedConfig(backend="openvino")) == Placement(
        "openvino", "cpu", "bfloat16", 3
    )
    with pytest.raises(UsageError, match="openvino` runs on the CPU"):
        place_encoder(EmbedConfig(backend="openvino", device="cuda"))
    assert place_encoder(EmbedConfig(precision="int8")) == Placement("torch", "cpu", "int8", 3)
    with pytest.raises(UsageError, match="int8` runs on the CPU"):
        place_encoder(EmbedConfig(precision="int8", device="cuda"))
    with pytest.raises(UsageError, match="leave out --backend openvino"):
        place_encoder(EmbedConfig(precision="int8", backend="openvino"))


def test_int8_is_recorded_shares_no_vector_with_float32_and_gives_the_same_bytes_again(
    tmp_path, tiny
):
    corpus = make.corpus(tmp_path / "corpus", make.pairs(20))
    work = tmp_path / "work"
    run(corpus, tmp_path / "exact", tiny, work, precision="float32")
    made = run(corpus, tmp_path / "out", tiny, work, precision="int8", workers=2)
    assert made["result"]["encoder"]["precision"] == "int8"
    assert made["run"]["texts_embedded"] == len(distinct(make.pairs(20)))
    again = run(corpus, tmp_path / "again", tiny, tmp_path / "fresh", precision="int8", workers=1)
    assert made["digest"] == again["digest"]


def test_int8_of_a_model_without_linear_layers_is_refused(tmp_path):
    corpus = make.corpus(tmp_path / "corpus", make.pairs(2))
    static = make.static(tmp_path / "static")
    with pytest.raises(UsageError, match=r"no linear layers .* use --precision float32"):
        run(corpus, tmp_path / "out", static, tmp_path / "work", precision="int8")


def test_a_grown_pool_embeds_only_what_is_new_and_keeps_the_bytes_of_the_old(tmp_path, tiny):
    old, new = make.pairs(30), make.pairs(50)
    first = make.corpus(tmp_path / "old", old)
    grown = make.corpus(tmp_path / "new", new)
    run(first, tmp_path / "a", tiny, tmp_path / "work")
    manifest = run(grown, tmp_path / "b", tiny, tmp_path / "work")
    assert manifest["run"]["texts_embedded"] == len(distinct(new) - distinct(old))
    run(grown, tmp_path / "c", tiny, tmp_path / "fresh")
    assert making.contents(tmp_path / "b") == making.contents(tmp_path / "c")


def test_the_number_of_workers_changes_no_byte(tmp_path, tiny, monkeypatch):
    monkeypatch.setitem(base.UNIT_CHARACTERS, "cpu", 200)
    corpus = make.corpus(tmp_path / "corpus", make.pairs(60))
    one = run(corpus, tmp_path / "one", tiny, tmp_path / "w1", workers=1)
    many = run(corpus, tmp_path / "many", tiny, tmp_path / "w2", workers=2)
    assert one["digest"] == many["digest"]
    assert making.contents(tmp_path / "one") == making.contents(tmp_path / "many")


def test_where_a_gpu_is_seen_three_threads_give_the_vectors_of_a_cpu(tmp_path, tiny, monkeypatch):
    """The encoder itself is on the CPU; all around it is as on a GPU."""
    corpus = make.corpus(tmp_path / "corpus", make.pairs(60))
    here = run(corpus, tmp_path / "here", tiny, tmp_path / "w1", precision="float32")
    monkeypatch.setenv(machine.DETECT, "gpus=1")
    load = stage.load_encoder
    monkeypatch.setattr(stage, "load_encoder", lambda *given: load(*given[:-1], "cpu"))
    there = run(corpus, tmp_path / "there", tiny, tmp_path / "w2", precision="float32")
    assert (here["run"]["device"], there["run"]["device"]) == ("cpu", "cuda")
    assert [path.name[:6] for path in (tmp_path / "w2").rglob("*.arrow")] == ["stream"]
    assert here["run"]["tokens"] == there["run"]["tokens"]
    for component in corpora.COMPONENTS:
        ours, theirs = (
            core_vectors.read_component(tmp_path / at, component) for at in ("here", "there")
        )
        assert ours[0].equals(theirs[0])
        assert np.einsum("nd,nd->n", ours[1], theirs[1]).min() > 0.9999


def test_a_text_is_hashed_once_and_read_to_embed_and_to_count_alone(tmp_path, tiny, monkeypatch):
    corpus = make.corpus(tmp_path / "corpus", make.pairs(60))
    texts, reads = Counter[str](), Counter[tuple[str, bool]]()
    keys_of, read = caches.text_keys, Slice.read

    def counted(some):
        texts.update(some)
        return keys_of(some)

    def noted(rows, columns):
        reads[rows.name, "response" in columns] += 1
        return read(rows, columns)

    monkeypatch.setattr(caches, "text_keys", counted)
    monkeypatch.setattr(Slice, "read", noted)
    made = run(corpus, tmp_path / "out", tiny, tmp_path / "work")["run"]
    assert texts == Counter(text for pair in make.pairs(60) for text in pair)
    assert {number for (_, whole), number in reads.items() if whole} == {2}
    assert made["texts_embedded"] == len(distinct(make.pairs(60)))
    assert made["texts_embedded"] < made["tokens"] < made["tokens_computed"]
    run(corpus, tmp_path / "again", tiny, tmp_path / "work")
    assert texts == Counter(text for pair in 2 * make.pairs(60) for text in pair)


def test_cut_and_blank_texts_are_counted_and_have_a_vector(tmp_path, tiny):
    corpus = make.corpus(tmp_path / "corpus", [("cat", " \n"), ("dog " * 40, "red"), ("why", "")])
    told = run(corpus, tmp_path / "out", tiny, tmp_path / "work")["result"]["components"]
    assert told["instruction"] == {"rows": 3, "cut": 1, "blank": 0}
    assert told["response"] == {"rows": 3, "cut": 0, "blank": 2}


def test_an_empty_shard_stays_one_and_an_empty_corpus_is_an_error(tmp_path, tiny):
    corpus = make.corpus(tmp_path / "corpus", make.pairs(1), shards=2)
    run(corpus, tmp_path / "out", tiny, tmp_path / "work")
    ids, vectors = core_vectors.read_component(tmp_path / "out", "response")
    assert (len(ids), vectors.shape) == (1, (1, 16))
    nothing = make.corpus(tmp_path / "nothing", [])
    with pytest.raises(DataError, match="the corpus has no rows"):
        run(nothing, tmp_path / "none", tiny, tmp_path / "fresh")


def test_one_component_alone(tmp_path, tiny):
    corpus = make.corpus(tmp_path / "corpus", make.pairs(6))
    run(corpus, tmp_path / "out", tiny, tmp_path / "work", components=("response",))
    with pytest.raises(UsageError, match="no embeddings of component `instruction`"):
        core_vectors.read_component(tmp_path / "out", "instruction")


def test_an_encoder_that_gives_nan_is_an_error_that_shows_a_text(tmp_path, tiny):
    import shutil

    from safetensors.torch import load_file, save_file

    broken = Path(shutil.copytree(tiny, tmp_path / "broken"))
    weights = load_file(broken / "model.safetensors")
    save_file({k: v * float("nan") for k, v in weights.items()}, broken / "model.safetensors")
    corpus = make.corpus(tmp_path / "corpus", [("cat", "dog")])
    with pytest.raises(DataError, match="no usable vector for 2 texts, the first: '"):
        run(corpus, tmp_path / "out", broken, tmp_path / "work")
    assert not (tmp_path / "out").exists()


def test_the_plan_counts_the_texts_that_no_run_has_embedded(tmp_path, tiny):
    corpus = make.corpus(tmp_path / "corpus", make.pairs(12))
    grown = make.corpus(tmp_path / "grown", make.pairs(20))

    def planned(source):
        return making.plan("embed", {"encoder": str(tiny)}, tmp_path / "out", source)

    assert planned(corpus)["texts_to_embed"] == len(distinct(make.pairs(12)))
    making.store(tmp_path / "work").get("embed", {"encoder": str(tiny)}, corpus)
    assert planned(corpus)["texts_to_embed"] == 0
    assert planned(grown)["texts_to_embed"] == len(distinct(make.pairs(20)[12:]) - {"red"})
    assert planned(grown)["texts_cached"] == len(distinct(make.pairs(12)))


def test_a_device_that_is_not_here_is_refused(tmp_path, tiny, monkeypatch):
    monkeypatch.setenv(machine.DETECT, "gpus=0")
    corpus = make.corpus(tmp_path / "corpus", make.pairs(2))
    with pytest.raises(UsageError, match="--device cpu"):
        run(corpus, tmp_path / "out", tiny, tmp_path / "work", device="cuda")


_CHILD = """
import sys
from pathlib import Path
from sft_diversity.embedding import base
from sft_diversity.stages import store
base.UNIT_CHARACTERS["cpu"] = 300
corpus, work = Path(sys.argv[1]), Path(sys.argv[2])
store(work).get("embed", {"encoder": sys.argv[3]}, corpus)
"""


def test_a_killed_run_keeps_the_vectors_it_has(tmp_path, tiny, monkeypatch):
    corpus = make.corpus(tmp_path / "corpus", make.pairs(700))
    child = Child(_CHILD, corpus, tmp_path / "work", tiny)
    child.until(lambda: len(list(tmp_path.rglob("*.arrow"))) >= 5)
    assert child.kill() == -signal.SIGKILL
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.arrow")}
    cached = sum(pa.ipc.open_file(path).read_all().num_rows for path in kept)
    monkeypatch.setitem(base.UNIT_CHARACTERS, "cpu", 300)
    made = run(corpus, tmp_path / "out", tiny, tmp_path / "work")
    assert made["run"]["texts_embedded"] == len(distinct(make.pairs(700))) - cached
    assert {path: path.stat().st_mtime_ns for path in kept} == kept, "a batch was made again"
    run(corpus, tmp_path / "again", tiny, tmp_path / "fresh")
    assert making.contents(tmp_path / "out") == making.contents(tmp_path / "again")


def test_importing_the_stage_loads_no_torch():
    code = "import sys, sft_diversity.embedding.stage; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
