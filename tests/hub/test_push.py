"""Pushes by the command line, and what others read back."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sft_diversity.core import drafts, folder
from sft_diversity.exporting.formats import exported
from tests.exporting import fixtures

LICENCES = "--acknowledge-licences"


@pytest.fixture(scope="module")
def place(tmp_path_factory, shell):
    """Two subsets and a corpus in one folder, and a shell there."""
    root = tmp_path_factory.mktemp("push")
    fixtures.subset(root / "sub")
    fixtures.subset(root / "low", settings={"strategy": "micro-response", "diversity": 0.0})
    fixtures.corpus(root / "corpus")
    with shell.at(root / "here") as opened:
        yield opened


@pytest.fixture(scope="module")
def pushed(place):
    """What the command says of a push of all three, which is there for all tests."""
    subsets = [place.cwd.parent / name for name in ("sub", "low", "corpus")]
    done = place.run("export", *subsets, "--to", "hub:me/rows", "--tag", "v1", LICENCES, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["hub"]


def expected(place, name):
    files = sorted((place.cwd.parent / name / "samples").glob("*.parquet"))
    return exported(pa.concat_tables(pq.read_table(file) for file in files)).to_pylist()


READ = """
import datasets, json
datasets.disable_progress_bars()
read = lambda *a, **k: datasets.load_dataset(*a, split="train", **k)
print(json.dumps({
    "names": datasets.get_dataset_config_names("me/rows"),
    "67": read("me/rows", "micro-response-67").to_list(),
    "stream": list(read("me/rows", "micro-response-0", streaming=True)),
    "default": read("me/rows").to_list(),
    "messages": read("me/rows", "micro-response-67-messages").column_names,
    "tag": read("me/rows", "corpus", revision="v1").num_rows,
}))
"""


def test_what_was_pushed_is_read_back(place, pushed):
    assert pushed["state"] == "pushed"
    repository = place.hub.repository("me/rows")
    assert repository.private
    assert [c.title for c in repository.history()] == [
        "Export corpus, micro-response-0, micro-response-67", "initial",
    ]  # fmt: skip
    assert repository.tags == {"v1": pushed["commit"]}
    read = json.loads(place.python(READ))
    assert read["names"] == [
        "micro-response-0", "micro-response-0-messages", "micro-response-67",
        "micro-response-67-messages", "corpus", "corpus-messages",
    ]  # fmt: skip
    assert read["67"] == read["default"] == expected(place, "sub")
    assert read["stream"] == expected(place, "low")
    assert read["messages"] == ["id", "source", "pick", "messages"]
    assert read["tag"] == 6


DOWNLOAD = """
from huggingface_hub import snapshot_download
print(snapshot_download("me/rows", repo_type="dataset"))
"""


@pytest.mark.usefixtures("pushed")
def test_a_download_verifies_whole_and_by_config(place):
    root = place.cwd / place.python(DOWNLOAD).strip()
    assert folder.verify(root)["faults"] == []
    for config in ("corpus", "micro-response-0", "micro-response-67"):
        assert folder.verify(root / config)["faults"] == []
        assert "run" not in json.loads((root / config / "manifest.json").read_text())


def model(out, weights, **files):
    """Write a folder as `finetune` leaves it; what it was trained on is the corpus fixture's."""
    from safetensors.numpy import save_file

    corpus = folder.read_manifest(out.parent / "corpus")
    inputs = {"subset": folder.contents_key(corpus, "samples/"), "model": "base"}
    draft = drafts.open_draft(out, drafts.Work("finetune", 1, inputs, {"phi": 2.0}))
    save_file({"w": np.arange(6, dtype=np.float32)}, draft.path / weights)
    for name, text in files.items():
        (draft.path / name.replace("_json", ".json")).write_text(text)
    (draft.path / "README.md").write_text("---\ntags: [sft]\n---\n\n# model\n")
    (draft.path / "optimizer.pt").write_bytes(b"pickle")
    draft.commit(result={"steps": 2})
    return out


@pytest.mark.parametrize(
    ("weights", "config"),
    [("model.safetensors", "config_json"), ("adapter_model.safetensors", "adapter_config_json")],
)
def test_models_and_adapters_go_as_safetensors_alone(place, weights, config):
    root = place.cwd.parent
    name = f"me/{config.partition('_')[0]}"
    source = model(root / name.replace("/", "-"), weights, **{config: "{}"})
    command = ["export", source, "--to", f"hub:{name}", "--corpus", root / "corpus"]
    done = place.run(*command)
    assert done.returncode == 2
    assert "b (no licence stated)" in done.last
    done = place.run(*command, LICENCES)
    assert done.returncode == 0, done.stderr
    repository = place.hub.repository(name, "models")
    assert {*repository.files()} - {".gitattributes"} == {
        "README.md", config.replace("_json", ".json"), "manifest.json", weights, "training.json",
    }  # fmt: skip
    assert repository.read(weights) == (source / weights).read_bytes()
    assert place.run(*command, LICENCES).last.startswith("export: already there")
    (source / "README.md").write_text("---\ntags: [sft]\n---\n\n# better\n")
    repository.edit("README.md", b"mine")
    done = place.run(*command, LICENCES)
    assert "was changed since the last export: README.md edited" in done.last


def test_a_small_listing_page_and_a_repository_of_an_organisation(place):
    place.hub.page = 2
    command = ["export", place.cwd.parent / "sub", "--to", "hub:org/rows", "--no-private", LICENCES]
    assert place.run(*command).returncode == 0
    assert not place.hub.repository("org/rows").private
    assert place.run(*command).last.startswith("export: already there")
    place.hub.page = 1000
