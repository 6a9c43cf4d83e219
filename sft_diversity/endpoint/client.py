"""The client: many requests in, their outcomes out in the same order, whatever order they come in.

    with Client(config, folder, "index") as client:
        for identity, outcome in client.ask(requests, version="meso-tags-1"):
            ...  # an Answer or a Failure

Answers are kept on disk as they arrive; a request whose answer is kept costs no call.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType

from sft_diversity.core import stopping
from sft_diversity.core.errors import DataError, Interrupted, SftdivError
from sft_diversity.core.progress import Progress
from sft_diversity.endpoint.answers import Answers, folder_for
from sft_diversity.endpoint.base import Failure, Outcome, Request, Tally, request_key
from sft_diversity.endpoint.calling import Caller
from sft_diversity.endpoint.config import EndpointConfig

_AHEAD = 8  # requests taken ahead of the outcome that is waited for, times the concurrency
_IN_A_ROW = 5  # so many requests without an answer: the endpoint is down, not the requests
_GRACE_S = 10.0  # what is under way when a signal comes has this long to arrive
_LOOK_S = 0.5


class Client:
    """Asks an endpoint with bounded concurrency; threads that wait do so outside the lock.

    Parameters
    ----------
    config : EndpointConfig
    kept : Path
        Folder of kept answers, shared by all that ask; one below it for each model and prompt.
    stage : str
        Named in errors.

    Raises
    ------
    UsageError
        If the URL or the key is not usable.
    """

    def __init__(self, config: EndpointConfig, kept: Path, stage: str) -> None:
        self.config, self._kept, self._stage = config, kept, stage
        self.tally = Tally()
        self._caller = Caller(config, stage)
        self._answers: dict[str, Answers] = {}
        self._failed: dict[str, Failure] = {}
        self._open: set[str] = set()  # keys that a thread asks for, or will
        self._fault: SftdivError | None = None
        self._silent = 0  # requests in a row that no answer came to
        self._last_words = ""
        self._changed = threading.Condition()
        self._waiting: queue.SimpleQueue[tuple[Answers, str, Request] | None] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _fault: object, _trace: TracebackType | None
    ) -> None:
        self.close(_GRACE_S if kind is not None and issubclass(kind, Interrupted) else 1.0)

    def ask(
        self, requests: Iterable[Request], version: str, bar: Progress | None = None
    ) -> Iterator[tuple[str, Outcome]]:
        """Yield (id, outcome) for every request, in the order of the requests.

        Parameters
        ----------
        requests : iterable of Request
            Taken a bounded number ahead; equal requests are asked once.
        version : str
            Names the prompt and its version; part of the key of an answer.
        bar : Progress, optional
            Told of every outcome, and what it has cost so far.

        Raises
        ------
        UsageError, DataError
            If the endpoint will answer no request, or has stopped answering.
        Interrupted
            If a signal came; what was answered is kept.
        """
        answers = self._answers_of(version)
        source = iter(requests)
        window: deque[tuple[str, str]] = deque()
        while True:
            while len(window) < _AHEAD * self.config.concurrency:
                request = next(source, None)
                if request is None:
                    break
                key = request_key(request.messages, version, self.config)
                window.append((request.id, key))
                self._start(answers, key, request)
            if not window:
                if self._silent and not (self.tally.answered or self.tally.kept):
                    raise self._unanswered("to any request")
                return
            identity, key = window.popleft()
            outcome = self._outcome(answers, key, bar)
            yield identity, outcome
            if bar is not None:
                bar.note = self.tally.line(self.config)
                bar.advance()

    def close(self, grace_s: float = 1.0) -> None:
        """Start no further call, wait a little for those under way, close the files."""
        self._stop.set()
        for _ in self._threads:
            self._waiting.put(None)
        deadline = time.monotonic() + grace_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._threads.clear()
        self._caller.close()
        for answers in self._answers.values():
            answers.close()

    def _answers_of(self, version: str) -> Answers:
        if version not in self._answers:
            folder = folder_for(self._kept, self.config.model, version)
            self._answers[version] = Answers(folder, self._stage)
        return self._answers[version]

    def _start(self, answers: Answers, key: str, request: Request) -> None:
        with self._changed:
            if key in self._open or key in self._failed:
                return
            if key in answers:
                self.tally.kept += answers.from_before(key)
                return
            self._open.add(key)
        if len(self._threads) < self.config.concurrency:
            thread = threading.Thread(target=self._work, daemon=True)
            self._threads.append(thread)
            thread.start()
        self._waiting.put((answers, key, request))

    def _outcome(self, answers: Answers, key: str, bar: Progress | None) -> Outcome:
        with self._changed:
            while True:
                stopping.safe_point(self._stage)
                if self._fault is not None:
                    raise self._fault
                if key not in self._open:
                    break
                self._changed.wait(_LOOK_S)
                if bar is not None:
                    bar.advance(0)
            if key in self._failed:
                return self._failed[key]
        return answers.get(key)

    def _work(self) -> None:
        """Ask for one waiting request after another; what goes wrong is the asker's to hear."""
        while (item := self._waiting.get()) is not None and not self._stop.is_set():
            answers, key, request = item
            try:
                outcome, calls = self._caller.ask(request, key, self._stop, self._count_retry)
                if not isinstance(outcome, Failure):
                    answers.put(key, outcome)
                self._close_request(key, outcome, calls)
            except SftdivError as fault:
                self._break(fault)
            except Exception as fault:  # else the asker would wait for ever
                if not self._stop.is_set():  # closing cuts the connections of calls under way
                    self._break(DataError(f"{self._stage}: asking {self._caller.host}: {fault!r}"))

    def _count_retry(self) -> None:
        with self._changed:
            self.tally.retries += 1

    def _break(self, fault: SftdivError) -> None:
        with self._changed:
            self._fault = self._fault or fault
            self._changed.notify_all()

    def _unanswered(self, requests: str) -> DataError:
        return DataError(
            f"{self._stage}: {self._caller.host} gave no answer {requests} ({self._last_words}); "
            "look at its log. Answers so far are kept: run the same command to go on"
        )

    def _close_request(self, key: str, outcome: Outcome, calls: int) -> None:
        with self._changed:
            self.tally.calls += calls
            self._open.discard(key)
            if isinstance(outcome, Failure):
                self._failed[key] = outcome
                self.tally.failures[outcome.reason] += 1
                self._silent = self._silent + 1 if outcome.reason == "gave-up" else 0
                self._last_words = outcome.detail
                if self._silent >= _IN_A_ROW and not self._stop.is_set():
                    row = f"to {self._silent} requests in a row"
                    self._fault = self._fault or self._unanswered(row)
            else:
                self._silent = 0
                self.tally.answered += 1
                self.tally.tokens_in += outcome.tokens_in
                self.tally.tokens_out += outcome.tokens_out
            self._changed.notify_all()
