"""What works for a page: what is urgent first, what is superseded never."""

from __future__ import annotations

import threading
from collections import OrderedDict

import pytest

from sft_diversity.core import progress
from sft_diversity.core.errors import DataError
from sft_diversity.exploring.jobs import ASIDE, LATER, Job, Superseded, Worker


@pytest.fixture
def worker():
    return Worker("test", OrderedDict[str, Job]())


def held_up(worker):
    """Let a job run until the event that is returned."""
    go, begun = threading.Event(), threading.Event()

    def wait():
        begun.set()
        assert go.wait(10)

    worker.submit("hold", wait, key="hold")
    assert begun.wait(10)
    return go


def test_a_newer_request_of_a_lane_takes_the_place_of_one_that_waits(worker):
    done = []
    go = held_up(worker)
    jobs = [
        worker.submit("move", lambda at=at: done.append(at), key=at, lane="dial") for at in range(5)
    ]
    other = worker.submit("other", lambda: done.append("other"), key="other", lane="second")
    go.set()
    assert jobs[-1].wait(10)
    assert other.wait(10)
    assert done == [4, "other"]
    for job in jobs[:-1]:
        with pytest.raises(Superseded):
            job.wait(10)
        assert job.told()["state"] == "failed"


def test_what_runs_is_not_superseded_and_equal_requests_are_one_job(worker):
    go, begun = threading.Event(), threading.Event()

    def run():
        begun.set()
        assert go.wait(10)
        return "done"

    first = worker.submit("run", run, key=1, lane="dial")
    assert begun.wait(10)
    second = worker.submit("next", lambda: "next", key=2, lane="dial")
    assert worker.submit("next", lambda: "again", key=2, lane="dial") is second
    go.set()
    assert first.wait(10)
    assert second.wait(10)
    assert (first.result, second.result) == ("done", "next")


def test_urgent_work_has_its_turn_between_the_steps_of_long_work(worker):
    order = []
    go = held_up(worker)

    def steps():
        for number in range(3):
            order.append(number)
            if number == 0:
                worker.submit("urgent", lambda: order.append("urgent"), key="urgent")
            yield number / 3
        return {"steps": 3}

    long = worker.submit("long", steps, key="long", urgency=LATER)
    go.set()
    assert long.wait(10)
    assert order == [0, "urgent", 1, 2]
    assert long.told()["result"] == {"steps": 3}


def test_an_answer_to_a_question_aside_is_there_when_it_is_asked_again(worker):
    first = worker.submit("why", lambda: "so", key="why", urgency=ASIDE)
    assert first.wait(10)
    again = worker.submit("why", lambda: "otherwise", key="why", urgency=ASIDE)
    assert again is first
    other = worker.submit("what", lambda: "that", key="what", urgency=ASIDE)
    assert other.wait(10)
    assert other.result == "that"


def test_a_fault_is_told_in_one_line_and_the_thread_goes_on(worker):
    def fail():
        raise DataError("select: nothing\nis left")

    def break_down():
        raise KeyError("secret")

    told = []
    for number, task in enumerate((fail, break_down)):
        job = worker.submit("fail", task, key=number)
        with pytest.raises((DataError, KeyError)):
            job.wait(10)
        told.append(job.told()["error"])
    assert told[0] == "select: nothing\\nis left"
    assert "KeyError" in told[1]
    assert "secret" not in told[1]
    assert worker.submit("on", lambda: 1, key="on").wait(10)


def test_a_bar_says_how_far_a_job_is(worker):
    seen = []

    def work():
        with progress.progress("bar", 4, silent=True) as bar:
            for _ in range(4):
                bar.advance()
                seen.append(job.told()["share"])

    go = held_up(worker)
    job = worker.submit("bar", work, key="bar")
    go.set()
    assert job.wait(10)
    assert seen == [0.25, 0.5, 0.75, 1.0]
