"""Two real processes on the CPU, started as `accelerate launch` does with the configs we ship."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import patch

import psutil
import pytest
from safetensors.numpy import load_file

from sft_diversity.core import folder
from sft_diversity.training.batches import micro_batches
from sft_diversity.training.stage import finetune
from tests.processes import SFTDIV, Child
from tests.training.conftest import dialogue, write_subset

ROOT = Path(__file__).resolve().parents[2]
SHARDED = ROOT / "tests" / "training" / "fsdp_on_cpu.py"


def command(kind, subset, out, config):
    options = [f"--{k.replace('_', '-')}={v}" for k, v in config.items() if not isinstance(v, bool)]
    options += [f"--{k.replace('_', '-')}" for k, v in config.items() if v is True]
    entry = [str(SHARDED)] if kind == "fsdp" else ["-m", "sft_diversity"]
    file = ROOT / "configs" / "accelerate" / f"{kind}.yaml"
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(file)]
    return [
        *launcher,
        "--main_process_port",
        "0",
        *entry,
        "finetune",
        str(subset),
        "--out",
        str(out),
        *options,
    ]


def environment():
    return os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}


def launch(kind, subset, out, config):
    options = config.model_dump(exclude_defaults=True)
    done = subprocess.run(
        command(kind, subset, out, options),
        env=environment(), capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def fork(kind, subset, out, config) -> list[Child]:
    """Run what `launch` would in two forked processes: accelerate reads our config itself, and
    only torchrun, which would start an interpreter for each, is left out."""
    from accelerate.commands import launch as accelerate
    from torch.distributed import run

    words = command(kind, subset, out, config.model_dump(exclude_defaults=True))[3:]
    asked = []
    with patch.object(run, "run", lambda args: asked.append((args, dict(os.environ)))):
        accelerate.launch_command(accelerate.launch_command_parser().parse_args(words))
    ((args, given),) = asked
    code = SHARDED.read_text("utf-8") if kind == "fsdp" else SFTDIV
    size = int(args.nproc_per_node)
    given |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": args.master_port}
    given |= dict.fromkeys(("WORLD_SIZE", "LOCAL_WORLD_SIZE"), str(size))
    return [
        Child(code, *args.training_script_args, env=given | {"RANK": str(r), "LOCAL_RANK": str(r)})
        for r in range(size)
    ]


def log_of(out):
    return [json.loads(line) for line in (out / "training.jsonl").read_text().splitlines()]


def assert_same_training(one, two):
    for ours, theirs in zip(log_of(one), log_of(two), strict=True):
        assert ours.keys() == theirs.keys()
        for name, value in ours.items():
            assert theirs[name] == pytest.approx(value, rel=2e-4), (name, ours["step"])


def assert_same_weights(one, two, name="model.safetensors"):
    ours, theirs = load_file(one / name), load_file(two / name)
    assert ours.keys() == theirs.keys()
    for key, values in ours.items():
        assert theirs[key] == pytest.approx(values, abs=2e-4), key


def test_a_step_is_shared_out_in_pieces_of_like_length():
    lengths = [9, 1, 5, 3, 7, 2, 8, 4, 6]
    cut = micro_batches(list_of(range(9)), list_of(lengths), 8, 2, processes=2)
    first, last = cut[:4], cut[4:]
    assert [[lengths[row] for row in batch] for batch in first] == [[9, 8], [7, 5], [4, 3], [2, 1]]
    assert last == [[8], []]  # one sample for two processes


def list_of(values):
    import numpy as np

    return np.array(list(values), dtype=np.int64)


@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_two_processes_train_as_one_does(kind, subset, config, tmp_path):
    """41 samples read: the last step has one, and one process has none; so has an evaluation."""
    held = write_subset(tmp_path / "held", [dialogue(i) for i in range(60, 65)])
    options = config(
        epochs=1.025, micro_batch_size=2, optimizer="lion", eval_data=str(held), keep_best=True,
        eval_steps=3,
    )  # fmt: skip
    finetune(subset, tmp_path / "one", options)
    ranks = fork(kind, subset, tmp_path / "two", options)
    assert [rank.wait() for rank in ranks] == [0, 0], [rank.stderr[-2000:] for rank in ranks]
    assert "".join(rank.stdout for rank in ranks).count("final_loss") == 1  # one process speaks
    assert_same_training(tmp_path / "one", tmp_path / "two")
    assert_same_weights(tmp_path / "one", tmp_path / "two")
    assert folder.verify(tmp_path / "two")["faults"] == []
    manifest = folder.read_manifest(tmp_path / "two")
    assert manifest["run"]["processes"] == 2
    assert manifest["key"] == folder.read_manifest(tmp_path / "one")["key"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_two_processes_stop_together_and_resume(kind, subset, config, tmp_path):
    options = config(epochs=12, checkpoint_steps=7)
    finetune(subset, tmp_path / "one", options)
    out = tmp_path / "two"
    with subprocess.Popen(
        command(kind, subset, out, options.model_dump(exclude_defaults=True)),
        env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    ) as process:  # fmt: skip
        log = tmp_path / ".two.partial" / "training.jsonl"
        while process.poll() is None and not (log.exists() and log.read_bytes().count(b"\n") > 9):
            time.sleep(0.05)
        children = subprocess.run(
            ["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True
        )
        os.kill(int(children.stdout.split()[0]), signal.SIGTERM)  # one of them alone
        _, said = process.communicate(timeout=300)
    assert "stopped after step" in said
    done = launch(kind, subset, out, options)
    assert "resumed at step" in done.stderr
    assert_same_training(tmp_path / "one", out)
    assert_same_weights(tmp_path / "one", out)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_an_adapter_is_merged_whoever_holds_the_weights(kind, subset, config, tmp_path):
    options = config(epochs=1, lora=True, merge_adapter=True)
    finetune(subset, tmp_path / "one", options)
    launch(kind, subset, tmp_path / "two", options)
    assert_same_training(tmp_path / "one", tmp_path / "two")
    assert_same_weights(tmp_path / "one", tmp_path / "two")


def test_a_fault_of_all_processes_is_said_once(subset, config, tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").write_text("mine")
    options = config().model_dump(exclude_defaults=True)
    done = subprocess.run(
        command("ddp", subset, tmp_path / "taken", options),
        env=environment(), capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert done.stderr.count("exists and is no output of") == 1


MEMBER = """
import os, time
from sft_diversity.training import team
team.join_team()
os.write(1, f"{os.getpid()}\\n".encode())  # whole, whoever else writes
time.sleep(600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux's kernel does it")
def test_processes_end_with_a_launcher_that_is_killed(tmp_path):
    (tmp_path / "member.py").write_text(MEMBER)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    with subprocess.Popen(
        [*command, str(tmp_path / "member.py")],
        env=environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as launcher:  # fmt: skip
        assert launcher.stdout is not None
        members = [psutil.Process(int(launcher.stdout.readline())) for _ in range(2)]
        launcher.kill()
    assert psutil.wait_procs(members, 60)[1] == []
