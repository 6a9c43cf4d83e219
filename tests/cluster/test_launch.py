"""A fine-tune of several processes, stopped as Slurm stops it: every process gets the signal."""

from __future__ import annotations

import json
import signal
import sys
import time

import psutil
import pytest

from sft_diversity.cluster import stage, worker
from sft_diversity.cluster.jobs import Job
from sft_diversity.core.folder import verify
from tests import tiny
from tests.cluster import making
from tests.training.conftest import dialogue, write_subset

STEPS = 40


def training(place) -> tuple[Job, list[psutil.Process]]:
    """Begin a task of two training processes; return all its processes, the outermost last."""
    tiny.save(place / "base")
    write_subset(place / "subset", [dialogue(i) for i in range(40)])
    options = ("--model", "base", "--steps", str(STEPS), "--batch-size", "8", "--max-length", "256")
    train = making.task("m", "finetune", "subset", "--out", "m", *options, out=("m",))
    job = making.create(place, making.step("finetune", train, launch=True), processes=2)
    retry = [sys.executable, "-m", "sft_diversity", "retry", "--failed", "1", "--work", "."]
    process = psutil.Popen(retry)
    log = place / ".m.partial" / "training.jsonl"
    until = time.monotonic() + 300
    while not log.is_file() or log.read_bytes().count(b"\n") < 2:
        assert time.monotonic() < until, job.record(job.tasks[0])
        time.sleep(0.1)
    everyone = [*process.children(recursive=True), process]
    assert len(everyone) >= 4  # two that train, their launcher, and what does the task
    return job, everyone


def goes_on(job: Job, place) -> None:
    """Retry the task, which takes the training up where it was."""
    assert stage.retry("1", work=".", failed=True)["retried"] == {"finetune": 1}
    assert job.record(job.tasks[0])["attempts"] == 2
    assert "resumed: an earlier run was stopped" in job.file(job.tasks[0], "log").read_text()
    assert verify(place / "m")["faults"] == []
    lines = [json.loads(x) for x in (place / "m/training.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM], ids=["SIGUSR1", "SIGTERM"])
def test_training_processes_write_a_checkpoint_and_the_launcher_lets_them(
    tmp_path, monkeypatch, number
):
    monkeypatch.chdir(tmp_path)
    job, everyone = training(tmp_path)
    for one in everyone:
        one.send_signal(number)
    assert everyone[-1].wait() == 75
    assert job.record(job.tasks[0])["requeues"] == 1
    goes_on(job, tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux's kernel does it")
def test_training_processes_and_their_launcher_end_with_what_does_the_task(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    job, everyone = training(tmp_path)
    everyone[-1].kill()
    assert psutil.wait_procs(everyone, 60)[1] == []
    goes_on(job, tmp_path)


def test_the_launcher_is_told_of_all_nodes(monkeypatch):
    """Slurm's variables say which node this is; the launcher's own parser reads the rest."""
    from accelerate.commands.launch import launch_command_parser

    task = making.task("m", "finetune", "subset", "--out", "m")
    step = making.step("finetune", task, launch=True)
    job = making.job(
        making.Path("/jobs/0001-finetune"), step, executor="slurm", nodes=2, gpus=4, launch="fsdp"
    )
    for name, value in {"MASTER_ADDR": "gpu7", "MASTER_PORT": "20017"}.items():
        monkeypatch.setenv(name, value)
    for rank in ("0", "1"):
        monkeypatch.setenv("SLURM_PROCID", rank)
        command = worker.launcher(job, job.tasks[0])
        asked = launch_command_parser().parse_args(command[4:])
        assert (asked.num_machines, asked.num_processes, asked.machine_rank) == (2, 8, int(rank))
        assert (asked.main_process_ip, asked.main_process_port) == ("gpu7", 20017)
        assert asked.training_script == "sft_diversity"
        assert asked.training_script_args == list(task.argv)
