"""Model folders that are damaged: whoever loads one names it in one line, and code runs nowhere."""

from __future__ import annotations

import ast
import json
import shutil
import struct
from pathlib import Path

import pytest

import sft_diversity
from sft_diversity.core.errors import SftdivError
from sft_diversity.core.models import Finder, load_causal_lm
from sft_diversity.levels.tokenizing import load_tokenizer
from sft_diversity.training.models import BASES, load_right_padding_tokenizer


def set_in(name, **values):
    def harm(model):
        path = model / name
        path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | values), "utf-8")

    return harm


def put(name, raw):
    return lambda model: (model / name).write_bytes(raw)


def half(name):
    def harm(model):
        raw = (model / name).read_bytes()
        (model / name).write_bytes(raw[: len(raw) // 2])

    return harm


TOKENIZERS = {
    "half": half("tokenizer.json"),
    "absent": lambda model: (model / "tokenizer.json").unlink(),
    "empty": put("tokenizer.json", b""),
    "list": put("tokenizer.json", b"[]"),
    "object": put("tokenizer.json", b"{}"),
    "bytes": put("tokenizer.json", b"\xff\xfe\x00"),
    "no-model": set_in("tokenizer.json", model=7),
    "config-half": half("tokenizer_config.json"),
    "config-list": put("tokenizer_config.json", b"[]"),
    "special-list": put("special_tokens_map.json", b"[1]"),
}
CONFIGS = {
    "half": half("config.json"),
    "list": put("config.json", b"[]"),
    "bytes": put("config.json", b"\xff\xfe{}"),
    "type-list": set_in("config.json", model_type=["llama"]),
    "size-text": set_in("config.json", hidden_size="x"),
}
WEIGHTS = {
    "half": half("model.safetensors"),
    "empty": put("model.safetensors", b""),
    "header-huge": put("model.safetensors", struct.pack("<Q", 2**63) + b"{}"),
    "header-none": put("model.safetensors", struct.pack("<Q", 8) + b"not json"),
    "absent": lambda model: (model / "model.safetensors").unlink(),
}


@pytest.fixture
def broken(llama, tmp_path):
    def made(harm):
        model = Path(shutil.copytree(llama, tmp_path / "broken"))
        harm(model)
        return model

    return made


def refused(model, load):
    with pytest.raises(SftdivError, match="broken") as caught:
        load(model)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("harm", TOKENIZERS.values(), ids=TOKENIZERS)
@pytest.mark.parametrize(
    "load",
    [lambda at: load_right_padding_tokenizer(BASES.find(at)), lambda at: load_tokenizer(str(at))],
    ids=["training", "counting"],
)
def test_a_tokenizer_that_is_none_is_named(broken, harm, load):
    refused(broken(harm), load)


@pytest.mark.parametrize("harm", CONFIGS.values(), ids=CONFIGS)
def test_a_config_that_is_none_is_named(broken, harm):
    refused(broken(harm), lambda at: load_causal_lm(Finder("use").find(at), "float32"))


@pytest.mark.parametrize("harm", list(CONFIGS.values())[:3], ids=list(CONFIGS)[:3])
def test_a_config_that_cannot_be_read_is_named(broken, harm):
    refused(broken(harm), lambda at: Finder("use").find(at).config)


@pytest.mark.parametrize("harm", WEIGHTS.values(), ids=WEIGHTS)
def test_weights_that_are_none_are_named(broken, harm):
    refused(broken(harm), lambda at: load_causal_lm(Finder("use").find(at), "float32"))


#: Loaders that run a model's code where they are told to, and ask at the terminal where not.
LOADERS = ("AutoConfig", "AutoTokenizer", "AutoModel", "SentenceTransformer", "AutoProcessor")


def test_every_loader_is_told_whether_to_trust_a_models_code():
    package = Path(sft_diversity.__file__).parent
    untold, met = [], 0
    for path in sorted([*package.rglob("*.py"), *(package.parent / "pipelines").glob("*.py")]):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func)
            if name.split(".")[-1] not in ("from_pretrained", "SentenceTransformer"):
                continue
            if not any(loader in name for loader in LOADERS):
                continue
            met += 1
            if "trust_remote_code" not in {keyword.arg for keyword in node.keywords}:
                untold.append(f"{path.name}:{node.lineno}: {name}")
    assert met >= 5
    assert untold == []
