from __future__ import annotations

import signal

import numpy as np
import pytest

from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.core.folder import verify
from sft_diversity.core.incidence import Incidence
from sft_diversity.core.vectors import unit
from sft_diversity.metrics import stage
from sft_diversity.metrics.stage import Measurement, component_data
from sft_diversity.metrics.table import ComponentData, MeasureConfig, measure_table
from tests.making import left_behind, make, plan, quiet
from tests.metrics import making
from tests.processes import Child

CONFIG = MeasureConfig(self_bleu_sample=20, novelsum_sample=30, reference_sample=40)
METRICS = {
    "tokens_mean", "tokens_median", "tokens_p90", "characters_mean", "distinct_1", "distinct_2",
    "distinct_3", "distinct_4", "distinct_1_in_10k", "distinct_2_in_10k", "compression_ratio",
    "self_bleu", "token_entropy_bits", "embedding_distance", "vendi_score", "novelsum",
}  # fmt: skip


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return making.described(tmp_path_factory.mktemp("described"))


@pytest.fixture
def few(corpus, tmp_path):
    return making.subset(corpus, tmp_path / "few.parquet", [40, 3, 17, 25, 8, 8 + 5])


def measure(datasets, out, config=CONFIG, say=quiet):
    return make("measure", Measurement(**config.model_dump(), datasets=datasets), out, say=say)


def planned(datasets, out, config=CONFIG):
    return plan("measure", Measurement(**config.model_dump(), datasets=datasets), out)


def bytes_of(out):
    return {p.name: p.read_bytes() for p in sorted((out / "metrics").iterdir())}


def test_every_metric_of_both_components_stands_in_the_result(corpus, few, tmp_path):
    result = measure([corpus, few], tmp_path / "out")["result"]
    assert [(d["name"], d["rows"]) for d in result["datasets"]] == [("all", 48), ("some", 6)]
    kinds = {"macro_kinds", "macro_share", "macro_evenness"}
    for dataset in result["datasets"]:
        assert set(dataset["instruction"]) == METRICS
        assert set(dataset["response"]) == METRICS | kinds
    assert verify(tmp_path / "out")["faults"] == []


def test_a_subset_is_read_from_what_describes_its_corpus(corpus, few, tmp_path):
    part = component_data(few, "response", CONFIG)
    whole = component_data(corpus, "response", CONFIG)
    rows = sorted([40, 3, 17, 25, 8, 13])
    assert part.texts == [whole.texts[i] for i in rows]
    assert np.array_equal(part.vectors, whole.vectors[rows])
    assert np.array_equal(part.token_lengths, whole.token_lengths[rows])
    assert part.token_occurrences.sum() == part.token_lengths.sum()
    assert part.incidences["macro"].indices.tolist() == [i % 5 for i in rows]
    assert np.array_equal(part.reference, whole.reference)


def test_the_order_in_which_samples_were_picked_does_not_matter(corpus, tmp_path):
    rows = list(range(0, 48, 2))
    one = making.subset(corpus, tmp_path / "a.parquet", rows)
    other = making.subset(corpus, tmp_path / "b.parquet", rows[::-1])
    measure([one], tmp_path / "one")
    measure([other], tmp_path / "other")
    assert bytes_of(tmp_path / "one") == bytes_of(tmp_path / "other")


def test_a_second_run_reuses_and_other_options_recompute(few, tmp_path):
    said = []
    measure([few], tmp_path / "out", say=said.append)
    step = planned([few], tmp_path / "out")
    assert (step["state"], step["rows"]) == ("cached", 6)
    measure([few], tmp_path / "out", say=said.append)
    other = CONFIG.model_copy(update={"self_bleu_sample": 4})
    assert planned([few], tmp_path / "out", other)["state"] == "to do"
    measure([few], tmp_path / "out", other, said.append)
    assert "up to date" in said[1]
    assert "self_bleu_sample changed: 20 -> 4" in said[2]


def test_a_killed_run_resumes_and_ends_with_the_same_bytes(tmp_path):
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from sft_diversity.metrics import stage\n"
        "from tests.metrics import making, test_stage\n"
        "root = Path(sys.argv[1])\n"
        "data = making.described(root)\n"
        "few = making.subset(data, root / 'few.parquet', [1, 2, 3])\n"
        "test_stage.measure([data, few], root / 'whole')\n"
        "table, calls = stage.measure_table, []\n"
        "def killed(part, config):\n"
        "    calls.append(1)\n"
        "    if len(calls) == 3: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return table(part, config)\n"
        "stage.measure_table = killed\n"
        "test_stage.measure([data, few], root / 'out')\n"
    )
    assert Child(code, tmp_path).wait() == -signal.SIGKILL
    assert len(list((tmp_path / ".out.partial" / "metrics").iterdir())) == 2
    data = making.described(tmp_path / "again")  # elsewhere, but of the same contents
    few = making.subset(data, tmp_path / "few.parquet", [1, 2, 3])
    said = []
    measure([data, few], tmp_path / "out", say=said.append)
    assert "resumed" in said[0]
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "whole")
    assert left_behind(tmp_path) == []


def test_samples_that_the_passes_do_not_know_are_an_error(corpus, tmp_path):
    stranger = making.described(tmp_path / "other")
    mixed = stage.Dataset(
        "mixed", stranger.files, 48, "k", corpus.tokens, corpus.embeddings, corpus.reference
    )
    measure([mixed], tmp_path / "out")  # the same texts have the same ids
    strange = making.making.corpus(tmp_path / "strange", [("Who?", "Me.")])
    files = making.corpora.shards(strange)
    lost = stage.Dataset("lost", files, 1, "k", corpus.tokens, corpus.embeddings, corpus.reference)
    with pytest.raises(DataError, match="lost: 1 of 1 samples are not in the token pass"):
        measure([lost], tmp_path / "nothing")


def test_no_data_set_is_an_error(tmp_path):
    with pytest.raises(UsageError, match="no data set"):
        measure([], tmp_path / "out")


def part_of(n, **changes):
    rng = np.random.default_rng(0)
    given = {
        "texts": [f"text {i} of {i % 3}" for i in range(n)],
        "token_lengths": np.arange(n) + 1,
        "token_occurrences": np.arange(5),
        "vectors": unit(rng.normal(size=(n, 4))),
        "reference": unit(rng.normal(size=(20, 4))),
    }
    return ComponentData(**(given | changes))


def test_one_sample_has_no_metrics_that_compare_samples():
    found = measure_table(part_of(1), CONFIG)
    assert found["vendi_score"] == 1.0
    assert {name for name, value in found.items() if value is None} == {
        "self_bleu", "embedding_distance", "novelsum", "distinct_1_in_10k", "distinct_2_in_10k",
    }  # fmt: skip


def test_blank_texts_have_no_ratios_and_give_no_warning():
    found = measure_table(part_of(3, texts=["", " ", "\n"]), CONFIG)
    assert found["distinct_1"] is None
    assert found["self_bleu"] == 0.0


def test_a_table_takes_incidences_by_level():
    held = Incidence(np.arange(4), np.zeros(3, np.int32), np.ones(3, np.int32), 2)
    found = measure_table(part_of(3, incidences={"micro": held}), CONFIG)
    assert (found["micro_kinds"], found["micro_share"]) == (1, 0.5)
