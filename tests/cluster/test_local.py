"""Jobs as processes of this machine: order, failure, retry, stop, and who survives whom."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from typing import Any

import pytest

from sft_diversity.cluster import jobs, locks, stage
from sft_diversity.cluster.jobs import Step
from sft_diversity.core.errors import UsageError
from sft_diversity.core.folder import Work, open_draft
from tests.cluster import making


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The current folder, where `made` is a finished output."""
    monkeypatch.chdir(tmp_path)
    output(tmp_path / "made")
    return tmp_path


def output(place) -> None:
    draft = open_draft(place, Work("test", 1, {}, {}))
    draft.write_json("answer.json", {"answer": 42})
    draft.commit()


def test_steps_wait_a_failure_stops_strict_ones_and_retry_does_only_what_is_left(here):
    def verify(name):
        return making.task(name, "verify", name)

    job = making.create(
        here,
        Step("array", (verify("made"), verify("late"))),
        Step("strict", (verify("made"),), ("array",)),
        Step("lenient", (verify("made"),), ("array",), strict=False),
        jobs=2,
    )
    stage.EXECUTORS["local"].submit(job, {step.name: range(len(step.tasks)) for step in job.steps})
    made, failed, strict, lenient = making.wait("1", here)["tasks"]
    assert [one["state"] for one in (made, failed, strict, lenient)] == [
        "finished", "failed", "failed", "finished"
    ]  # fmt: skip
    assert failed["reason"].startswith("late: no finished output")
    assert any("error: late: no finished output" in line for line in failed["tail"])
    assert strict["reason"] == "step array did not finish (late)"
    assert job.record("lenient", 0)["started"] >= job.record("array", 1)["ended"]

    output(here / "late")
    assert stage.retry("1", work=here)["retried"] == {"array": 1, "strict": 1, "lenient": 1}
    found = making.wait("1", here)
    assert found["counts"]["finished"] == 4
    assert [one["attempts"] for one in found["tasks"]] == [1, 2, 1, 2]
    assert stage.retry("1", work=here)["retried"] == {}


def test_a_command_outlives_its_submitter_and_is_finished_while_its_manifest_holds(here):
    (here / "pool.jsonl").write_text('{"instruction": "Say a.", "output": "a."}\n' * 3)
    command = [sys.executable, "-m", "sft_diversity", "submit", "--executor", "local", "--json"]
    submitter = subprocess.Popen(
        [*command, "--", "ingest", "pool.jsonl", "--out", "corpus"],
        stdout=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    said = json.loads(submitter.communicate()[0])
    assert said["steps"] == [{"name": "ingest", "tasks": 1, "after": []}]
    with contextlib.suppress(ProcessLookupError):  # nobody of its terminal may be left already
        os.killpg(submitter.pid, signal.SIGKILL)
    work = here / ".sftdiv"
    found = making.wait(said["job"], work)
    assert making.states(found) == {"ingest": "finished"}

    shard = next((here / "corpus").rglob("*.parquet"))
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")  # as many bytes as before
    assert making.states(stage.status("1", work=work)["jobs"][0]) == {"ingest": "finished"}
    (seen,) = stage.status("1", work=work, verify=True)["jobs"]
    assert seen["tasks"][0]["state"] == "failed"
    assert "contents differ" in seen["tasks"][0]["reason"]
    (here / "corpus/manifest.json").unlink()
    (seen,) = stage.status("1", work=work)["jobs"]
    assert "has no manifest any more" in seen["tasks"][0]["reason"]


def running(job, step: str, attempt: int) -> dict[str, Any]:
    """Wait until an attempt at a task has begun; return its record."""
    until = time.monotonic() + 300
    while (record := job.record(step, 0) or {}).get("state") != "running" or (
        record["attempts"] < attempt
    ):
        assert time.monotonic() < until, record
        time.sleep(0.02)
    return record


def test_a_stopped_task_starts_again_a_limited_number_of_times(here):
    job = making.create(
        here, Step("verify", (making.task("made", "verify", "made"),)), max_requeues=1
    )
    stage.EXECUTORS["local"].submit(job, {"verify": [0]})
    for attempt in (1, 2):
        os.kill(running(job, "verify", attempt)["pid"], signal.SIGUSR1)
    (seen,) = making.wait("1", here)["tasks"]
    assert seen["reason"] == "stopped by SIGUSR1 for the 2. time; max_requeues is 1"
    stage.retry("1", work=here)
    (seen,) = making.wait("1", here)["tasks"]
    assert (seen["state"], seen["attempts"], seen["requeues"]) == ("finished", 3, 0)


def test_cancel_and_kill_end_tasks_and_retry_takes_them_up(here):
    made = making.task("made", "verify", "made")
    job = making.create(here, Step("verify", (made,)), Step("report", (made,), ("verify",)))
    stage.EXECUTORS["local"].submit(job, {"verify": [0], "report": [0]})
    running(job, "verify", 1)
    assert stage.cancel("1", work=here)["cancelled"] == {"verify": 1, "report": 1}
    assert making.wait("1", here)["counts"]["cancelled"] == 2

    stage.retry("1", work=here)
    os.kill(running(job, "verify", 2)["pid"], signal.SIGKILL)
    killed, after = making.wait("1", here)["tasks"]
    assert killed["reason"] == "its process ended without a word: killed by SIGKILL"
    assert after["reason"] == "step verify did not finish (made)"
    with locks.alone(job.record_file("verify", 0).with_suffix(".lock")) as lock:
        assert lock is not None  # its command went with it


def test_names_of_jobs_are_numbers_or_folders_and_wrong_ones_are_said(here):
    job = making.create(here, Step("verify", (making.task("made", "verify", "made"),)))
    assert jobs.named(here, "1") == jobs.named(here, "0001-test") == jobs.load(job.place)
    assert jobs.named(here, str(job.place)) == job
    with pytest.raises(UsageError, match="no job '7'"):
        jobs.named(here, "7")
    with pytest.raises(UsageError, match="no step 'x'; it has verify"):
        stage.cancel("1", step="x", work=here)
    with pytest.raises(UsageError, match="say --failed"):
        stage.only_failed(False)
