"""Jobs that run here, in the foreground: order, failure, retry, stop, kill, and what is left."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from sft_diversity.cluster import jobs, local, stage
from sft_diversity.cluster.jobs import Task
from sft_diversity.core.drafts import Work, open_draft
from sft_diversity.core.errors import DataError, UsageError
from tests.cluster import making
from tests.command import sftdiv


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


def tasks(here) -> list[dict[str, Any]]:
    (found,) = stage.status("1", work=here)["jobs"]
    return found["tasks"]


#: Recipes: `verify` and other verbs would load much more than they need here.
THERE = """
from pathlib import Path
from sft_diversity.core.errors import DataError

def main(arguments):
    if not Path(arguments[0]).exists():
        raise DataError(f"{arguments[0]}: no finished output")
"""


def there(name: str, **outputs) -> Task:
    """Return a task that fails unless a file is there; it ends within a moment."""
    Path("there.py").write_text(THERE)
    return making.task(name, "run", "there.py", name, **outputs)


def test_steps_wait_a_failure_stops_strict_ones_and_retry_does_only_what_is_left(here):

    job = making.create(
        here,
        making.step("array", there("made"), there("late")),
        making.step("strict", there("made"), after=("array",)),
        making.step("lenient", there("made"), after=("array",), strict=False),
    )
    with pytest.raises(DataError, match=r"2 of 4 tasks did not finish; array late: late: no fin"):
        stage.retry("1", work=here, failed=True)
    made, failed, strict, lenient = tasks(here)
    assert [one["state"] for one in (made, failed, strict, lenient)] == [
        "finished", "failed", "failed", "finished"
    ]  # fmt: skip
    assert failed["reason"].startswith("late: no finished output")
    assert any("error: late: no finished output" in line for line in failed["tail"])
    assert strict["reason"] == "step array did not finish (late)"
    assert job.record(job.tasks[3])["started"] >= job.record(job.tasks[1])["ended"]

    output(here / "late")
    assert stage.retry("1", work=here, failed=True)["retried"] == {
        "array": 1,
        "strict": 1,
        "lenient": 1,
    }
    assert [one["state"] for one in tasks(here)] == ["finished"] * 4
    assert [one["attempts"] for one in tasks(here)] == [1, 2, 1, 2]
    assert stage.retry("1", work=here, failed=True)["retried"] == {}


def test_a_command_returns_when_it_is_finished_and_is_so_while_its_manifest_holds(here):
    (here / "pool.jsonl").write_text('{"instruction": "Say a.", "output": "a."}\n' * 3)
    command = ["submit", "--executor", "local", "--json", "--", "ingest", "pool.jsonl"]
    done = sftdiv(*command, "--out", "corpus")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["steps"] == [{"name": "ingest", "tasks": 1, "after": []}]
    work = here / ".sftdiv"
    (seen,) = stage.status(said["job"], work=work)["jobs"]
    assert making.states(seen) == {"ingest": "finished"}

    shard = next((here / "corpus").rglob("*.parquet"))
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")  # as many bytes as before
    assert making.states(stage.status("1", work=work)["jobs"][0]) == {"ingest": "finished"}
    (seen,) = stage.status("1", work=work, verify=True)["jobs"]
    assert seen["tasks"][0]["state"] == "failed"
    assert "contents differ" in seen["tasks"][0]["reason"]
    (here / "corpus/manifest.json").unlink()
    (seen,) = stage.status("1", work=work)["jobs"]
    assert "has no manifest any more" in seen["tasks"][0]["reason"]


def test_a_command_that_ends_well_without_its_outputs_has_failed(here):
    (here / "page.html").write_text("page")
    (here / "several").mkdir()
    output(here / "several/one")
    every = there("made", out=("page.html", "several"))
    none = there("several", out=("page.html", "none.html"))
    job = making.create(here, making.step("verify", every, none))
    local.start(job, job.tasks)
    assert [one["state"] for one in tasks(here)] == ["finished", "failed"]
    assert tasks(here)[1]["reason"].startswith("the command ended well, but ")
    (here / "page.html").rename(here / "away.html")
    assert tasks(here)[0]["reason"] == f"{here}/page.html is gone or changed"
    (here / "away.html").rename(here / "page.html")
    (here / "several/one/answer.json").unlink()
    assert tasks(here)[0]["reason"] == f"{here}/several/one/answer.json is gone or changed"


def running(job, attempt: int) -> psutil.Process:
    """Wait until an attempt at the first task has begun; return the process of its command."""
    until = time.monotonic() + 300
    while time.monotonic() < until:
        record = job.record(job.tasks[0])
        if (record["state"], record["attempts"]) == ("running", attempt):
            for command in psutil.Process(record["pid"]).children():
                return command
        time.sleep(0.02)
    raise AssertionError(record)


def retrying() -> subprocess.Popen[str]:
    """Run the tasks of job 1 in a process of its own."""
    command = [sys.executable, "-m", "sft_diversity", "retry", "--failed", "1", "--work", "."]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


WAIT = """
from pathlib import Path
from time import sleep
from sft_diversity.core import stopping

def main(arguments):
    while not Path("go").exists():
        stopping.safe_point("wait")
        sleep(0.02)
"""
STOP = """
from sft_diversity.core.errors import Interrupted

def main(arguments):
    raise Interrupted("as a command that was told to stop")
"""


def test_a_stopped_task_starts_again_a_limited_number_of_times(here):
    (here / "stop.py").write_text(STOP)
    stop = making.task("stop", "run", "stop.py")
    making.create(here, making.step("run", stop), max_requeues=1)
    with pytest.raises(DataError, match=r"stopped by a signal for the 2. time; max_requeues is 1"):
        stage.retry("1", work=here, failed=True)
    (seen,) = tasks(here)
    assert (seen["state"], seen["attempts"], seen["requeues"]) == ("failed", 2, 1)


def test_cancel_and_kills_end_tasks_and_retry_takes_them_up(here):
    (here / "wait.py").write_text(WAIT)
    wait = making.task("wait", "run", "wait.py")
    job = making.create(here, making.step("run", wait), making.step("report", wait, after=("run",)))
    process = retrying()
    running(job, 1)
    assert [one["state"] for one in tasks(here)] == ["running", "waiting"]
    with pytest.raises(DataError, match=r"process .*is at 0001-test, handing in"):
        stage.retry("1", work=here, failed=True)
    assert stage.cancel("1", work=here)["cancelled"] == {"run": 1, "report": 1}
    assert "2 of 2 tasks did not finish; run wait: cancelled" in process.communicate()[1]
    assert [one["state"] for one in tasks(here)] == ["cancelled"] * 2

    process = retrying()
    running(job, 2).kill()
    process.communicate()
    killed, after = tasks(here)
    assert killed["reason"] == "killed by SIGKILL (out of memory?)"
    assert after["reason"] == "step run did not finish (wait)"

    process = retrying()
    command = running(job, 3)
    process.kill()
    process.communicate()
    command.wait(60)  # it goes with the process that started it
    assert tasks(here)[0]["reason"] == "its process ended without a word: its process is gone"

    process = retrying()
    running(job, 4)
    process.send_signal(signal.SIGINT)
    assert "stopped by SIGINT; `sftdiv retry --failed 0001" in process.communicate()[1]
    assert process.returncode == 75
    assert tasks(here)[0]["reason"] == "stopped by SIGINT, not started again: its process is gone"

    (here / "go").touch()
    stage.retry("1", work=here, failed=True)
    assert [one["state"] for one in tasks(here)] == ["finished"] * 2
    assert [one["attempts"] for one in tasks(here)] == [5, 1]


def test_names_of_jobs_are_numbers_or_folders_and_wrong_ones_are_said(here):
    job = making.create(here, making.step("verify", making.task("made", "verify", "made")))
    assert jobs.named(here, "1") == jobs.named(here, "0001-test") == jobs.load(job.place) == job
    assert jobs.named(here, str(job.place)) == job
    with pytest.raises(UsageError, match="no job '7'"):
        jobs.named(here, "7")
    with pytest.raises(UsageError, match="no step 'x'; it has verify"):
        stage.cancel("1", step="x", work=here)
    with pytest.raises(UsageError, match="say --failed"):
        stage.retry("1", work=here)
