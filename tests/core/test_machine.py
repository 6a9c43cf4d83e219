"""What is seen of a machine, and that a test can say it."""

import os

import pytest

from sft_diversity.core import machine
from sft_diversity.core.errors import UsageError


def see(monkeypatch, said):
    monkeypatch.setenv(machine.DETECT, said)


@pytest.mark.parametrize(
    ("cpuinfo", "flags"),
    [
        ("model name\t: X\nflags\t\t: fpu avx512_bf16 amx_bf16\nbugs\t: none\n",
         {"fpu", "avx512_bf16", "amx_bf16"}),
        ("Features\t: fp asimd bf16\n", {"fp", "asimd", "bf16"}),
        ("processor\t: 0\n", set()),
        ("", set()),
    ],
    ids=["x86", "arm", "no flags", "no linux"],
)  # fmt: skip
def test_flags_are_read_from_what_linux_says_of_the_processor(cpuinfo, flags):
    assert machine.flags_of(cpuinfo) == flags


def test_unsaid_the_machine_itself_is_seen(monkeypatch):
    monkeypatch.delenv(machine.DETECT, raising=False)
    assert machine.has_bf16() == any("bf16" in flag for flag in machine.cpu_flags())
    assert 1 <= machine.cores() <= (os.cpu_count() or 1)
    see(monkeypatch, "gpus=0")
    assert 1 <= machine.cores() <= (os.cpu_count() or 1)
    assert machine.gpus() == 0
    assert machine.gpus(lambda: 3) == 0
    see(monkeypatch, "cores=3")
    assert machine.cores() == 3
    assert machine.gpus(lambda: 3) == 3


@pytest.mark.parametrize("bf16", [0, 1])
@pytest.mark.parametrize("gpus", [0, 2])
def test_auto_is_what_is_seen_and_what_is_named_stays(monkeypatch, bf16, gpus):
    see(monkeypatch, f" bf16={bf16}, gpus={gpus},")
    device = machine.device_for("embed")
    assert device == ("cuda" if gpus else "cpu")
    assert machine.device_for("embed", "cpu") == "cpu"
    for there in ("cpu", "cuda"):
        assert machine.precision_for("auto", there) == ("bfloat16" if bf16 else "float32")
        assert machine.precision_for("float32", there) == "float32"
        assert machine.precision_for("bfloat16", there) == "bfloat16"


def test_a_gpu_that_is_not_seen_is_refused(monkeypatch):
    see(monkeypatch, "gpus=0")
    with pytest.raises(UsageError, match=r"score: device is `cuda` but .*; use --device cpu"):
        machine.device_for("score", "cuda")
    see(monkeypatch, "gpus=1")
    assert machine.device_for("score", "cuda") == "cuda"


@pytest.mark.parametrize(
    "said", ["amx=1", "bf16", "bf16=yes", "bf16=2", "cores=0", "cores=-1", "gpus=", "bf16=1;gpus=0"]
)
def test_what_it_does_not_know_it_names(monkeypatch, said):
    see(monkeypatch, f"cores=2,{said}")
    with pytest.raises(UsageError, match=f"SFTDIV_DETECT holds `{said}`; it takes bf16=0 or 1"):
        machine.cores()
