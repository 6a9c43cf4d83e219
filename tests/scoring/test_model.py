"""Where a model is scored, and in which precision."""

import shutil
from pathlib import Path

import pytest

from sft_diversity.core import machine
from sft_diversity.core.errors import UsageError
from sft_diversity.scoring.model import MODELS, resolve
from sft_diversity.scoring.stage import ScoreConfig, batch_size


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ("gpus=0,bf16=0", ("cpu", "float32")),
        ("gpus=0,bf16=1", ("cpu", "float32")),  # scores of two machines compare
        ("gpus=1,bf16=0", ("cuda", "float32")),
        ("gpus=1,bf16=1", ("cuda", "bfloat16")),
    ],
)
def test_auto_is_float32_but_on_a_gpu_that_multiplies_bfloat16(monkeypatch, seen, expected):
    monkeypatch.setenv(machine.DETECT, seen)
    assert resolve("auto", "auto", None) == expected
    assert resolve("cpu", "auto", None) == ("cpu", "float32")
    assert resolve("cpu", "bfloat16", None) == ("cpu", "bfloat16")
    assert resolve("auto", "float32", None) == (expected[0], "float32")


def test_a_gpu_rounds_no_weight_that_is_stored_in_32_bits(monkeypatch, llama, tmp_path):
    from safetensors.torch import load_file, save_file

    half = Path(shutil.copytree(llama, tmp_path / "half"))
    weights = load_file(half / "model.safetensors")
    halved = {name: weight.bfloat16() for name, weight in weights.items()}
    save_file(halved, half / "model.safetensors", metadata={"format": "pt"})
    mixed = Path(shutil.copytree(half, tmp_path / "mixed"))
    name = min(halved)
    save_file({**halved, name: weights[name]}, mixed / "model.safetensors", {"format": "pt"})
    monkeypatch.setenv(machine.DETECT, "gpus=1,bf16=1")
    found = {place: MODELS.find(str(place)) for place in (llama, half, mixed)}
    assert resolve("auto", "auto", found[half]) == ("cuda", "bfloat16")
    for place in (llama, mixed):
        assert resolve("auto", "auto", found[place]) == ("cuda", "float32")
        assert resolve("auto", "bfloat16", found[place]) == ("cuda", "bfloat16")


def test_a_gpu_reads_larger_batches_unless_told(monkeypatch):
    assert batch_size(ScoreConfig(), "cpu") == 4096
    assert batch_size(ScoreConfig(), "cuda") == 32_768
    assert batch_size(ScoreConfig(batch_tokens=512), "cuda") == 512


def test_a_gpu_that_is_not_here_is_refused(monkeypatch):
    monkeypatch.setenv(machine.DETECT, "gpus=0")
    with pytest.raises(UsageError, match="score: device is `cuda` but PyTorch sees no GPU"):
        resolve("cuda", "auto", None)
