"""Own vectors: whose they are, what is no file of vectors, and the same as in memory."""

from __future__ import annotations

import json
import os

import numpy as np
import polars as pl
import pytest

import sft_diversity as sd
from sft_diversity.core import vectors as core_vectors
from sft_diversity.core.errors import DataError, SftdivError
from tests import command, making


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A file of 60 rows, two of them equal, its corpus, and a vector a row."""
    place = tmp_path_factory.mktemp("own")
    rows = [{"instruction": f"Count to {i % 59}", "output": f"done {i % 59}"} for i in range(60)]
    (place / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    vectors = np.random.default_rng(0).normal(size=(60, 6)).astype(np.float32)
    np.save(place / "rows.npy", vectors)
    sd.ingest(place / "rows.jsonl", out=place / "corpus")
    samples = pl.read_parquet(place / "corpus/samples/*.parquet")
    shuffled = samples.sample(fraction=1.0, shuffle=True, seed=1)
    rows_of = shuffled["source_row"].to_numpy()
    fixed = pl.Series(vectors[rows_of], dtype=pl.Array(pl.Float32, 6))
    pl.DataFrame({"id": shuffled["id"], "embedding": fixed}).write_parquet(place / "ids.parquet")
    pl.DataFrame({"embedding": vectors.tolist()}).write_parquet(place / "order.parquet")
    return place


def stored(made, name, tmp_path, **options):
    place = tmp_path / name
    making.make(
        "embed", {"embeddings": str(made / name), **options}, place, made / "corpus",
        work=tmp_path / "work",
    )  # fmt: skip
    return core_vectors.read_component(place, "response")


@pytest.mark.parametrize("name", ["rows.npy", "ids.parquet", "order.parquet"])
def test_every_sample_has_the_vector_of_its_row(made, tmp_path, name):
    ids, vectors = stored(made, name, tmp_path)
    samples = pl.read_parquet(made / "corpus/samples/*.parquet")
    assert ids.to_pylist() == samples["id"].to_list()
    expected = np.load(made / "rows.npy")[samples["source_row"].to_numpy()]
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(vectors, expected, atol=1e-3)  # float16 between


def test_content_decides_and_not_the_name(made, tmp_path):
    def place_of(file):
        kept = making.store(tmp_path / "work")
        return kept.get("embed", {"embeddings": str(file)}, made / "corpus").path

    first, other = place_of(made / "rows.npy"), tmp_path / "copy.npy"
    other.write_bytes((made / "rows.npy").read_bytes())
    assert place_of(other) == first
    np.save(other, np.load(made / "rows.npy") + 1)
    os.utime(other, ns=(1, 1))
    assert place_of(other) != first


def test_the_command_line_picks_what_python_picks(made, tmp_path):
    vectors = np.load(made / "rows.npy")
    rows = [json.loads(line) for line in (made / "rows.jsonl").read_text("utf-8").splitlines()]
    for strategy in ("macro-response", "k-center", "facility-location"):
        wanted = sd.select(rows, size=9, strategy=strategy, embeddings=vectors)
        for source, name in (("corpus", "ids.parquet"), ("rows.jsonl", "rows.npy")):
            out = tmp_path / f"{strategy}-{source}"
            said = command.sftdiv(
                "select", made / source, "--strategy", strategy, "--size", 9, "--out", out,
                "--embeddings", made / name, "--work", tmp_path / "work", "--json",
            )  # fmt: skip
            assert said.returncode == 0, said.stderr
            assert list(wanted.ids) == sd.Subset(out).to_arrow()["id"].to_pylist()
        again = tmp_path / "again"
        config = tmp_path / "selection.yaml"
        recipe = json.loads((out / "manifest.json").read_text("utf-8"))["recipe"]
        assert recipe["embeddings"] == "rows.npy"
        assert "encoder" not in recipe
        config.write_text(json.dumps(recipe | {"embeddings": str(made / "rows.npy")}), "utf-8")
        said = command.sftdiv(
            "select", made / "corpus", "--config", config, "--out", again / strategy,
            "--work", tmp_path / "work",
        )  # fmt: skip
        assert said.returncode == 0, said.stderr
        assert list(wanted.ids) == sd.Subset(again / strategy).to_arrow()["id"].to_pylist()


def test_samples_that_were_shuffled_keep_their_own_vectors(made):
    samples = pl.read_parquet(made / "corpus/samples/*.parquet")
    vectors = np.load(made / "rows.npy")
    options = {"size": 9, "strategy": "k-center"}
    wanted = sd.select(made / "rows.jsonl", embeddings=vectors, **options)
    turned = samples.sample(fraction=1.0, shuffle=True, seed=2)
    picked = sd.select(turned, embeddings=vectors[turned["source_row"].to_numpy()], **options)
    assert picked.ids == wanted.ids


def test_of_a_corpus_an_array_has_a_row_a_sample(made):
    options = {"size": 9, "strategy": "k-center"}
    vectors = np.load(made / "rows.npy")
    wanted = sd.select(made / "rows.jsonl", embeddings=vectors, **options)
    corpus = sd.ingest(made / "rows.jsonl")
    in_its_order = vectors[corpus.to_polars()["source_row"].to_numpy()]
    for given in (corpus, corpus.folder, sd.Corpus(made / "corpus")):
        assert sd.select(given, embeddings=in_its_order, **options).ids == wanted.ids
    with pytest.raises(SftdivError, match="has 60 rows and data 59"):
        sd.select(corpus, embeddings=vectors, **options)
    some = sd.select(corpus, size=30, strategy="random")
    again = sd.select(some, embeddings=np.eye(30, dtype=np.float32)[::-1], **options)
    assert set(again.ids) <= set(some.ids)


def spoilt(name, tmp_path, made):
    vectors = np.load(made / "rows.npy")
    place = tmp_path / ("given.npy" if "npy" in name else "given.parquet")
    if name == "npy short":
        np.save(place, vectors[:-1])
    if name == "npy flat":
        np.save(place, vectors[0])
    if name == "npy NaN":
        np.save(place, np.where(np.arange(6) == 2, np.nan, vectors))
    if name == "npy zero":
        np.save(place, np.zeros((60, 6)))
    if name == "npy pickled":
        np.save(place, np.array([[{}]] * 60, object), allow_pickle=True)
    if name == "npy text":
        place.write_text("1,2,3")
    ids = pl.read_parquet(made / "ids.parquet")
    frames = {
        "column": ids.rename({"embedding": "vector"}),
        "lost": ids[:-2],
        "twice": pl.concat([ids, ids[:1]]),
        "lengths": pl.DataFrame({"embedding": [[1.0], *[[1.0, 2.0]] * 59]}),
        "words": pl.DataFrame({"embedding": [["a"]] * 60}),
    }
    if name in frames:
        frames[name].write_parquet(place)
    return place


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("npy short", "has 59 vectors, the source file 60 rows"),
        ("npy flat", r"shape \(6,\)"),
        ("npy NaN", "vectors are zero or NaN, in"),
        ("npy zero", "vectors are zero or NaN, in"),
        ("npy pickled", "no plain .npy array|type object"),
        ("npy text", "no plain .npy array"),
        ("column", "has columns id, vector; give `embedding`"),
        ("lost", "has no vector of 2 of 59 samples"),
        ("twice", "ids repeat"),
        ("lengths", "differ in length"),
        ("words", "lists of"),
        ("none", "no such file"),
    ],
)
def test_what_are_no_vectors_of_the_corpus_is_said_in_one_line(made, tmp_path, name, said):
    place = spoilt(name, tmp_path, made)
    with pytest.raises(SftdivError, match=said) as fault:
        sd.select(made / "corpus", size=5, strategy="k-center", embeddings=place)
    assert "\n" not in str(fault.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"strategy": "micro-response"}, "embeddings work with a macro strategy or one of"),
        ({"strategy": "k-center", "encoder": "e"}, "stand in the place of an encoder"),
        ({"strategy": "k-center", "embeddings": [[1.0, 2.0], [3.0]]}, "give an array of numbers"),
        ({"strategy": "k-center", "embeddings": np.ones((3, 4))}, "has 3 rows and data 60"),
    ],
)
def test_where_own_vectors_have_no_part_they_are_refused(made, options, said):
    rows = pl.read_ndjson(made / "rows.jsonl")
    with pytest.raises(SftdivError, match=said):
        sd.select(rows, size=5, **{"embeddings": made / "rows.npy", **options})


def test_rows_without_ids_are_of_one_file_alone(made, tmp_path):
    (tmp_path / "more.jsonl").write_text('{"instruction": "a", "output": "b"}', "utf-8")
    with pytest.raises(DataError, match="rows without ids are those of one source file"):
        sd.select(
            made / "rows.jsonl", tmp_path / "more.jsonl", size=5, strategy="k-center",
            embeddings=made / "rows.npy",
        )  # fmt: skip
    again = pl.read_parquet(made / "corpus/samples/*.parquet")
    again.sample(fraction=1.0, shuffle=True, seed=3).write_parquet(tmp_path / "samples.parquet")
    np.save(tmp_path / "samples.npy", np.ones((59, 3)))
    with pytest.raises(DataError, match="rows without ids are those of one source file"):
        sd.select(
            tmp_path / "samples.parquet", size=5, strategy="k-center",
            embeddings=tmp_path / "samples.npy",
        )  # fmt: skip
