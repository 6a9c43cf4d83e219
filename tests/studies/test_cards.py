"""Runs on GPUs: one each by default, memory told before, no process forked with CUDA in use."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from sft_diversity.core import machine
from sft_diversity.studies import host, plan, processes, runs
from sft_diversity.studies.config import load_study
from sft_diversity.training import memory
from tests.studies import making


@pytest.fixture
def study(tmp_path):
    return load_study(making.write(tmp_path), {})


@pytest.mark.parametrize(
    ("visible", "names"), [(None, ["0", "1", "2"]), ("5,GPU-ab,6,7", ["5", "GPU-ab", "6"])]
)
def test_cards_are_counted_without_touching_cuda(monkeypatch, visible, names):
    def touched():
        raise AssertionError("CUDA was asked")

    monkeypatch.delenv(machine.DETECT, raising=False)
    monkeypatch.setattr(torch.cuda, "_is_compiled", lambda: True)
    monkeypatch.setattr(torch.cuda, "_device_count_nvml", lambda: 3)
    monkeypatch.setattr(torch._C, "_cuda_getDeviceCount", touched, raising=False)
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert machine.cards() == names
    assert "PYTORCH_NVML_BASED_CUDA_CHECK" not in os.environ
    monkeypatch.setattr(torch.cuda, "_device_count_nvml", lambda: 0)
    assert machine.cards() == []


class Host:
    """Stands for the process that forks: it notes the orders, and ends the eldest run."""

    def __init__(self, place: Path, threads: int, together: int) -> None:
        self.together = together
        self.running: dict[str, str] = {}
        self.most = Counter[str]()
        self.orders: list[dict[str, str]] = []
        made.append(self)

    def tell(self, **order: str) -> None:
        self.orders.append(order)
        self.running[order["start"]] = order["card"]
        self.most |= Counter(self.running.values())

    def ended(self, wait_s: float) -> list[tuple[str, int]]:
        name = next(iter(self.running))
        del self.running[name]
        return [(name, 0)]

    def close(self) -> None:
        assert not self.running


made: list[Host] = []


@pytest.mark.parametrize(
    ("jobs", "cards", "most"),
    [(3, ["0", "1", "2"], 1), (2, ["0"], 2), (5, ["0", "GPU-ab"], 3), (1, ["0", "1"], 1)],
)
def test_runs_are_shared_out_over_cards(tmp_path, monkeypatch, jobs, cards, most):
    monkeypatch.setattr(processes, "_Host", Host)
    done: list[str] = []
    names = [f"run-{i}" for i in range(9)]
    processes.run_all(tmp_path, names, jobs, 1, lambda name, *_: done.append(name), cards)
    assert sorted(done) == names
    assert max(made[-1].most.values()) == most == made[-1].together
    assert set(made[-1].most) == set(cards[:jobs])


def test_a_forked_run_sees_its_card_alone(tmp_path, monkeypatch):
    (tmp_path / "logs").mkdir()
    seen = tmp_path / "seen"
    look = lambda *_: seen.write_text(os.environ["CUDA_VISIBLE_DEVICES"])  # noqa: E731
    monkeypatch.setattr(runs, "one", look)
    running: dict[int, str] = {}
    host._obey(tmp_path, {"start": "one", "card": "GPU-7"}, running)
    (pid,) = running
    assert os.waitpid(pid, 0)[1] == 0
    assert seen.read_text() == "GPU-7"


def test_no_process_is_forked_where_cuda_is_in_use(tmp_path, monkeypatch):
    (tmp_path / "runs").mkdir()
    ended: list[tuple[str, int]] = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(os, "fork", lambda: pytest.fail("forked"))
    monkeypatch.setattr(host, "_ended", lambda *one: ended.append(one))
    host._obey(tmp_path, {"start": "one", "card": "0"}, {})
    assert ended == [("one", 1)]
    assert "do it alone: --run one" in runs.failure(tmp_path, "one")["error"]


@pytest.mark.parametrize("quantization", [None, "4bit"])
def test_what_runs_are_forked_from_imports_no_bitsandbytes(tmp_path, quantization):
    (tmp_path / "bitsandbytes").mkdir()
    (tmp_path / "bitsandbytes" / "__init__.py").write_text("import torch; torch.cuda.init()")
    frozen = {"runs": {}, "finetune": {"quantization": quantization, "model": "nowhere"}}
    (tmp_path / runs.FROZEN).write_text(json.dumps(frozen))
    code = """
import importlib.util, sys
from pathlib import Path
from sft_diversity.studies import host
host._load(Path(sys.argv[1]))
import torch
print("trl" in sys.modules, "bitsandbytes" in sys.modules, torch.cuda.is_initialized())
print(importlib.util.find_spec("bitsandbytes").origin)
"""
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": path},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said, where = done.stdout.splitlines()
    assert said == f"{quantization is None} False False"
    assert where.startswith(str(tmp_path))


def test_memory_is_told_before_a_run_starts(study, monkeypatch):
    monkeypatch.setenv(machine.DETECT, "gpus=0,cores=2")
    two = plan.memory_of(study)
    monkeypatch.setenv(machine.DETECT, "gpus=2,cores=2,bf16=0")
    one = plan.memory_of(study)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    card = SimpleNamespace(total_memory=8 * one)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: card)
    with memory.shared(4):
        assert memory.available_bytes() == 2 * one
    assert memory.available_bytes() == 8 * one
    assert plan.memory_of(study.model_copy(update={"jobs": 5})) == 3 * one
    assert two > one > 1e9
    monkeypatch.setattr(memory, "available_bytes", lambda: 2 * one)
    assert plan.memory_warning(study) is None
    assert plan.memory_warning(study.model_copy(update={"jobs": 4})) is None
    short = plan.memory_warning(study.model_copy(update={"jobs": 5}))
    assert "the runs that share a GPU take about" in short
    assert "fewer --jobs" in short


@pytest.mark.parametrize(("asked", "expected"), [({}, "float32"), ({"dtype": "auto"}, "float32"),
                                                 ({"dtype": "bfloat16"}, "bfloat16")])  # fmt: skip
def test_a_study_scores_in_float32_unless_asked_otherwise(study, asked, expected):
    asked = study.model_copy(update={"score": study.score | asked})
    assert asked.scoring.dtype == expected
