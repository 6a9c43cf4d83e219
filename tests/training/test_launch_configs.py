"""The files for `accelerate launch` that ship say what accelerate understands of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from accelerate.commands import launch
from accelerate.utils.launch import prepare_deepspeed_cmd_env

from sft_diversity.cluster.profile import Profile

FILES = sorted((Path(__file__).resolve().parents[2] / "configs" / "accelerate").glob("*.yaml"))


def parsed(file):
    words = ["--config_file", str(file), "--main_process_port", "0", "-m", "sft_diversity", "score"]
    return launch.launch_command_parser().parse_args(words)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_file_starts_two_processes_in_its_way(file):
    args, _, _ = launch._validate_launch_command(parsed(file))
    assert args.num_processes == 2
    ways = {"ddp": args.multi_gpu, "fsdp": args.use_fsdp, "zero": args.use_deepspeed}
    assert [way for way, chosen in ways.items() if chosen] == [file.stem.rstrip("23")]
    assert Profile(launch=file.stem).launch_file() == file


@pytest.mark.parametrize("stage", ["2", "3"])
def test_zero_reaches_the_processes(stage, monkeypatch):
    """As far as DeepSpeed would be called, which is no package of this project."""
    (file,) = (file for file in FILES if file.stem == f"zero{stage}")
    told = []
    monkeypatch.setattr(launch, "deepspeed_launcher", told.append)
    launch.launch_command(parsed(file))
    _, given = prepare_deepspeed_cmd_env(told[0])
    assert given["ACCELERATE_USE_DEEPSPEED"] == "true"
    assert given["ACCELERATE_DEEPSPEED_ZERO_STAGE"] == stage
    assert given["ACCELERATE_DEEPSPEED_ZERO3_SAVE_16BIT_MODEL"] == "true"
    assert given["ACCELERATE_GRADIENT_ACCUMULATION_STEPS"] == "auto"
