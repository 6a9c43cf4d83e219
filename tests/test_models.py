"""Models: found under any name, keyed by their contents alone, loaded one at a time."""

from __future__ import annotations

import json
import os
import shutil
import threading

import pytest
from transformers import AutoModelForCausalLM, PreTrainedModel

from sft_diversity.core import hashing, models
from sft_diversity.core.drafts import Work, open_draft
from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.training.models import load_base
from tests import tiny

MODELS = models.Finder("test: model")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return tiny.save(tmp_path_factory.mktemp("models") / "base")


@pytest.fixture
def read(monkeypatch):
    """Forget all hashes; return the names of files that are read for theirs from now on."""
    hashing._file_key.cache_clear()
    files, plain = [], hashing.file_sha256

    def reading(path):
        files.append(path.name)
        return plain(path)

    monkeypatch.setattr(hashing, "file_sha256", reading)
    return files


def key(place):
    return MODELS.find(place).key


def test_a_key_is_of_what_a_model_computes_with(saved, tmp_path):
    copy = shutil.copytree(saved, tmp_path / "elsewhere")
    assert key(copy) == key(saved)
    for name in ("README.md", "pytorch_model.bin", "trainer_state.json", "training.json"):
        (copy / name).write_text("{}")
    assert key(copy) == key(saved)
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 1e-5}))
    assert key(copy) != key(saved)


def test_weights_are_read_once_in_a_process(saved, read):
    assert key(saved) == key(str(saved))
    assert read.count("model.safetensors") == 1


def made(saved, out):
    draft = open_draft(out, Work("finetune", 1, {}, {}))
    for file in saved.iterdir():
        with draft.writing(file.name) as path:
            shutil.copyfile(file, path)
    draft.commit()
    return out


def test_our_own_outputs_are_keyed_by_their_manifest_until_a_file_is_younger(saved, tmp_path, read):
    out = made(saved, tmp_path / "out")
    read.clear()
    assert key(out) == key(saved)  # of which all is read
    assert sorted(read) == sorted(file.name for file in saved.iterdir())
    weights = out / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert key(out) != key(saved)


def test_the_hubs_cache_says_the_hashes_of_large_files(saved, tmp_path, read):
    """As `huggingface_hub` lays it out: links to blobs that are named by their SHA-256."""
    at, blobs = tmp_path / "snapshots" / "c0ffee", tmp_path / "blobs"
    shutil.copytree(saved, at)
    blobs.mkdir()
    weights = at / "model.safetensors"
    blob = blobs / hashing.file_sha256(weights)
    weights.rename(blob)
    weights.symlink_to(os.path.relpath(blob, at))
    read.clear()
    assert key(at) == key(saved)
    assert read.count("model.safetensors") == 1  # the plain folder's


def test_the_contents_are_the_key_under_a_hub_id_too(saved, tmp_path, monkeypatch):
    at = shutil.copytree(saved, tmp_path / "c0ffee")
    asked = []
    monkeypatch.setattr(
        models, "_snapshot", lambda name, revision, fetch=True: [asked.append(name), at][1]
    )
    for find in (MODELS.find, MODELS.at_hand):
        found = find("me/model@main")
        assert (found.key, found.name, found.commit) == (key(saved), "me/model@main", "c0ffee")
    (at / "model.safetensors").unlink()  # its tokenizer alone was fetched
    assert MODELS.at_hand("me/model") is None


def test_an_adapter_is_keyed_with_its_base_and_reads_as_far(saved, tmp_path):
    (tmp_path / "adapter_config.json").write_text(
        json.dumps({"base_model_name_or_path": str(saved)})
    )
    adapter = MODELS.find(tmp_path)
    assert adapter.context == MODELS.find(saved).context == 512
    before = adapter.key
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(DataError, match="names no base model"):
        _ = MODELS.find(tmp_path).key
    assert before not in (key(saved), None)


@pytest.mark.parametrize("name", ["./nope", "/no/where", "../nope", "a/b/c"])
def test_what_can_be_no_hub_id_is_refused_without_asking_for_it(name):
    for find in (MODELS.find, MODELS.at_hand):
        with pytest.raises(
            UsageError, match=r"test: model .*no such folder; name a folder, a GGUF"
        ):
            find(name)


def test_a_broken_model_is_one_line(saved, tmp_path):
    broken = shutil.copytree(saved, tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(DataError, match="test: model broken does not load: ") as told:
        models.load_causal_lm(MODELS.find(broken), "float32")
    assert "\n" not in str(told.value)


def test_models_loaded_from_threads_keep_their_tied_heads(saved, monkeypatch):
    base = MODELS.find(saved)
    plain, tie = AutoModelForCausalLM.from_pretrained, PreTrainedModel.tie_weights
    inside, most = [], []

    def watched(*args, **kwargs):
        inside.append(1)
        most.append(len(inside))
        model = plain(*args, **kwargs)
        inside.pop()
        return model

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", watched)
    threads = [threading.Thread(target=load_base, args=(base, 0)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1, 1, 1]
    assert PreTrainedModel.tie_weights is tie
    model = load_base(base, 0)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


def _values(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize("values", [
    {"num_attention_heads": 0}, {"hidden_size": "x"}, {"model_type": ["llama"]},
    {"bos_token_id": "x"}, {"max_position_embeddings": None},
])  # fmt: skip
def test_a_config_of_wrong_values_is_one_line(values, saved, tmp_path):
    """Not KeyError and ValueError alone: transformers raises kinds of its own."""
    shutil.copytree(saved, tmp_path / "m")
    _values(tmp_path / "m/config.json", **values)
    with pytest.raises(UsageError, match=r"m has no readable config\.json"):
        _ = MODELS.find(tmp_path / "m").config


def test_a_model_without_some_of_its_weights_does_not_load(saved, tmp_path):
    """transformers would draw them at random, and warn."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(saved, tmp_path / "m")
    weights = load_file(tmp_path / "m/model.safetensors")
    lost = [name for name in weights if "layers.1.mlp" in name]
    save_file({n: w for n, w in weights.items() if n not in lost}, tmp_path / "m/model.safetensors")
    with pytest.raises(DataError, match=rf"no weights for {min(lost)} and {len(lost) - 1} more"):
        models.load_causal_lm(MODELS.find(tmp_path / "m"), "float32")


def test_a_model_of_more_layers_than_weights_is_not_begun(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "m")
    _values(tmp_path / "m/config.json", num_hidden_layers=1 << 30)
    with pytest.raises(DataError, match="names 1,073,741,824 layers"):
        models.load_causal_lm(MODELS.find(tmp_path / "m"), "float32")


@pytest.mark.parametrize(("file", "values"), [
    ("tokenizer.json", {"model": None}),
    ("tokenizer.json", {"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "("}}}),
    ("tokenizer_config.json", {"model_max_length": "x"}),
    ("tokenizer_config.json", {"chat_template": 7}),
    ("tokenizer_config.json", {"eos_token": {"content": 7}}),
])  # fmt: skip
def test_a_broken_tokenizer_is_one_line(file, values, saved, tmp_path):
    shutil.copytree(saved, tmp_path / "m")
    _values(tmp_path / "m" / file, **values)
    with pytest.raises(DataError, match=r"test: model tokenizer of m does not load: .") as raised:
        models.tokenizer_of(MODELS.find(tmp_path / "m"))
    assert "\n" not in str(raised.value)


def test_a_token_that_the_weights_do_not_know_is_refused(saved):
    model = MODELS.find(saved)
    loaded, tokenizer = models.load_causal_lm(model, "float32"), models.tokenizer_of(model)
    models.check_ids(model, loaded, tokenizer)
    tokenizer.add_tokens(["<|new|>"])
    with pytest.raises(DataError, match="ids up to 384, but the weights have 384 embeddings"):
        models.check_ids(model, loaded, tokenizer)


def test_a_damaged_header_is_one_line_where_weights_are_only_counted(saved, tmp_path):
    broken = shutil.copytree(saved, tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(DataError, match=r"test: model broken does not load: model\.safetensors: "):
        MODELS.find(broken).parameters()
