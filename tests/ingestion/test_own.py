"""What this package wrote is read back as it was: ids, sources, licences, meta."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest

from sft_diversity.core import corpus as corpora
from sft_diversity.core import folder
from sft_diversity.verbs import data, selecting
from tests.ingestion import making

LICENCES = {"asked": "Apache-2.0", "talked": "CC-BY-SA-3.0"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A corpus of two sources with licences and meta, a subset of it, and exports of that."""
    root = tmp_path_factory.mktemp("own")
    asked = [making.row(i, topic=f"t{i % 3}", score=i / 7) for i in range(30)]
    talked = [
        {"messages": [
            {"role": "system", "content": "Be brief."}, {"role": "user", "content": f"Hi {i}"},
            {"role": "assistant", "content": f"Hello {i}"}, {"role": "user", "content": "And?"},
            {"role": "assistant", "content": "No more."},
        ], "language": "en"}
        for i in range(20)
    ]  # fmt: skip
    making.write_lines(root / "asked.jsonl", [*asked, making.row(1, output="IT IS 1.", input="")])
    making.write_lines(root / "talked.jsonl", talked)
    sources = [
        {"name": name, "path": str(root / f"{name}.jsonl"), "licence": licence}
        for name, licence in LICENCES.items()
    ]
    making.run([], root / "corpus", sources=sources)
    options = {"strategy": "random", "work": root / "work"}
    selecting.select(root / "corpus", out=root / "subset", size=30, **options)
    data.export(root / "subset", to=str(root / "chat"))
    data.export(root / "corpus", to=str(root / "whole"))
    for form in ("messages", "sharegpt", "alpaca", "prompt-completion"):
        data.export(root / "subset", to=str(root / form), format=form, file_type=(
            "parquet" if form == "alpaca" else "jsonl"
        ))  # fmt: skip
    return root


def told(place: Path) -> set[tuple[str, str, str]]:
    files = sorted((place / "samples").glob("*.parquet"))
    rows = [row for file in files for row in pq.read_table(file).to_pylist()]
    return {(row["id"], row["source"], row["meta"]) for row in rows}


@pytest.mark.parametrize(
    "name",
    ["subset", "chat", "messages", "sharegpt", "alpaca", "prompt-completion", "corpus", "whole"],
)
def test_a_folder_of_ours_is_read_back_as_it_was(made, tmp_path, name):
    manifest = making.run(made / name, tmp_path / "out")
    was = told(made / ("corpus" if name in ("corpus", "whole") else "subset"))
    assert told(tmp_path / "out") == was
    assert corpora.licences(tmp_path / "out") == LICENCES
    listed = {one["name"]: one["rows"]["kept"] for one in manifest["result"]["sources"]}
    assert listed == {
        source: sum(row[1] == source for row in was) for source in ("asked", "talked")
    }
    assert manifest["rows"]["in"] == sum(listed.values())
    assert list(manifest["lineage"]) == [name]


def test_what_others_rewrote_keeps_its_sources_and_what_they_added(made, tmp_path):
    """No manifest lies beside such files: a row's id says whose it is, its licence is lost."""
    rows = pl.read_parquet(made / "chat/data/*.parquet").sample(fraction=1.0, shuffle=True, seed=1)
    rows.with_columns(liked=pl.lit(3)).write_parquet(tmp_path / "rows.parquet")
    making.run(tmp_path / "rows.parquet", tmp_path / "out")
    was = {
        (id, source, json.dumps({**json.loads(meta), "liked": 3}, sort_keys=True))
        for id, source, meta in told(made / "subset")
    }
    found = {
        (i, s, json.dumps(json.loads(m), sort_keys=True)) for i, s, m in told(tmp_path / "out")
    }
    assert found == was
    assert corpora.licences(tmp_path / "out") == {}


def test_datasets_rewrites_an_export_and_nothing_is_lost(made, tmp_path):
    import datasets

    rows = datasets.load_dataset(str(made / "chat"), split="train", cache_dir=str(tmp_path / "c"))
    rows.save_to_disk(str(tmp_path / "saved"))
    making.run(tmp_path / "saved", tmp_path / "out")
    assert told(tmp_path / "out") == told(made / "subset")


def test_a_row_that_was_edited_is_a_row_of_the_file_it_is_in(made, tmp_path):
    lines = pl.read_ndjson(made / "messages/data/train-00000-of-00001.jsonl").head(3).to_dicts()
    lines[0]["messages"][-1]["content"] += " Edited."
    making.write_lines(tmp_path / "mine.jsonl", lines)
    making.run(tmp_path / "mine.jsonl", tmp_path / "out")
    found = told(tmp_path / "out")
    assert len(found & told(made / "subset")) == 2
    assert sum(source == "mine" for _, source, _ in found) == 1


def test_two_subsets_and_raw_rows_make_one_corpus(made, tmp_path):
    selecting.select(
        made / "corpus", out=tmp_path / "b", strategy="random", size=30, seed=5, work=made / "work"
    )
    making.write_lines(tmp_path / "new.jsonl", [making.row(i) for i in range(25, 35)])
    manifest = making.run([made / "subset", tmp_path / "b", tmp_path / "new.jsonl"], tmp_path / "o")
    both = told(made / "subset") | told(tmp_path / "b")
    assert told(tmp_path / "o") >= both
    listed = {one["name"]: one for one in manifest["result"]["sources"]}
    assert set(listed) == {"asked", "talked", "new"}
    assert listed["asked"]["rows"]["in"] + listed["talked"]["rows"]["in"] == 60
    assert len(listed["asked"]["files"]) == 2
    assert folder.verify(tmp_path / "o")["faults"] == []


def test_select_and_clean_from_a_subset_or_an_export_carry_it_all_to_the_card(made, tmp_path):
    work = tmp_path / "work"
    data.clean(made / "chat", out=tmp_path / "clean", work=work, jaccard=1.0)
    assert corpora.licences(tmp_path / "clean") == LICENCES
    selecting.select(
        made / "subset", out=tmp_path / "second", strategy="longest", size=10, work=work
    )
    result = folder.read_manifest(tmp_path / "second")["result"]
    assert result["licences"] == {name: LICENCES[name] for name in result["sources"]}
    assert told(tmp_path / "second") < told(made / "subset")
    data.export(tmp_path / "second", to=str(tmp_path / "out"))
    card = (tmp_path / "out/README.md").read_text("utf-8")
    assert "| talked | 10 | 100.0% | CC-BY-SA-3.0 |" in card
    assert "The corpus, by select version" in card


def test_ids_that_hold_a_place_are_known_again_where_the_place_is_told(tmp_path):
    making.write_lines(tmp_path / "twice.jsonl", [making.row(1), making.row(1), making.row(2)])
    making.run(tmp_path / "twice.jsonl", tmp_path / "corpus", dedup="none")
    selecting.select(
        tmp_path / "corpus", out=tmp_path / "s", strategy="random", size=3, work=tmp_path / "w"
    )
    for name in ("corpus", "s"):
        making.run(tmp_path / name, tmp_path / f"{name}-again")
        assert told(tmp_path / f"{name}-again") == told(tmp_path / "corpus")
        assert {row["source_file"] for row in making.samples(tmp_path / f"{name}-again")} == {
            "twice.jsonl"
        }
