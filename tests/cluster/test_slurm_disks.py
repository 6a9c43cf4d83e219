"""Memory and time that run out, and disks that cannot be written, on a real Slurm."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import pytest

from sft_diversity.core.errors import DataError
from sft_diversity.verbs import data
from tests.cluster import making
from tests.cluster.controlling import WORK, call, files_of, one, release, retry, submit, wait

pytestmark = pytest.mark.slurm


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> Path:
    """Raw data whose corpus takes some two megabytes."""
    path = tmp_path_factory.mktemp("rows") / "words.jsonl"
    dice = random.Random(0)
    lines = [
        {"instruction": f"{i}?", "input": "", "output": dice.randbytes(300).hex()}
        for i in range(4_000)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return path


@pytest.fixture(scope="module")
def ingested(rows, tmp_path_factory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("ingested") / "corpus"
    data.ingest(rows, out=out)
    return files_of(out)


def test_a_job_above_its_memory_fails_and_status_says_so(slurm, home, corpus, encoder):
    job = submit("embed", corpus, "--encoder", encoder, "--out", "out", parts=1, memory_gb=0.3)
    assert making.states(wait(job)) == {"embed": "failed"}
    assert "more memory than the job has; raise memory_gb" in one(job, "embed")["reason"]
    assert not Path("out").exists()


STUBBORN = """
import signal, time

def main(arguments):
    for number in (signal.SIGUSR1, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    time.sleep(600)
"""


def test_a_task_that_does_not_stop_in_time_is_killed_and_status_says_so(slurm, home):
    Path("stubborn.py").write_text(STUBBORN)
    job = submit("run", "stubborn.py", time_min=1, signal_s=30)
    assert making.states(wait(job)) == {"run": "failed"}
    assert "killed at its time limit: it did not stop in time" in one(job, "run")["reason"]
    assert one(job, "run")["attempts"] == 1


def remount(place: Path, *options: str) -> None:
    call("mount", "-o", ",".join(["remount", *options]), place)


def test_an_output_folder_that_cannot_be_written_is_refused_or_named(
    slurm, home, small_disk, rows, ingested
):
    out = small_disk / "corpus"
    job = submit("ingest", rows, "--out", out, sbatch={"hold": True})
    remount(small_disk, "ro")
    with pytest.raises(DataError, match="may not be written to"):
        submit("ingest", rows, "--out", out)
    release(job)
    assert making.states(wait(job)) == {"ingest": "failed"}
    reason = one(job, "ingest")["reason"]
    assert f"{small_disk} may not be written to" in reason
    remount(small_disk, "rw")
    retry(job)
    release(job)
    assert making.states(wait(job)) == {"ingest": "finished"}
    assert files_of(out) == ingested


def test_a_work_folder_that_cannot_be_written_is_refused_or_named(
    slurm, home, small_disk, rows, ingested
):
    work = small_disk / "work"
    job = submit("ingest", rows, "--out", "corpus", work=work, sbatch={"hold": True})
    remount(small_disk, "ro")
    with pytest.raises(DataError, match="Read-only file system"):
        submit("ingest", rows, "--out", "corpus", work=work)
    release(job)
    assert making.states(wait(job)) == {"ingest": "failed"}
    assert f"{work}/jobs/0001-ingest cannot be written" in one(job, "ingest")["reason"]
    remount(small_disk, "rw")
    retry(job)
    release(job)
    assert making.states(wait(job)) == {"ingest": "finished"}
    assert files_of(Path("corpus")) == ingested


def fill(place: Path, leave: int) -> Path:
    """Fill a disk but for `leave` bytes."""
    path = place / "filler"
    free = os.statvfs(place).f_bavail * os.statvfs(place).f_frsize
    with path.open("wb") as handle:
        os.posix_fallocate(handle.fileno(), 0, free - leave)
    return path


@pytest.mark.parametrize("full", ["output", "job folder"])
def test_a_full_disk_leaves_nothing_half_written_and_a_retry_finishes(
    slurm, home, small_disk, rows, ingested, full
):
    work, out = (small_disk / "work", Path("corpus")) if full == "job folder" else (
        WORK, small_disk / "corpus"
    )  # fmt: skip
    job = submit("ingest", rows, "--out", out, work=work, sbatch={"hold": True})
    filler = fill(small_disk, 0 if full == "job folder" else 500_000)
    release(job)
    assert making.states(wait(job)) == {"ingest": "failed"}
    reason = one(job, "ingest")["reason"]
    assert str(small_disk) in reason
    assert "No space left on device" in reason
    assert not out.exists()
    filler.unlink()
    assert retry(job) == {"ingest": 1}
    release(job)
    assert making.states(wait(job)) == {"ingest": "finished"}
    assert files_of(out) == ingested
    assert not list(out.parent.glob(".corpus.*")), "a draft was left behind"
