"""The verb from raw files on, with a small real encoder and tokenizer."""

from __future__ import annotations

import json

import pytest

from sft_diversity.core import corpus as corpora
from sft_diversity.core.errors import UsageError
from sft_diversity.metrics import show
from sft_diversity.verbs import measuring
from sft_diversity.verbs.measuring import measure, report
from sft_diversity.verbs.selecting import select
from tests import tiny
from tests.embedding import make


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("verb")
    tiny.tokenizer().save_pretrained(root / "tokenizer")
    make.encoder(root / "encoder")
    for name, start in (("pool", 0), ("other", 500)):
        with (root / f"{name}.jsonl").open("w") as handle:
            for asked, said in make.pairs(60, start):
                handle.write(json.dumps({"instruction": asked, "output": said}) + "\n")
    return root


def options(place, work="work"):
    given = {"tokenizer": str(place / "tokenizer"), "encoder": str(place / "encoder")}
    return {**given, "work": place / work}


@pytest.fixture(scope="module")
def subset(place):
    out = place / "subset"
    select(
        place / "pool.jsonl", out=out, strategy="micro-response", size=20,
        index={"micro": {"band": "2:60"}}, **options(place),
    )  # fmt: skip
    measure(place / "pool.jsonl", **options(place))
    return out


def test_raw_files_stand_side_by_side(place):
    result = measure(place / "pool.jsonl", place / "other.jsonl", **options(place))
    first, second = result["datasets"]
    assert (first["name"], first["rows"]) == ("pool.jsonl", 60)
    assert first["response"]["token_entropy_bits"] != second["response"]["token_entropy_bits"]
    table = show.measured(result)
    assert table.count("pool.jsonl") == 2
    assert "self-BLEU" in table


def test_a_subset_uses_what_its_corpus_was_described_by(place, subset):
    made = sorted((place / "work").glob("*/*"))
    result = measure(subset, **options(place))
    assert [p for p in sorted((place / "work").glob("*/*")) if "measure" not in p.parts] == [
        p for p in made if "measure" not in p.parts
    ]
    figures = result["datasets"][0]["response"]
    chosen = json.loads((subset / "manifest.json").read_text())["result"]
    assert figures["micro_kinds"] == chosen["kinds_covered"]
    assert figures["micro_evenness"] == pytest.approx(chosen["evenness"], abs=1e-6)
    assert figures["token_entropy_bits"] == pytest.approx(chosen["entropy_bits"], abs=1e-6)
    assert figures["tokens_mean"] == pytest.approx(chosen["response_tokens"], abs=1e-3)


def test_a_subset_without_its_work_folder_is_described_anew(place, subset):
    pool = json.loads((subset / "manifest.json").read_text())["inputs"]["corpus"]
    made = (place / "work" / "ingest").iterdir()
    corpus = next(path for path in made if corpora.key(path) == pool)
    here = measure(subset, **options(place))["datasets"][0]
    there = measure(subset, reference=str(corpus), **options(place, "elsewhere"))["datasets"][0]
    for component in ("instruction", "response"):
        lasting = {k: v for k, v in here[component].items() if not k.startswith("micro_")}
        assert there[component] == pytest.approx(lasting, abs=2e-4)


def test_a_dry_run_plans_and_touches_nothing(place, subset):
    plan = measure(subset, place / "pool.jsonl", dry_run=True, **options(place, "fresh"))["plan"]
    assert [step["stage"] for step in plan][-1] == "measure"
    assert {step["state"] for step in plan} == {"to do"}
    assert not (place / "fresh").exists()
    ready = measure(subset, dry_run=True, **options(place))["plan"]
    assert [step["stage"] for step in ready] == ["measure"]
    assert ready[0]["rows"] == 20


def test_data_sets_of_one_name_are_told_apart_by_their_folders(place, subset):
    (place / "twin").mkdir(exist_ok=True)
    (place / "twin" / "pool.jsonl").write_bytes((place / "other.jsonl").read_bytes())
    result = measure(place / "pool.jsonl", place / "twin" / "pool.jsonl", **options(place))
    assert [d["name"] for d in result["datasets"]] == [
        f"{place.name}/pool.jsonl",
        "twin/pool.jsonl",
    ]


def test_what_is_no_data_set_is_an_error(place):
    with pytest.raises(UsageError, match="no such file"):
        measure(place / "nothing.jsonl", **options(place))


def test_a_report_shows_the_measures_of_a_subset_and_its_dry_run_knows_them(
    place, subset, monkeypatch, tmp_path
):
    described = {name: value for name, value in options(place).items() if name != "work"}
    own = measuring.MeasureOptions(**described)
    measure(subset, **options(place))
    monkeypatch.setattr(measuring, "MeasureOptions", lambda: own)
    asked = {"out": tmp_path / "page.html", "work": place / "work", "layout": "none"}
    for state in ("to do", "cached"):
        plan = report(subset, dry_run=True, **asked)["plan"]
        steps = [(step["stage"], step["state"]) for step in plan]
        assert steps == [("measure", "cached"), ("report", state)]
        assert report(subset, **asked)["out"] == plan[-1]["out"] == str(asked["out"])
    assert "self-BLEU" in asked["out"].read_text()
