"""A run killed at any moment, begun again, ends with the bytes of one that was left alone."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest

from sft_diversity.core import folder
from sft_diversity.training.stage import finetune
from tests.processes import SFTDIV, Child

SCRIPT = """
import sys
from pathlib import Path
import torch
from sft_diversity.core import stopping
from sft_diversity.training.config import FinetuneConfig
from sft_diversity.training.stage import finetune
torch.set_num_threads(1)
stopping.install()
subset, out, config = sys.argv[1:]
finetune(Path(subset), Path(out), FinetuneConfig.model_validate_json(config))
"""


def start(subset: Path, out: Path, config) -> Child:
    return Child(SCRIPT, subset, out, config.model_dump_json())


def bodies(*outs: Path):
    return [{k: v for k, v in folder.read_manifest(o).items() if k != "run"} for o in outs]


def test_killed_in_the_middle_it_resumes_to_the_same_bytes(tmp_path, subset, config):
    settings = config(epochs=4, checkpoint_steps=5)
    process = start(subset, tmp_path / "out", settings)
    tenth = tmp_path / ".out.partial/checkpoints/checkpoint-10/complete.json"
    process.until(tenth.exists)
    assert process.kill() == -signal.SIGKILL
    said: list[str] = []
    finetune(subset, tmp_path / "out", settings, said.append)
    assert any("resumed at step" in line for line in said)
    finetune(subset, tmp_path / "whole", settings, said.append)
    one, other = bodies(tmp_path / "out", tmp_path / "whole")
    assert one == other


def steps_done(out: Path) -> int:
    """Count the whole lines of the log that a run writes as it goes on."""
    log = out.parent / f".{out.name}.partial" / "training.jsonl"
    return log.read_bytes().count(b"\n") if log.exists() else 0


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adamw", "lion"])
def test_killed_at_ten_random_steps_it_ends_with_the_same_bytes(
    tmp_path, subset, config, optimizer
):
    settings = config(epochs=24, checkpoint_steps=4, optimizer=optimizer)  # 120 steps
    dice = random.Random(0)
    for step in sorted(dice.sample(range(1, 116), 10)):
        process = start(subset, tmp_path / "out", settings)
        process.until(lambda step=step: steps_done(tmp_path / "out") >= step)
        time.sleep(dice.uniform(0.0, 0.05))  # anywhere within a step or a checkpoint
        assert process.poll() is None, "it ended before it could be killed"
        assert process.kill() == -signal.SIGKILL
    process = start(subset, tmp_path / "out", settings)
    assert process.wait() == 0
    finetune(subset, tmp_path / "whole", settings, lambda line: None)
    one, other = ((tmp_path / name / "model.safetensors") for name in ("out", "whole"))
    assert one.read_bytes() == other.read_bytes()
    one, other = bodies(tmp_path / "out", tmp_path / "whole")
    assert one == other


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_saves_a_checkpoint_and_exits_with_75(tmp_path, subset, base, number):
    """As a scheduler sees it: through the command."""
    out = tmp_path / "out"
    options = ["--model", base, "--steps", "400", "--batch-size", "8", "--max-length", "256"]
    process = Child(SFTDIV, "finetune", subset, "--out", out, *options)
    process.until(lambda: steps_done(out) >= 3)
    process.send_signal(number)
    assert process.wait() == 75, process.stderr
    assert f"stopped by {number.name}; run the same command to resume" in process.stderr
    assert not out.exists()
    saved = list((tmp_path / ".out.partial" / "checkpoints").glob("checkpoint-*/complete.json"))
    assert len(saved) == 1
