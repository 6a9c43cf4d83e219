from __future__ import annotations

import re

import pytest
import yaml
from huggingface_hub import DatasetCard

from sft_diversity.exporting import collection, stage
from sft_diversity.exporting.record import PushRecord
from tests import making
from tests.exporting import fixtures


def layout(root, names=(), **options):
    """Stage a subset for each of the strategies and a corpus; return the layout and the card."""
    exports = []
    for i, settings in enumerate(names):
        source = fixtures.subset(root / f"source{i}", settings=settings)
        making.export(source, str(root / f"{i}"), stage.ExportConfig(**options))
        exports.append(root / f"{i}")
    staged = collection.config_names(exports, None)
    made = collection.layout("me/rows", "A: 'title' |", staged, PushRecord(), [])
    return made, DatasetCard(made.items["README.md"].source.decode())


HIGH = {"strategy": "micro-response", "diversity": 100.0, "seed": 0, "size": 6}
LOW = HIGH | {"diversity": 5.0}
RANDOM = {"strategy": "random", "diversity": 100.0, "seed": 0, "size": 6}


@pytest.fixture(scope="module")
def card(tmp_path_factory):
    return layout(tmp_path_factory.mktemp("card"), [HIGH, RANDOM, LOW])[1]


def test_metadata_has_the_configs_in_order_with_splits_and_types(card):
    data = card.data.to_dict()
    assert data["pretty_name"] == "A: 'title' |"
    assert data["license"] == "unknown"
    assert data["size_categories"] == ["n<1K"]
    assert "arxiv:2505.24768" in data["tags"]
    assert [one["config_name"] for one in data["configs"]] == [
        "micro-response-5", "micro-response-5-messages", "micro-response-100",
        "micro-response-100-messages", "random", "random-messages",
    ]  # fmt: skip
    assert [one["config_name"] for one in data["configs"] if one.get("default")] == [
        "micro-response-100"
    ]
    info = data["dataset_info"][0]
    assert info["config_name"] == "micro-response-5"
    assert info["splits"][0]["num_examples"] == 6
    assert [one["name"] for one in info["features"]][:3] == ["id", "source", "pick"]


def test_metadata_is_plain_yaml(card):
    head = card.content.split("---\n")[1]
    assert not re.search(r"[&*]id\d", head)
    assert yaml.safe_load(head)["pretty_name"] == "A: 'title' |"


def test_figures_sources_and_commands_are_in_the_text(card):
    assert "| `micro-response-5` | micro-response | 5 % | 0 | 6 |" in card.text
    assert "| a | unknown | 3 (50.0%) | 3 (50.0%) | 3 (50.0%) |" in card.text
    assert "Look before you use or pass on: a (no licence stated); b (no licence" in card.text
    assert 'load_dataset("me/rows", "micro-response-100", split="train")' in card.text
    assert "6 rows have several assistant turns" in card.text
    assert "sftdiv select CORPUS --config random/selection.yaml --out random" in card.text
    assert "sftdiv export micro-response-5 micro-response-100 random --to hub:me/rows" in card.text


def test_many_configs_have_one_column_of_rows_in_the_source_table(tmp_path):
    card = layout(tmp_path, [HIGH | {"diversity": float(i)} for i in range(7)])[1]
    assert "| source | licence | rows, all configs |" in card.text
    assert "| a | unknown | 21 |" in card.text


@pytest.mark.parametrize("file_type", ["parquet", "jsonl"])
def test_other_formats_list_their_own_columns(tmp_path, file_type):
    made, card = layout(tmp_path, [RANDOM], format="messages", file_type=file_type)
    assert list(made.configs) == ["random-messages"]
    configs = card.data.to_dict()["configs"]
    assert [one["config_name"] for one in configs] == ["random-messages"]
    assert configs[0]["data_files"][0]["path"] == f"random-messages/data/train-*.{file_type}"
    assert "trl sft" not in card.text


def test_a_layout_is_the_same_bytes_again(tmp_path):
    one, two = (layout(tmp_path / name, [HIGH, LOW])[0] for name in ("one", "two"))
    assert {path: item.sha256 for path, item in one.items.items()} == {
        path: item.sha256 for path, item in two.items.items()
    }


def test_jsonl_has_no_config_of_some_columns(tmp_path):
    """`datasets` picks columns from Parquet alone; from JSONL it would give them all."""
    data = layout(tmp_path, [HIGH], file_type="jsonl")[1].data.to_dict()
    assert [one["config_name"] for one in data["configs"]] == ["micro-response-100"]
    staged = DatasetCard.load(tmp_path / "0" / "README.md").data.to_dict()
    assert [one["config_name"] for one in staged["configs"]] == ["default"]
