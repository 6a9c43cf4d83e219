"""The verb: aligned with the corpus, cached by text, the same bytes however it came about."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from sft_diversity.core import corpus as corpora
from sft_diversity.core import extras, folder, machine
from sft_diversity.core import vectors as core_vectors
from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.embedding import units
from sft_diversity.embedding.base import Placement
from sft_diversity.embedding.stage import EmbedConfig, embed, place, plan
from tests.embedding import make


def quiet(_line: str) -> None:
    """Say nothing."""


def run(corpus, out, tiny, work, **options):
    return embed(corpus, out, EmbedConfig(encoder=str(tiny), **options), work, quiet)


def files_of(out: Path) -> dict[str, bytes]:
    return {
        p.relative_to(out).as_posix(): p.read_bytes()
        for p in sorted(out.rglob("*"))
        if p.is_file() and p.name != folder.MANIFEST
    }


def test_rows_and_shards_are_those_of_the_corpus(tmp_path, tiny):
    corpus = make.corpus(tmp_path / "corpus", make.pairs(40))
    manifest = run(corpus, tmp_path / "out", tiny, tmp_path / "work")
    for component in corpora.COMPONENTS:
        for path in corpora.shards(corpus):
            table = pq.read_table(tmp_path / "out" / component / path.name)
            assert table["id"].equals(pq.read_table(path)["id"])
    ids, vectors = core_vectors.read_component(tmp_path / "out", "response")
    assert ids.to_pylist() == corpora.read(corpus, ["id"])["id"].to_pylist()
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert manifest["result"]["dim"] == 16
    assert manifest["rows"] == {"in": 40, "kept": 40, "dropped": {}, "quarantined": 0}
    assert not folder.verify(tmp_path / "out")["faults"]


@pytest.mark.parametrize(("precision", "cosine"), [("float32", 0.99999), ("bfloat16", 0.9999)])
def test_vectors_equal_those_of_the_library_and_equal_texts_are_embedded_once(
    tmp_path, tiny, precision, cosine
):
    from sentence_transformers import SentenceTransformer

    pairs = make.pairs(30)
    corpus = make.corpus(tmp_path / "corpus", pairs)
    manifest = run(corpus, tmp_path / "out", tiny, tmp_path / "work", precision=precision)
    distinct = {text for pair in pairs for text in pair}
    assert manifest["run"]["texts_embedded"] == len(distinct)
    texts = corpora.read(corpus, ["instruction"])["instruction"].to_pylist()
    expected = SentenceTransformer(str(tiny), device="cpu").encode(
        texts, normalize_embeddings=True, show_progress_bar=False
    )
    _, vectors = core_vectors.read_component(tmp_path / "out", "instruction")
    assert np.einsum("nd,nd->n", vectors, expected).min() > cosine


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
    assert place(EmbedConfig()) == Placement("torch", "cpu", "float32", 3)
    assert place(EmbedConfig(workers=2)).workers == 2
    monkeypatch.setenv(machine.DETECT, "bf16=1,cores=3,gpus=2")
    assert place(EmbedConfig()) == Placement("torch", "cuda", "bfloat16", 2)
    assert place(EmbedConfig(workers=9)).workers == 2
    assert place(EmbedConfig(device="cpu")) == Placement("torch", "cpu", "bfloat16", 3)
    monkeypatch.setattr(extras, "has", lambda module: True)  # installed or not
    assert place(EmbedConfig(backend="openvino")) == Placement("openvino", "cpu", "bfloat16", 3)
    with pytest.raises(UsageError, match="openvino` runs on the CPU"):
        place(EmbedConfig(backend="openvino", device="cuda"))


def test_a_grown_pool_embeds_only_what_is_new_and_keeps_the_bytes_of_the_old(tmp_path, tiny):
    old, new = make.pairs(30), make.pairs(50)
    first = make.corpus(tmp_path / "old", old)
    grown = make.corpus(tmp_path / "new", new)
    run(first, tmp_path / "a", tiny, tmp_path / "work")
    manifest = run(grown, tmp_path / "b", tiny, tmp_path / "work")
    was = {text for pair in old for text in pair}
    assert manifest["run"]["texts_embedded"] == len({t for p in new for t in p} - was)
    run(grown, tmp_path / "c", tiny, tmp_path / "fresh")
    assert files_of(tmp_path / "b") == files_of(tmp_path / "c")


def test_the_number_of_workers_changes_no_byte(tmp_path, tiny, monkeypatch):
    monkeypatch.setattr(units, "UNIT_CHARACTERS", 200)
    corpus = make.corpus(tmp_path / "corpus", make.pairs(60))
    one = run(corpus, tmp_path / "one", tiny, tmp_path / "w1", workers=1)
    many = run(corpus, tmp_path / "many", tiny, tmp_path / "w2")
    assert one["digest"] == many["digest"]
    assert files_of(tmp_path / "one") == files_of(tmp_path / "many")


def test_the_same_call_reuses_a_finished_folder(tmp_path, tiny):
    corpus = make.corpus(tmp_path / "corpus", make.pairs(10))
    said: list[str] = []
    config = EmbedConfig(encoder=str(tiny))
    first = embed(corpus, tmp_path / "out", config, tmp_path / "work", said.append)
    again = embed(corpus, tmp_path / "out", config, tmp_path / "work", said.append)
    assert again == first
    assert said[-1].endswith("reused")


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


def test_the_plan_counts_what_is_missing_and_touches_nothing(tmp_path, tiny):
    corpus = make.corpus(tmp_path / "corpus", make.pairs(12))
    config = EmbedConfig(encoder=str(tiny))
    before = plan(corpus, tmp_path / "out", config, tmp_path / "work")
    assert before["state"] == "new"
    assert before["texts_to_embed"] == len({t for p in make.pairs(12) for t in p})
    assert not (tmp_path / "work").exists()
    embed(corpus, tmp_path / "out", config, tmp_path / "work", quiet)
    after = plan(corpus, tmp_path / "out", config, tmp_path / "work")
    assert (after["state"], after["texts_to_embed"]) == ("reused", 0)
    elsewhere = plan(corpus, tmp_path / "elsewhere", config, tmp_path / "work")
    assert (elsewhere["state"], elsewhere["texts_to_embed"]) == ("new", 0)


def test_a_device_that_is_not_here_is_refused(tmp_path, tiny, monkeypatch):
    monkeypatch.setenv(machine.DETECT, "gpus=0")
    corpus = make.corpus(tmp_path / "corpus", make.pairs(2))
    with pytest.raises(UsageError, match="--device cpu"):
        run(corpus, tmp_path / "out", tiny, tmp_path / "work", device="cuda")


_CHILD = """
import sys
from pathlib import Path
from sft_diversity.embedding import units
from sft_diversity.embedding.stage import EmbedConfig, embed
units.UNIT_CHARACTERS = 300
corpus, out, encoder, work = map(Path, sys.argv[1:])
embed(corpus, out, EmbedConfig(encoder=str(encoder)), work)
"""


def _start(corpus, out, tiny, work):
    arguments = [sys.executable, "-c", _CHILD, *map(str, (corpus, out, tiny, work))]
    return subprocess.Popen(
        arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=Path(__file__).parents[2]
    )


def test_killed_midway_the_same_command_resumes_to_the_bytes_of_an_undisturbed_run(
    tmp_path, tiny, monkeypatch
):
    corpus = make.corpus(tmp_path / "corpus", make.pairs(700))
    child = _start(corpus, tmp_path / "out", tiny, tmp_path / "work")
    parts: list[Path] = []
    while child.poll() is None and len(parts) < 5:
        parts = list((tmp_path / "work").rglob("*.arrow"))
        time.sleep(0.002)
    os.kill(child.pid, signal.SIGKILL)
    child.communicate()
    assert child.returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(units, "UNIT_CHARACTERS", 300)
    resumed = run(corpus, tmp_path / "out", tiny, tmp_path / "work")
    distinct = len({text for pair in make.pairs(700) for text in pair})
    assert 0 < resumed["run"]["texts_embedded"] < distinct
    undisturbed = run(corpus, tmp_path / "again", tiny, tmp_path / "fresh")
    assert resumed["digest"] == undisturbed["digest"]
    assert files_of(tmp_path / "out") == files_of(tmp_path / "again")


def test_importing_the_stage_loads_no_torch():
    code = "import sys, sft_diversity.embedding.stage; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
