"""A fine-tune of several processes, stopped as Slurm stops it: every process gets the signal."""

from __future__ import annotations

import json
import os
import signal
import time

import psutil
import pytest

from sft_diversity.cluster import launch, stage
from sft_diversity.cluster.jobs import Step
from sft_diversity.core.folder import verify
from tests import tiny
from tests.cluster import making
from tests.training.conftest import dialogue, write_subset


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM], ids=["SIGUSR1", "SIGTERM"])
def test_training_processes_write_a_checkpoint_and_the_launcher_lets_them(
    tmp_path, monkeypatch, number
):
    monkeypatch.chdir(tmp_path)
    tiny.save(tmp_path / "base")
    write_subset(tmp_path / "subset", [dialogue(i) for i in range(40)])
    steps = 40
    options = ("--model", "base", "--steps", str(steps), "--batch-size", "8", "--max-length", "256")
    train = making.task("m", "finetune", "subset", "--out", "m", *options, out=tmp_path / "m")
    job = making.create(tmp_path, Step("finetune", (train,), launch=True), processes=2)
    stage.EXECUTORS["local"].submit(job, {"finetune": [0]})

    log = tmp_path / ".m.partial" / "training.jsonl"
    until = time.monotonic() + 300
    while not log.is_file() or log.read_bytes().count(b"\n") < 2:
        assert time.monotonic() < until, job.record("finetune", 0)
        time.sleep(0.1)
    worker = psutil.Process(job.record("finetune", 0)["pid"])
    everyone = [worker, *worker.children(recursive=True)]
    assert len(everyone) >= 4  # worker, launcher, two that train
    for one in everyone:
        os.kill(one.pid, number)

    found = making.wait("1", tmp_path)["tasks"][0]
    assert (found["state"], found["attempts"], found["requeues"]) == ("finished", 2, 1)
    assert "resumed: an earlier run was stopped" in job.log("finetune", 0).read_text()
    assert verify(tmp_path / "m")["faults"] == []
    lines = [json.loads(x) for x in (tmp_path / "m/training.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, steps + 1))


def test_the_launcher_is_told_of_all_nodes(monkeypatch):
    """Slurm's variables say which node this is; the launcher's own parser reads the rest."""
    from accelerate.commands.launch import launch_command_parser

    task = making.task("m", "finetune", "subset", "--out", "m")
    step = Step("finetune", (task,), launch=True)
    job = making.job(
        making.Path("/jobs/0001-finetune"), step, executor="slurm", nodes=2, gpus=4, launch="fsdp"
    )
    ports = set()
    for rank in ("0", "1"):
        for name, value in {
            "SLURM_PROCID": rank, "SLURM_NTASKS": "2", "SLURM_JOB_NODELIST": "gpu7",
            "SLURM_JOB_ID": "17",
        }.items():  # fmt: skip
            monkeypatch.setenv(name, value)
        command = launch.command(job, step, task)
        asked = launch_command_parser().parse_args(command[4:])
        assert (asked.num_machines, asked.num_processes, asked.machine_rank) == (2, 8, int(rank))
        assert asked.main_process_ip == "gpu7"
        assert asked.training_script == "sft_diversity"
        assert asked.training_script_args == list(task.argv)
        ports.add(asked.main_process_port)
    assert len(ports) == 1
