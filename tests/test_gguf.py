"""A model in a GGUF file that is written here with the format's own library."""

from __future__ import annotations

import json
import struct

import pytest

from sft_diversity.core.errors import DataError, SftdivError, UsageError
from sft_diversity.core.models import Finder
from tests import tiny

gguf = pytest.importorskip("gguf")
TEMPLATE = "{% for m in messages %}{{ m.content + eos_token }}{% endfor %}"


def interleaved(weights, heads):
    """Return rows of a projection in the order in which llama.cpp keeps the halves of a head."""
    n, width = weights.shape
    return weights.reshape(heads, 2, n // heads // 2, width).swapaxes(1, 2).reshape(n, width)


def write(path, model, tokenizer):
    config = model.config
    out = gguf.GGUFWriter(path, "llama")
    out.add_context_length(config.max_position_embeddings)
    out.add_embedding_length(config.hidden_size)
    out.add_block_count(config.num_hidden_layers)
    out.add_feed_forward_length(config.intermediate_size)
    out.add_head_count(config.num_attention_heads)
    out.add_head_count_kv(config.num_key_value_heads)
    out.add_layer_norm_rms_eps(config.rms_norm_eps)
    out.add_rope_freq_base(10_000.0)
    out.add_vocab_size(config.vocab_size)
    bpe = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    out.add_tokenizer_model("gpt2")
    out.add_token_list(sorted(bpe["vocab"], key=bpe["vocab"].get))
    out.add_token_merges([" ".join(pair) for pair in bpe["merges"]])
    out.add_token_types([1] * len(bpe["vocab"]))
    for of in ("bos", "eos", "pad"):
        getattr(out, f"add_{of}_token_id")(getattr(tokenizer, f"{of}_token_id"))
    out.add_chat_template(TEMPLATE)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, weights in model.state_dict().items():
        values = weights.float().numpy()
        if "q_proj" in name:
            values = interleaved(values, config.num_attention_heads)
        if "k_proj" in name:
            values = interleaved(values, config.num_key_value_heads)
        if name != "lm_head.weight":  # tied
            out.add_tensor(names.get_name(name, (".weight",)), values)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "cache"))
    tokenizer = tiny.tokenizer()
    model = tiny.model(len(tokenizer))
    write(tmp_path / "small.gguf", model, tokenizer)
    return tmp_path / "small.gguf", model, tokenizer


def test_a_file_is_the_model_that_was_written(file):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path, model, tokenizer = file
    finder = Finder("score: model")
    assert finder.at_hand(path) is None  # nothing is unpacked by a plan
    found = finder.find(path)
    assert (found.name, found.parameters()) == ("small", model.num_parameters())
    assert finder.at_hand(path).path == found.path == finder.find(path).path
    loaded = AutoModelForCausalLM.from_pretrained(found.path, dtype=torch.float32)
    ids = torch.tensor([tokenizer("Rain taps the roof.")["input_ids"]])
    with torch.no_grad():
        assert torch.allclose(model(ids).logits, loaded(ids).logits, atol=2e-2)
    unpacked = AutoTokenizer.from_pretrained(found.path)
    assert unpacked("Rain taps the roof.")["input_ids"] == ids[0].tolist()
    assert unpacked.chat_template == TEMPLATE
    assert not list(found.path.glob("*.gguf"))


def test_equal_files_are_unpacked_once_whatever_they_are_called(file):
    path, *_ = file
    found = Finder("score: model").find(path)
    other = path.rename(path.with_name("other.gguf"))
    again = Finder("score: model").find(other)
    assert (again.path, again.key, again.name) == (found.path, found.key, "other")


@pytest.mark.parametrize("cut", [0, 3, 100, 5_000])
def test_a_damaged_file_is_one_line_and_leaves_nothing(file, cut):
    path, *_ = file
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(SftdivError) as fault:
        Finder("score: model").find(path)
    assert "small" in str(fault.value)
    assert "\n" not in str(fault.value)
    assert Finder("score: model").at_hand(path) is None


def test_a_file_of_no_known_architecture_is_one_line(file):
    path, *_ = file
    text = b"llama"
    raw = path.read_bytes()
    at = raw.index(struct.pack("<Q", len(text)) + text) + 8
    path.write_bytes(raw[:at] + b"lxxma" + raw[at + 5 :])
    with pytest.raises(DataError, match="does not load"):
        Finder("score: model").find(path)


def test_a_file_that_is_not_there_is_no_hub_id():
    with pytest.raises(UsageError, match="a GGUF file or a Hub id"):
        Finder("score: model").find("missing.gguf")
