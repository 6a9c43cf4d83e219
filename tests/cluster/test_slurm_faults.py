"""What goes wrong on a cluster, on a real Slurm: nothing is lost, and nothing is done twice."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pyarrow as pa
import pytest
import yaml

from sft_diversity.cluster import jobs
from sft_diversity.cluster.jobs import Job
from sft_diversity.core import folder
from sft_diversity.core import parts as core_parts
from sft_diversity.core.corpus import COMPONENTS
from sft_diversity.embedding.batches import TextKeys
from sft_diversity.embedding.cache import Vectors
from tests.cluster import making
from tests.cluster.controlling import (
    PAIRS,
    WORK,
    call,
    files_of,
    held_still,
    one,
    record,
    retry,
    status,
    submit,
    told,
    until,
    wait,
    worker,
)

pytestmark = pytest.mark.slurm


def units() -> dict[Path, tuple[int, int]]:
    """Return the units in the store, and what would change if one were written again."""
    found = {path: path.stat() for path in WORK.rglob("*.arrow")}
    return {path: (stat.st_ino, stat.st_mtime_ns) for path, stat in found.items()}


def texts(paths) -> int:
    return sum(pa.ipc.open_file(path).read_all().num_rows for path in paths)


def stored(corpus: Path, parts: int) -> Callable[[int], bool]:
    """Return what tells of a part's number whether the store has any of its texts."""
    slices = core_parts.slices(corpus)  # each a unit; a part has every `parts`-th
    keys = [TextKeys(COMPONENTS).within(slices[i::parts]) for i in range(parts)]

    def tell(number: int) -> bool:
        folders = {path.parent for path in WORK.rglob("*.arrow")}
        return any(len(Vectors(place, only=keys[number])) for place in folders)

    return tell


def test_tasks_killed_cancelled_and_requeued_lose_nothing_and_repeat_nothing(
    slurm, home, corpus, encoder, embedded
):
    job = submit("embed", corpus, "--encoder", encoder, "--out", "out", parts=4)
    number = job.submissions()[0].slurm
    has_stored = stored(corpus, parts=4)
    # what Slurm sends comes later than its command returns: a task let go before that is finished
    with held_still(job, "parts", [0, 1], has_stored) as (process, requeued):
        kept = units()
        process.kill()
        call("scontrol", "requeue", f"{number}_1")
        until(lambda: told(requeued, signal.SIGTERM))
    with held_still(job, "parts", [2, 3], has_stored) as (cancelled, process):
        kept |= units()
        call("scancel", f"{number}_2")
        until(lambda: told(cancelled, signal.SIGTERM))
        worker(job, "parts", 3).kill()
        until(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE)
    found = wait(job)
    assert making.states(found) == {
        "1/4": "failed", "2/4": "finished", "3/4": "cancelled", "4/4": "failed", "embed": "failed",
    }  # fmt: skip
    assert "killed by SIGKILL" in one(job, "parts", 0)["reason"]
    assert "its process ended without a word" in one(job, "parts", 3)["reason"]
    assert "step parts did not finish" in one(job, "embed")["reason"]
    assert not Path("out").exists()

    assert retry(job) == {"parts": 3, "embed": 1}
    assert set(making.states(wait(job)).values()) == {"finished"}
    assert [record(job, "parts", i)["attempts"] for i in range(4)] == [2, 2, 2, 2]
    assert files_of(Path("out")) == embedded
    made = units()
    assert texts(made) == 2 * PAIRS, "a text was lost, or stands there twice"
    assert {path: made[path] for path in kept} == kept, "a unit was made again"
    parts = [folder.read_manifest(path.parent) for path in WORK.glob("parts/*/*/manifest.json")]
    assert sum(part["result"]["rows"] for part in parts) == PAIRS
    assert folder.read_manifest(Path("out"))["run"]["texts_embedded"] == 0


KILLER = """#!/bin/sh
# the real sbatch; {when} call {call} it kills the process that called
count=$(cat {counter} 2>/dev/null || echo 0)
echo $((count + 1)) > {counter}
[ {when} = before ] && [ $count = {call} ] && kill -9 $PPID && exit
{sbatch} "$@" || exit 1
[ {when} = after ] && [ $count = {call} ] && kill -9 $PPID
exit 0
"""


def killed(verb: str, *arguments: str, when: str, call: int) -> None:
    """Run a verb of `sftdiv` that dies by `kill -9` before or after a call of sbatch."""
    place = Path(f"{verb}-bin")
    place.mkdir()
    script = place / "sbatch"
    facts = {"sbatch": shutil.which("sbatch"), "counter": (place / "count").absolute()}
    script.write_text(KILLER.format(**facts, when=when, call=call))
    script.chmod(0o755)
    environment = os.environ | {"PATH": f"{place.absolute()}:{os.environ['PATH']}"}
    argv = [sys.executable, "-m", "sft_diversity", verb, *arguments]
    assert subprocess.run(argv, env=environment, check=False).returncode == -signal.SIGKILL


def queued(job: Job) -> list[str]:
    """Return Slurm's numbers of the tasks of a job that are not over."""
    said = call("squeue", "--noheader", "--array", "--format=%i %j").splitlines()
    return [line.split()[0] for line in said if line.split()[1].startswith(job.name)]


def test_a_submission_killed_at_any_call_loses_nothing_and_repeats_nothing(
    slurm, home, corpus, encoder, embedded
):
    profile = {"executor": "slurm", "memory_gb": 2.5, "parts": 2, "sbatch": {"hold": True}}
    Path("held.yaml").write_text(yaml.safe_dump(profile), "utf-8")
    argv = ("--", "embed", str(corpus), "--encoder", str(encoder), "--out", "out")

    killed("submit", "--profile", "held.yaml", *argv, when="before", call=0)
    (job,) = jobs.listed(WORK)
    assert queued(job) == []
    found = status(job)
    assert [task["state"] for task in found["tasks"]] == ["failed"] * 3
    assert {task["reason"] for task in found["tasks"]} == {"was never submitted"}

    killed("retry", "--failed", job.name, when="after", call=0)
    assert len(queued(job)) == 2  # Slurm has them; the process died before it could write that
    found = status(job)
    assert [task["state"] for task in found["tasks"]] == ["waiting", "waiting", "failed"]
    assert found["tasks"][2]["reason"] == "was never submitted"

    assert retry(job) == {"embed": 1}
    assert len(queued(job)) == 3
    assert retry(job) == {}
    for number in queued(job):
        call("scontrol", "release", number)
    assert set(making.states(wait(job)).values()) == {"finished"}
    assert [record(job, "parts", i)["attempts"] for i in (0, 1)] == [1, 1]
    assert record(job, "embed")["attempts"] == 1
    assert files_of(Path("out")) == embedded
    assert texts(units()) == 2 * PAIRS


def test_a_controller_that_dies_loses_no_task_and_starts_none_twice(
    slurm, home, corpus, encoder, embedded
):
    job = submit("embed", corpus, "--encoder", encoder, "--out", "out", parts=2)
    with held_still(job, "parts", [0, 1], stored(corpus, parts=2)):
        kept = units()
        slurm.do("crash")
        found = status(job)
        assert [task["state"] for task in found["tasks"]] == ["running", "running", "waiting"]
        assert all("squeue" in task["reason"] for task in found["tasks"])
    until(lambda: record(job, "parts", 0)["state"] == "finished")  # nobody needs a controller
    assert one(job, "parts", 0)["state"] == "finished"
    slurm.do("revive")
    assert set(making.states(wait(job)).values()) == {"finished"}
    assert [record(job, "parts", i)["attempts"] for i in (0, 1)] == [1, 1]
    assert record(job, "embed")["attempts"] == 1
    made = units()
    assert {path: made[path] for path in kept} == kept
    assert texts(made) == 2 * PAIRS
    assert files_of(Path("out")) == embedded
