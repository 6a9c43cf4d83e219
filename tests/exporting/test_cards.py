from __future__ import annotations

import pytest
from huggingface_hub import DatasetCard

from sft_diversity.core import folder
from sft_diversity.exporting import cards, stage
from sft_diversity.exporting.formats import exported
from sft_diversity.exporting.shards import Statistics
from tests import making
from tests.exporting import fixtures


@pytest.fixture(scope="module")
def parsed(tmp_path_factory):
    root = tmp_path_factory.mktemp("card")
    source, corpus = fixtures.subset(root / "subset"), fixtures.corpus(root / "corpus")
    config = stage.ExportConfig(corpus=corpus, title="A: title, with 'signs' & |")
    making.export(source, str(root / "out"), config)
    return DatasetCard.load(root / "out" / "README.md")


def test_the_metadata_is_what_the_hub_asks_for(parsed):
    data = parsed.data.to_dict()
    assert data["pretty_name"] == "A: title, with 'signs' & |"
    assert data["license"] == ["apache-2.0", "unknown"]
    assert data["size_categories"] == ["n<1K"]
    assert [c["config_name"] for c in data["configs"]] == [
        "default",
        "messages",
        "prompt-completion",
    ]
    assert "data-selection" in data["tags"]


def test_sources_figures_and_lineage_are_in_the_text(parsed):
    assert "| a | 3 | 50.0% | Apache-2.0 |" in parsed.text
    assert "| b | 3 | 50.0% | unknown |" in parsed.text
    assert "| kinds covered | 1,234 |" in parsed.text
    assert "- input corpus: `c0ffee`" in parsed.text
    assert "strategy: micro-response" in parsed.text


def test_dialogues_come_with_the_way_to_train_on_all_their_turns(parsed):
    assert "2 rows have several assistant turns" in parsed.text
    assert "--dataset_config messages --assistant_only_loss True" in parsed.text.replace("\n", " ")


def test_statistics_count_every_row_once():
    statistics = Statistics()
    rows = exported(fixtures.samples())
    statistics.add(rows.slice(0, 2))
    statistics.add(rows.slice(2))
    found = statistics.as_json()
    assert (found["rows"], found["dialogues"], found["with_system"]) == (6, 2, 1)
    assert found["sources"] == {"a": 3, "b": 3}
    completions = [row["completion"][0]["content"] for row in rows.to_pylist()]
    assert found["mean_completion_characters"] == round(sum(map(len, completions)) / 6, 1)


@pytest.mark.parametrize(
    ("rows", "name"),
    [(1, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (117_000, "100K<n<1M"), (10**9, "n>100M")],
)
def test_size_categories(rows, name):
    assert cards.size_category(rows) == name


def test_a_source_name_cannot_break_the_table(tmp_path):
    samples = fixtures.samples()
    names = ["x | y\n<script>"] * samples.num_rows
    import pyarrow as pa

    samples = samples.set_column(1, "source", pa.array(names))
    source = fixtures.subset(tmp_path / "subset", samples)
    making.export(source, str(tmp_path / "out"), stage.ExportConfig())
    assert folder.verify(tmp_path / "out")["faults"] == []
    assert "| x \\| y &lt;script> | 6 |" in (tmp_path / "out/README.md").read_text()
