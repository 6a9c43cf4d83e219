"""Data in memory: the same picks as from files, and rows of what was given."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
import sys
from pathlib import Path

import datasets
import numpy as np
import polars as pl
import pyarrow as pa
import pytest
import scipy.sparse as sp

import sft_diversity as sd
from sft_diversity.core.corpus import COMPONENTS
from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.verbs.data import ingest
from sft_diversity.verbs.selecting import select as select_to_folder
from tests import command

ROOT = Path(__file__).resolve().parents[1]
WORDS = [
    "red",
    "green",
    "blue",
    "black",
    "white",
    "grey",
    "pink",
    "brown",
    "cyan",
    "gold",
    "lime",
    "navy",
    "plum",
    "rust",
    "sand",
    "teal",
]


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    made = []
    for i in range(120):
        said = " ".join(rng.choice(WORDS, size=6))
        made.append({
            "instruction": f"Name colours {i % 97}",
            "output": f"{said} {i % 97}",  # some rows are exact copies of others
            "tags": sorted(set(said.split()[:2])),
            "rank": float(i),
        })  # fmt: skip
    made[5] = {**made[4]}
    return made


@pytest.fixture(scope="module")
def options(tokenizer):
    return {
        "size": 20,
        "tokenizer": str(tokenizer),
        "diversity": 60,
        "index": {"micro": {"band": "2:60"}},
    }


@pytest.fixture(scope="module")
def folder(rows, options, tmp_path_factory):
    """The picks of the command line's verb from a file of the same rows."""
    place = tmp_path_factory.mktemp("files")
    (place / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    ingest(place / "rows.jsonl", out=place / "corpus")
    select_to_folder(
        place / "corpus", out=place / "subset", work=place / "work", strategy="micro-response",
        **options,
    )  # fmt: skip
    return place


@pytest.mark.parametrize(
    "shape", [list, datasets.Dataset.from_list, pl.DataFrame, pa.Table.from_pylist]
)
def test_every_shape_gives_the_picks_of_a_file_and_rows_of_its_own(rows, options, folder, shape):
    wanted = sd.Subset(folder / "subset")
    picked = sd.select(shape(rows), **options)
    assert list(picked.ids) == wanted.to_arrow()["id"].to_pylist()
    said = [rows[i]["output"] for i in picked.rows]
    assert said == wanted.to_arrow()["response"].to_pylist()
    assert picked.to_arrow()["output"].to_pylist() == said
    assert picked.to_dataset()["output"][:] == said
    assert picked.to_polars()["output"].to_list() == said
    figures = wanted.figures
    named = ("kinds_covered", "k_min", "k_max", "entropy_bits", "rows")
    assert {n: picked.figures[n] for n in named} == {n: figures[n] for n in named}
    assert len(picked) == 20
    assert picked.explain(0)["picked"]


def test_a_view_of_a_dataset_and_a_frame_of_pandas_count_their_own_rows(rows, options):
    whole = datasets.Dataset.from_list(rows)
    turned = sd.select(whole.select(range(119, -1, -1)), **options)
    frame = sd.select(whole.to_pandas(), **options)
    assert set(turned.ids) == set(frame.ids)
    assert [rows[119 - i]["output"] for i in turned.rows] == [rows[i]["output"] for i in frame.rows]


@pytest.mark.parametrize("shape", [pl.DataFrame, pl.DataFrame.to_dicts])
def test_rows_that_are_samples_already_count_where_they_are_now(options, folder, shape):
    corpus = pl.concat(pl.read_parquet(p) for p in sorted((folder / "corpus/samples").iterdir()))
    given = corpus.sample(fraction=1.0, shuffle=True, seed=1)
    picked = sd.select(shape(given), **options)
    assert list(picked.ids) == sd.Subset(folder / "subset").to_arrow()["id"].to_pylist()
    assert given[picked.rows]["id"].to_list() == list(picked.ids)


@pytest.mark.parametrize("harm", [lambda p: p.write_bytes(b"PAR1" * 99), lambda p: p.unlink()])
def test_a_damaged_subset_that_is_to_be_excluded_is_named(rows, options, folder, tmp_path, harm):
    shutil.copytree(folder / "subset", tmp_path / "subset")
    harm(next((tmp_path / "subset/samples").iterdir()))
    with pytest.raises(DataError, match=r"subset.*00000\.parquet"):
        sd.select(rows, exclude=str(tmp_path / "subset"), **options)


def test_own_kinds_are_tags_a_row_or_a_matrix_and_a_column_of_a_file(rows, options, folder):
    options = {k: v for k, v in options.items() if k != "index"}
    tags = [row["tags"] for row in rows]
    names = sorted({tag for row in tags for tag in row})
    matrix = sp.csr_matrix(np.array([[tag in row for tag in names] for row in tags]))
    plain = [{k: v for k, v in row.items() if k != "tags"} for row in rows]
    by_tags = sd.select(plain, kinds=tags, **options)
    by_matrix = sd.select(plain, kinds=matrix, **options)
    by_column = sd.select(rows, strategy="own", kinds_column="tags", **options)
    of_file = sd.select(
        folder / "corpus", strategy="own", kinds_column="tags", work=folder / "work", **options
    )
    assert by_tags.ids == by_matrix.ids == by_column.ids == of_file.ids
    held = {tag for i in by_tags.rows for tag in tags[i]}
    assert by_tags.figures["kinds_covered"] == len(held)
    assert by_tags.figures["kinds_total"] == len(names)


def test_own_scores_limit_what_is_picked(rows, options):
    ranked = sd.select(rows, strategy="random", size=30, quality="rank", quality_floor=50)
    given = sd.select(
        rows, strategy="random", size=30, quality=[row["rank"] for row in rows], quality_floor=50
    )
    assert ranked.ids == given.ids
    assert min(rows[i]["rank"] for i in ranked.rows) >= 55
    kept = sd.select(rows, strategy="random", size=30, must_include=given.ids[:7], seed=3)
    assert set(given.ids[:7]) <= set(kept.ids)
    left = sd.select(rows, strategy="random", size=30, exclude=given.ids)
    assert not set(given.ids) & set(left.ids)


def test_with_a_work_folder_another_process_finds_what_was_made(rows, options, tmp_path, capsys):
    first = sd.select(rows, work=tmp_path / "work", **options)
    assert not capsys.readouterr().err
    code = (
        "import json, sys, sft_diversity as sd\n"
        "rows, options, work = json.load(sys.stdin)\n"
        "picked = sd.select(rows, work=work, verbose=True, **options)\n"
        "print(picked.folder)"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps([rows, options, str(tmp_path / "work")]),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert told.stdout.strip() == str(first.folder)
    assert "is up to date" in told.stderr


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"data": 3}, "data is a builtins.int; give a datasets.Dataset"),
        ({"data": [{"instruction": "a", "output": {1, 2}}]}, "a row of data is no JSON"),
        ({"kinds": [["a"]]}, "kinds has 1 rows and data 120"),
        ({"quality": [1.0]}, "quality has 1 rows and data 120"),
        ({"tokenizer": 7}, "tokenizer is a int"),
        ({"sise": 7}, "did you mean `size`"),
        ({"strategy": "own"}, "kinds_column and strategy own go together"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(rows, given, said):
    with pytest.raises(UsageError, match=said) as fault:
        sd.select(given.pop("data", rows), size=3, **given)
    assert "\n" not in str(fault.value)


SIX = [f"{level}-{part}" for level in ("macro", "meso", "micro") for part in COMPONENTS]


def four_ways(rows, place, strategy, **options):
    """Return the ids that each way in leads to: a Dataset, a frame, a corpus, the command line."""
    if not (place / "corpus").exists():
        (place / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
        ingest(place / "rows.jsonl", out=place / "corpus")
    asked = {"strategy": strategy, **options}
    datasets_ids, frame_ids, folder_ids = (
        list(sd.select(data, work=place / work, **asked).ids)
        for data, work in (
            (datasets.Dataset.from_list(rows), "memory"),
            (pl.DataFrame(rows), "memory"),
            (place / "corpus", "files"),
        )
    )
    flags = [word for name, value in asked.items() for word in (f"--{name}", value)]
    said = command.sftdiv(
        "select", place / "rows.jsonl", *flags, "--work", place / "shell", "--out",
        place / strategy,
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    return datasets_ids, frame_ids, folder_ids, list(sd.Subset(place / strategy).ids)


@pytest.fixture(scope="module")
def sample():
    """Real exchanges, in the format that they were published in."""
    packed = ROOT / "data/sample/alpaca_en_demo/alpaca_en_demo.json.gz"
    found = json.loads(gzip.decompress(packed.read_bytes()))
    return [{name: row[name] for name in ("instruction", "input", "output")} for row in found]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("four")


@pytest.mark.parametrize("strategy", SIX)
def test_all_ways_in_lead_to_the_same_samples(sample, place, tiny, strategy):
    reads_encoder = {} if strategy.startswith("micro") else {"encoder": str(tiny)}
    ways = four_ways(sample[:160], place, strategy, size=40, diversity=67, **reads_encoder)
    assert len(set(ways[0])) == 40
    assert ways[0] == ways[1] == ways[2] == ways[3]


@pytest.mark.slow
@pytest.mark.parametrize("strategy", SIX)
def test_so_they_do_with_the_packaged_encoder(sample, tmp_path_factory, strategy):
    place = tmp_path_factory.getbasetemp() / "packaged"
    place.mkdir(exist_ok=True)
    ways = four_ways(sample, place, strategy, size=100, diversity=67)
    assert len(set(ways[0])) == 100
    assert ways[0] == ways[1] == ways[2] == ways[3]
