"""Where a model is scored, and in which precision."""

import pytest

from sft_diversity.core import machine
from sft_diversity.core.errors import UsageError
from sft_diversity.scoring.model import resolve


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
    assert resolve("auto", "auto") == expected
    assert resolve("cpu", "auto") == ("cpu", "float32")
    assert resolve("cpu", "bfloat16") == ("cpu", "bfloat16")
    assert resolve("auto", "float32") == (expected[0], "float32")


def test_a_gpu_that_is_not_here_is_refused(monkeypatch):
    monkeypatch.setenv(machine.DETECT, "gpus=0")
    with pytest.raises(UsageError, match="score: device is `cuda` but PyTorch sees no GPU"):
        resolve("cuda", "auto")
