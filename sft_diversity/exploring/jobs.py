"""Two threads that work for a page: one chooses, one makes what choosing reads.

Whatever takes long is a job that can be asked how far it is. The most urgent comes first, and what
a newer request of the same page makes needless is dropped while it waits.
"""

from __future__ import annotations

import heapq
import itertools
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Generator, Hashable
from dataclasses import dataclass, field
from typing import Any

from sft_diversity.core import progress
from sft_diversity.core.errors import SftdivError, UsageError

#: What is done: in one go, or in steps between which more urgent work has its turn; a step yields
#: the share that is done, the last returns the result.
Task = Callable[[], Any]
_KEPT, _ASIDES = 200, 32  # jobs that can still be asked for; answers to questions aside
SELECT, ASIDE, LATER = range(3)  # how urgent: what the dial waits for, a question, a background


class Superseded(UsageError):
    """A newer request took this one's place."""


@dataclass(eq=False)
class Job:
    """A piece of work, waiting, running or over.

    Attributes
    ----------
    what : str
        For people.
    seconds : float
        Estimate of the whole.
    lane : str
        Whose it is: a newer one of the lane takes the place of one that waits; "" of nobody's.
    """

    what: str
    task: Task
    seconds: float
    key: Hashable
    lane: str
    urgency: int
    id: str = field(default_factory=lambda: secrets.token_hex(8))
    share: float | None = None
    started: float | None = None
    result: Any = None
    fault: Exception | None = None
    over: threading.Event = field(default_factory=threading.Event)
    steps: Generator[float, None, Any] | None = None

    def told(self) -> dict[str, Any]:
        """Return how far it is, as JSON values."""
        state = "running" if not self.over.is_set() else ("failed" if self.fault else "done")
        spent = 0.0 if self.started is None else time.monotonic() - self.started
        left = max(0.0, self.seconds - spent)
        if self.share and spent > 1:  # what was measured beats what was guessed
            left = spent / self.share * (1 - self.share)
        told = {
            "state": state,
            "what": self.what,
            "share": self.share,
            "seconds_left": round(left, 1) if state == "running" else 0,
            "error": said(self.fault) if self.fault else None,
        }
        return told | ({"result": self.result} if isinstance(self.result, dict) else {})

    def wait(self, seconds: float | None) -> bool:
        """Return whether it is over within some seconds; raise what it failed with."""
        over = self.over.wait(seconds)
        if self.fault is not None:
            raise self.fault
        return over

    def heard(self, label: str, share: float) -> None:
        """Note how far a bar is."""
        self.share = min(share, 1.0)


def said(fault: Exception) -> str:
    """Return a fault as one line; of one that is not expected its kind alone."""
    if isinstance(fault, SftdivError):
        return str(fault)
    if isinstance(fault, MemoryError):
        return "memory ran out; ask for less at a time"
    if isinstance(fault, OSError):
        return str(SftdivError(fault.strerror or "the machine refused"))
    return f"this is a fault of sftdiv ({type(fault).__name__}); please report it"


class Worker:
    """A thread and what waits for it.

    Parameters
    ----------
    jobs : dict
        Where jobs are found by id, oldest first; workers share it.
    """

    def __init__(self, name: str, jobs: OrderedDict[str, Job]) -> None:
        self._jobs, self._lock = jobs, threading.Condition()
        self._waiting: list[tuple[int, int, Job]] = []
        self._live: dict[Hashable, Job] = {}
        self._aside: OrderedDict[Hashable, Job] = OrderedDict()
        self._numbers = itertools.count()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def submit(
        self, what: str, task: Task, *, key: Hashable, seconds: float = 0.0, lane: str = "",
        urgency: int = SELECT,
    ) -> Job:  # fmt: skip
        """Return the job of a key: one that waits or runs, answered it aside before, or is new."""
        with self._lock:
            if lane:
                self._drop(lane, key)
            if key in self._live or key in self._aside:
                return self._live.get(key) or self._aside[key]
            job = Job(what, task, seconds, key, lane, urgency)
            self._live[key] = self._jobs[job.id] = job
            while len(self._jobs) > _KEPT:
                self._jobs.popitem(last=False)
            self._push(job)
            return job

    def _push(self, job: Job) -> None:
        heapq.heappush(self._waiting, (job.urgency, next(self._numbers), job))
        self._lock.notify()

    def _drop(self, lane: str, key: Hashable) -> None:
        """Let what waits in a lane fail, but for the job of a key."""
        for entry in [*self._waiting]:
            job = entry[2]
            if job.lane == lane and job.key != key and job.started is None:
                self._waiting.remove(entry)
                self._end(job, fault=Superseded("superseded by a newer request"))
        heapq.heapify(self._waiting)

    def _end(self, job: Job, result: Any = None, fault: Exception | None = None) -> None:
        job.result, job.fault, job.share = result, fault, 1.0
        self._live.pop(job.key, None)
        if fault is None and job.urgency == ASIDE:  # who asks again wants to read the answer
            self._aside[job.key] = job
            if len(self._aside) > _ASIDES:
                self._aside.popitem(last=False)
        job.over.set()

    def _run(self) -> None:
        while True:
            with self._lock:
                while not self._waiting:
                    self._lock.wait()
                job = heapq.heappop(self._waiting)[2]
            self._step(job)

    def _step(self, job: Job) -> None:
        job.started = job.started or time.monotonic()
        token = progress.HEARD.set(job.heard)
        try:
            result = job.task() if job.steps is None else job.steps
            if isinstance(result, Generator):
                job.steps = result
                job.share = next(job.steps)
                with self._lock:
                    self._push(job)
                return
            fault = None
        except StopIteration as end:
            result, fault = end.value, None
        except Exception as found:
            result, fault = None, found
            if not isinstance(found, SftdivError):
                progress.LOG.debug("explore: %s", job.what, exc_info=found)
        finally:
            progress.HEARD.reset(token)
        with self._lock:
            self._end(job, result, fault)
