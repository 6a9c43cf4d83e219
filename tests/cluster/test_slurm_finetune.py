"""A fine-tune that Slurm stops goes on where it was, on a real Slurm."""

from __future__ import annotations

import signal
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from sft_diversity.cluster.jobs import Job
from sft_diversity.verbs import training
from tests.cluster import making
from tests.cluster.controlling import (
    call,
    files_of,
    held_still,
    one,
    record,
    submit,
    told,
    until,
    wait,
)
from tests.training.conftest import dialogue, write_subset

pytestmark = pytest.mark.slurm


def training_began(job: Job, out: Path) -> bool:
    log = out.parent / f".{out.name}.partial" / "training.jsonl"
    return log.is_file() and log.read_bytes().count(b"\n") >= 2


@pytest.fixture(scope="module")
def trained(base, tmp_path_factory) -> tuple[Path, list[str], dict[str, bytes]]:
    """A subset, options, and the files of a run that nobody stopped."""
    place = tmp_path_factory.mktemp("trained")
    subset = write_subset(place / "subset", [dialogue(i) for i in range(40)])
    options: dict[str, Any] = {"model": str(base), "steps": 60, "batch_size": 8, "max_length": 256}
    training.finetune(subset, out=place / "model", **options)
    words = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    return subset, words, files_of(place / "model")


@pytest.mark.parametrize(("why", "sent"), [("preemption", "SIGTERM"), ("time limit", "SIGUSR1")])
def test_a_finetune_that_slurm_stops_goes_on_from_its_checkpoint_to_the_same_weights(
    slurm, home, trained, why, sent
):
    subset, options, whole = trained
    profile = {"partition": "low", "signal_s": 100, "time_min": 60}
    job = submit("finetune", subset, "--out", "model", *options, **profile)
    number = job.submissions()[0].slurm
    began = partial(training_began, job, Path("model").absolute())
    with held_still(job, "finetune", [0], lambda _: began()) as (process,):
        if why == "preemption":
            call("sbatch", "-p", "high", "--exclusive", "--output=/dev/null", "--wrap", "sleep 8")
        else:  # Slurm looks every half minute whether a signal is due
            minutes = int(time.time() - process.parent().create_time()) // 60 + 2
            call("scontrol", "update", f"JobId={number}", f"TimeLimit={minutes}")
        until(lambda: told(process, signal.SIGUSR1))  # the worker passes on what it was sent
    until(lambda: record(job, "finetune")["state"] == "stopped")
    until(lambda: one(job, "finetune")["state"] == "waiting")
    assert f"stopped by {sent}, starts again" in one(job, "finetune")["reason"]
    call("scontrol", "update", f"JobId={number}", "TimeLimit=60")
    assert making.states(wait(job)) == {"finetune": "finished"}
    task = one(job, "finetune")
    assert (task["attempts"], task["requeues"], task["slurm"]) == (2, 1, f"{number}_0")
    assert "resumed at step" in Path(task["log"]).read_text("utf-8")
    made = files_of(Path("model"))
    weights = [name for name in whole if name.endswith(".safetensors")]
    assert weights
    assert {name: made[name] for name in weights} == {name: whole[name] for name in weights}
