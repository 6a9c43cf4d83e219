"""The map of a subset's corpus, as a table."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

import sft_diversity as sd
from sft_diversity.core import corpus as corpora
from sft_diversity.core import incidence
from sft_diversity.core.errors import UsageError
from tests.levels import making

ROWS = 300


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("maps")
    rng = np.random.default_rng(0)
    topics = [[f"{letter}{word}" for word in range(30)] for letter in ("ab", "cd", "ef")]
    pairs = [
        (f"Question {i}?", " ".join(rng.choice(topics[i % 3], size=12))) for i in range(ROWS - 1)
    ]
    making.corpus(place / "corpus", [*pairs, ("Nothing?", "zzz")])
    options = {"strategy": "micro-response", "size": 40, "band": "3:200", "diversity": 100}
    sd.select(place / "corpus", out=place / "subset", work=place / "work", **options)
    return place


def mapped(place, name="map.parquet", **options):
    options = {"landmarks": 100, "work": place / "work"} | options
    made = sd.map(place / "subset", out=place / name, **options)
    return made, pq.read_table(place / name)


def test_every_sample_has_a_row_and_picks_and_kinds_are_the_subsets(place):
    made, table = mapped(place, neighbours=4)
    rows = {row["id"]: row for row in table.to_pylist()}
    picks = pq.read_table(place / "subset" / "samples" / "00000.parquet").to_pylist()
    assert table["id"].to_pylist() == corpora.ids(place / "corpus").to_pylist()
    assert {i: row["pick"] for i, row in rows.items() if row["picked"]} == {
        row["id"]: row["pick"] for row in picks
    }
    assert made["picked"] == 40
    held = incidence.load(next((place / "work" / "index").iterdir()))
    assert [len(row["kinds"]) for row in rows.values()] == np.diff(held.indptr).tolist()
    lost = [row for row in rows.values() if not row["kinds"]]
    assert len(lost) == made["without_place"] > 0
    assert all(row["x"] is row["y"] is row["region"] is row["neighbours"] is None for row in lost)
    topic = [row["response"][:2] for row in rows.values()]
    near = [
        topic[at] == topic[other]
        for at, row in enumerate(rows.values())
        if row["kinds"]
        for other in row["neighbours"]["ids"]
    ]
    assert np.mean(near) > 0.95
    assert all(row["neighbours"]["distances"] == sorted(row["neighbours"]["distances"])
               for row in rows.values() if row["kinds"])  # fmt: skip


def test_the_same_map_is_the_same_file_and_is_found_again(place, capsys):
    mapped(place, "one.parquet", neighbours=0)
    capsys.readouterr()
    mapped(place, "two.parquet", neighbours=0)
    told = capsys.readouterr().err.splitlines()
    assert any(line.startswith("map: ") and "is up to date" in line for line in told)
    assert (place / "one.parquet").read_bytes() == (place / "two.parquet").read_bytes()
    assert "neighbours" not in pq.read_schema(place / "one.parquet").names


def test_a_dry_run_writes_nothing_and_says_what_it_would(place):
    before = sorted((place / "work").rglob("*"))
    options = {"out": place / "never.parquet", "work": place / "work", "landmarks": 120}
    made = sd.map(place / "subset", dry_run=True, **options)
    assert [step["stage"] for step in made["plan"]][-1:] == ["map"]
    assert sorted((place / "work").rglob("*")) == before
    assert not (place / "never.parquet").exists()


@pytest.mark.parametrize("strategy", ["random", "longest"])
def test_a_baseline_is_shown_among_the_tokens_of_its_component(place, strategy):
    options = {"strategy": strategy, "size": 10}
    sd.select(place / "corpus", out=place / strategy, work=place / "work", **options)
    sd.map(place / strategy, out=place / f"{strategy}.parquet", work=place / "work", neighbours=0,
           layout="pca")  # fmt: skip
    assert pq.read_table(place / f"{strategy}.parquet")["picked"].to_pylist().count(True) == 10


def test_only_a_parquet_file_is_written(place):
    with pytest.raises(UsageError, match=r"map: .*map\.csv is no Parquet file; name one"):
        mapped(place, "map.csv")
    assert json.loads((place / "subset" / "manifest.json").read_text())["stage"] == "select"
