"""Strategies over thoughts, answers and calls: what they count, and who holds nothing."""

import itertools
from collections import Counter

import pytest
from tokenizers import Tokenizer

import sft_diversity as sd
from sft_diversity.core import config as configs
from sft_diversity.core import corpus, incidence, messages, resources
from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.levels.stage import IndexConfig
from sft_diversity.selection.config import SelectConfig
from sft_diversity.studies.config import StudyConfig
from tests.ingestion.making import run, write_lines
from tests.making import make
from tests.test_structured import ROWS

MORE = ("thinking", "answer", "tool-call")
NO_BAND = {"micro": {"band": "1:1000"}}


@pytest.fixture(scope="module")
def birds(tmp_path_factory):
    place = tmp_path_factory.mktemp("birds")
    run(write_lines(place / "birds.jsonl", ROWS), place / "corpus")
    return place


@pytest.mark.parametrize("component", MORE)
def test_micro_kinds_are_the_tokens_of_the_component_alone(birds, component):
    options = configs.build(IndexConfig, {"strategy": f"micro-{component}"} | NO_BAND, "test")
    made = make("index", options, birds / f"index-{component}", birds / "corpus")
    held = incidence.load(birds / f"index-{component}")
    ids = incidence.load_ids(birds / f"index-{component}").to_pylist()
    samples = {row["id"]: row for row in corpus.read(birds / "corpus").to_pylist()}
    tokenizer = Tokenizer.from_file(str(resources.tokenizer() / "tokenizer.json"))
    for number, id in enumerate(ids):
        text = messages.component_text(samples[id]["messages"], component)
        counts = Counter(tokenizer.encode(text, add_special_tokens=False).ids)
        row = slice(held.indptr[number], held.indptr[number + 1])
        assert sorted(held.counts[row]) == sorted(counts.values())
    assert made["result"]["component"] == component


@pytest.mark.parametrize("level", ["micro", "meso", "macro"])
def test_samples_without_a_thought_hold_no_kind_and_are_not_picked(birds, level):
    found = sd.select(
        birds / "corpus", size=10, strategy=f"{level}-thinking", work=birds / "work", diversity=50
    )
    assert (found.figures["eligible"], found.figures["no_kind"]) == (20, 40)
    assert all(
        messages.component_text(row["messages"], "thinking") for row in found.to_arrow().to_pylist()
    )
    assert {"thinking_tokens", "response_tokens"} <= set(found.figures)


def test_of_plain_samples_the_answer_is_the_response_and_there_is_nothing_else(tmp_path):
    rows = [{"instruction": f"Say {i}", "output": f"It is {i} and {i % 7}."} for i in range(40)]
    run(write_lines(tmp_path / "a.jsonl", rows), tmp_path / "corpus")
    picked = {
        name: sd.select(tmp_path / "corpus", size=10, strategy=name, work=tmp_path / "work").ids
        for name in ("micro-response", "micro-answer")
    }
    assert picked["micro-response"] == picked["micro-answer"]
    for level, component in itertools.product(
        ("micro", "meso", "macro"), ("thinking", "tool-call")
    ):
        with pytest.raises(DataError, match=r"no sample of the corpus has a (thought|call)"):
            sd.select(
                tmp_path / "corpus",
                size=10,
                strategy=f"{level}-{component}",
                work=tmp_path / "work",
            )


def test_measures_and_baselines_of_embeddings_take_any_component(birds):
    found = sd.measure(birds / "corpus", components=("thinking", "tool-call"), work=birds / "work")
    means = {row["component"]: row["tokens_mean"] for row in found.to_polars().to_dicts()}
    assert set(means) == {"thinking", "tool-call"}
    assert 0 < means["thinking"] < means["tool-call"]
    centres = sd.select(
        birds / "corpus", size=5, strategy="k-center", embedded="thinking", work=birds / "work"
    )
    assert centres.figures["embedded"] == "thinking"


def test_options_know_the_strategies_and_name_what_they_do_not():
    for level, component in itertools.product(("macro", "meso", "micro"), MORE):
        given = {"strategy": f"{level}-{component}"}
        assert configs.build(IndexConfig, given, "test").component == component
        assert configs.build(SelectConfig, given | {"size": 5}, "test").component == component
        study = {"corpus": "c", "grid": {**given, "diversity": [0, 100], "size": [5]}}
        assert configs.build(StudyConfig, study, "test").grid["strategy"] == [given["strategy"]]
        assert messages.component_of(given["strategy"]) == component
    with pytest.raises(UsageError, match="micro-thinking"):
        configs.build(SelectConfig, {"strategy": "micro-thoughts", "size": 5}, "test")
