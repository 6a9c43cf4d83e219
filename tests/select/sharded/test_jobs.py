"""Two-round greedy as separate calls: the picks of `distributed_greedy`, near those of one."""

import json
from pathlib import Path

import numpy as np
import pytest

from sft_diversity import workflow
from sft_diversity.core import folder, incidence
from sft_diversity.core.errors import UsageError
from sft_diversity.select import stage
from sft_diversity.select.dial import make_dial
from sft_diversity.select.sharded.greedy import distributed_greedy
from sft_diversity.select.sharded.shards import split
from tests.levels import making

SIZE = 40


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A corpus of 400 samples, its work folder with the index, and the options of `select`."""
    root = tmp_path_factory.mktemp("rounds")
    draw = np.random.default_rng(0)
    words = [f"{a}{b}" for a in "bcdfghklmn" for b in ("ade", "ire", "one", "uck")]
    texts = [
        (f"Say {number}.", " ".join(draw.choice(words, int(draw.integers(2, 9)))))
        for number in range(400)
    ]
    corpus = making.corpus(root / "corpus", texts)
    index = {"micro": {"band_min": 2, "band_max": 200}}
    tokenizer = str(making.tokenizer_file(root / "tokenizer.json"))
    asked = {"strategy": "micro-response", "tokenizer": tokenizer, "index": index}
    workflow.index(
        corpus, work=root / "work", strategy="micro-response", tokenizer=tokenizer, **index
    )
    return corpus, root / "work", {**asked, "size": SIZE, "fill": "balance", "seed": 3}


def contents(place: Path) -> dict[str, bytes]:
    files = {p.name: p.read_bytes() for p in place.rglob("*.parquet")}
    manifest = folder.read_manifest(place)
    del manifest["run"]
    return files | {"manifest": json.dumps(manifest).encode()}


@pytest.mark.parametrize("diversity", [100, 40])
def test_parts_in_any_order_pick_what_one_process_picks_in_two_rounds(tmp_path, made, diversity):
    corpus, work, asked = made
    asked = {**asked, "diversity": diversity}
    for part in ("3/4", "1/4", "4/4", "2/4"):
        told = workflow.select(corpus, part=part, work=work, **asked)
        place = workflow.part_folder("select", corpus, part, work=work, **asked)
        assert told["out"] == str(place)
        assert not folder.verify(place)["faults"]
        assert workflow.select(corpus, part=part, work=work, **asked) == told
    figures = workflow.select(corpus, parts=4, out=tmp_path / "parts", work=work, **asked)
    workflow.select(corpus, parts=4, out=tmp_path / "alone", work=tmp_path / "fresh", **asked)
    assert contents(tmp_path / "parts") == contents(tmp_path / "alone")

    whole = incidence.load(next(work.glob("index/*")))
    dial = make_dial(whole, SIZE)
    pool, shards = dial.peeling.pool(dial.step(diversity)), split(whole, 4)
    pools = [pool[(pool >= s.first) & (pool < s.first + s.n_samples)] - s.first for s in shards]
    one = distributed_greedy(shards, pools, whole.n_kinds, SIZE, seed=3)
    ids = incidence.load_ids(next(work.glob("index/*"))).take(one.rows).to_pylist()
    table = stage.pq.read_table(stage.files_of(tmp_path / "parts")[0])
    assert table["id"].to_pylist() == ids
    assert figures["candidates"] == one.candidates
    assert figures["objective_value"] == pytest.approx(one.value, abs=1e-6)


def test_two_rounds_lose_little_against_one(tmp_path, made):
    corpus, work, asked = made
    two = workflow.select(corpus, parts=4, out=tmp_path / "two", work=work, **asked)
    one = workflow.select(corpus, out=tmp_path / "one", work=work, **asked)
    assert two["objective_value"] >= 0.99 * one["objective_value"]
    assert two["parts"] == 4
    assert "parts" not in one
    assert two["rows"] == one["rows"] == SIZE


def test_a_part_that_is_missing_or_damaged_is_made_by_the_second_round(tmp_path, made):
    corpus, work, asked = made
    asked = {**asked, "seed": 5}
    for part in ("1/3", "2/3"):
        workflow.select(corpus, part=part, work=work, **asked)
    broken = workflow.part_folder("select", corpus, "1/3", work=work, **asked)
    (broken / "candidates.npy").write_bytes(b"")
    workflow.select(corpus, parts=3, out=tmp_path / "mended", work=work, **asked)
    workflow.select(corpus, parts=3, out=tmp_path / "alone", work=tmp_path / "fresh", **asked)
    assert contents(tmp_path / "mended") == contents(tmp_path / "alone")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"fill": "draws"}, "give --fill balance"),
        ({"strategy": "random"}, "pick by balance over kinds"),
        ({"max_per_kind": 2}, "max_per_kind does not work with --part"),
        ({"quota": "source=corpus"}, "quota does not work with --part"),
        ({"grid": "seed=0,1"}, "no grid"),
        ({"out": "somewhere"}, "leave out --out"),
        ({"part": "5/4"}, "part is `5/4`"),
    ],
)
def test_what_two_rounds_cannot_do_is_refused(made, options, reason):
    corpus, work, asked = made
    with pytest.raises(UsageError, match=reason):
        workflow.select(corpus, work=work, **{"part": "1/4", **asked, **options})


def test_parts_want_the_index_made_once(tmp_path, made):
    corpus, _, asked = made
    with pytest.raises(UsageError, match=r"parts share one index.*run `sftdiv index "):
        workflow.select(corpus, part="1/4", work=tmp_path / "fresh", **asked)
    assert not (tmp_path / "fresh").exists()
    plan = workflow.select(corpus, part="1/4", work=tmp_path / "fresh", dry_run=True, **asked)
    assert [step["stage"] for step in plan["plan"]] == ["tokens", "index", "select"]


def test_a_subset_wants_a_folder(made):
    corpus, work, asked = made
    with pytest.raises(UsageError, match="name the folder to write"):
        workflow.select(corpus, work=work, **asked)
