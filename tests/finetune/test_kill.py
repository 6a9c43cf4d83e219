"""A run killed at any moment, begun again, ends with the bytes of one that was left alone."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sft_diversity.core import folder
from sft_diversity.finetune.stage import finetune

SCRIPT = """
import sys
from pathlib import Path
import torch
from sft_diversity.core import stopping
from sft_diversity.finetune.stage import FinetuneConfig, finetune
torch.set_num_threads(1)
stopping.install()
subset, out, config = sys.argv[1:]
finetune(Path(subset), Path(out), FinetuneConfig.model_validate_json(config))
"""


def start(subset: Path, out: Path, config) -> subprocess.Popen[bytes]:
    arguments = [sys.executable, "-c", SCRIPT, str(subset), str(out), config.model_dump_json()]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(arguments, env=environment, stderr=subprocess.DEVNULL)


def wait_for(pattern: str, out: Path, process: subprocess.Popen[bytes]) -> None:
    """Wait until the draft of `out` has a path like `pattern`, or the process has ended."""
    while process.poll() is None and not any(out.parent.glob(f".{out.name}.partial/{pattern}")):
        time.sleep(0.005)


def bodies(*outs: Path):
    return [{k: v for k, v in folder.read_manifest(o).items() if k != "run"} for o in outs]


def test_killed_in_the_middle_it_resumes_to_the_same_bytes(tmp_path, subset, config):
    settings = config(epochs=8, checkpoint_steps=5)
    process = start(subset, tmp_path / "out", settings)
    wait_for("checkpoints/checkpoint-10/complete.json", tmp_path / "out", process)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    said: list[str] = []
    finetune(subset, tmp_path / "out", settings, said.append)
    assert any("resumed at step" in line for line in said)
    finetune(subset, tmp_path / "whole", settings, said.append)
    one, other = bodies(tmp_path / "out", tmp_path / "whole")
    assert one == other


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adamw", "lion"])
def test_killed_ten_times_it_ends_with_the_same_bytes(tmp_path, subset, config, optimizer):
    settings = config(epochs=30, checkpoint_steps=4, optimizer=optimizer)
    dice = random.Random(0)
    for _ in range(10):
        process = start(subset, tmp_path / "out", settings)
        wait_for("checkpoints", tmp_path / "out", process)
        time.sleep(dice.uniform(0.0, 3.0))
        process.send_signal(signal.SIGKILL)
        process.wait()
    process = start(subset, tmp_path / "out", settings)
    assert process.wait() == 0
    finetune(subset, tmp_path / "whole", settings, lambda line: None)
    one, other = bodies(tmp_path / "out", tmp_path / "whole")
    assert one == other


def test_a_termination_signal_saves_a_checkpoint_and_says_so(tmp_path, subset, config):
    settings = config(epochs=30, checkpoint_steps=1_000)
    process = start(subset, tmp_path / "out", settings)
    wait_for("checkpoints", tmp_path / "out", process)
    process.send_signal(signal.SIGUSR1)
    assert process.wait() != 0
    assert not (tmp_path / "out").exists()
    saved = list((tmp_path / ".out.partial" / "checkpoints").glob("checkpoint-*/complete.json"))
    assert len(saved) == 1
