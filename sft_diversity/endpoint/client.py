"""The client: many requests in, their outcomes out in the same order, whatever order they come in.

    with Client(config, folder, "index", version="meso-tags-1") as client:
        for identity, outcome in client.ask(requests):
            ...  # an Answer or a Failure

Answers are kept on disk as they arrive; a request whose answer is kept costs no call.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, wait
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any

from sft_diversity.core import stopping
from sft_diversity.core.errors import DataError, Interrupted, SftdivError
from sft_diversity.core.progress import Progress
from sft_diversity.endpoint.answers import (
    Answer,
    Answers,
    Messages,
    Outcome,
    Request,
    folder_for,
    request_key,
)
from sft_diversity.endpoint.calling import Caller
from sft_diversity.endpoint.config import EndpointConfig

_AHEAD = 8  # requests taken ahead of the outcome that is waited for, times the concurrency
_IN_A_ROW = 5  # so many requests without an answer: the endpoint is down, not the requests
_GRACE_S = 10.0  # what is under way when a signal comes has this long to arrive
_LOOK_S = 0.5


class Client:
    """Asks an endpoint one kind of question, with bounded concurrency.

    Parameters
    ----------
    config : EndpointConfig
    kept : Path
        Folder of kept answers, shared by all that ask; one below it for each model and prompt.
    stage : str
        Named in errors.
    version : str
        Names the prompt and its version; part of the key of an answer.
    schema : mapping, optional
        `name` and JSON `schema` that the endpoint holds answers to, where it can. No part of the
        key: the prompt says the same in words, and its reader takes either.

    Raises
    ------
    UsageError
        If the URL or the key is not usable, or the SDK is not installed.
    """

    def __init__(
        self,
        config: EndpointConfig,
        kept: Path,
        stage: str,
        version: str,
        schema: Mapping[str, Any] | None = None,
    ) -> None:
        self._config, self._stage, self._version = config, stage, version
        self._caller = Caller(config, stage, schema)
        self.tally = self._caller.tally
        self._answers = Answers(folder_for(kept, config.model, version), stage)
        self._asked: dict[str, Future[Outcome]] = {}  # by key: under way, or failed
        self._fault: SftdivError | None = None
        self._silent = 0  # requests in a row that no answer came to
        self._last_words = ""
        self._lock = threading.Lock()
        self._waiting: queue.SimpleQueue[tuple[Future[Outcome], str, Messages] | None] = (
            queue.SimpleQueue()
        )
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _fault: object, _trace: TracebackType | None
    ) -> None:
        self.close(_GRACE_S if kind is not None and issubclass(kind, Interrupted) else 1.0)

    def ask(
        self, requests: Iterable[Request], bar: Progress | None = None
    ) -> Iterator[tuple[str, Outcome]]:
        """Yield (id, outcome) for every request, in the order of the requests.

        Parameters
        ----------
        requests : iterable of Request
            Taken a bounded number ahead; equal requests are asked once.
        bar : Progress, optional
            Told of every outcome, and what it has cost so far.

        Raises
        ------
        UsageError, DataError
            If the endpoint will answer no request, or has stopped answering.
        Interrupted
            If a signal came; what was answered is kept.
        """
        source = iter(requests)
        window: deque[tuple[str, Future[Outcome]]] = deque()
        ahead = _AHEAD * self._config.concurrency
        while True:
            for identity, messages in islice(source, ahead - len(window)):
                window.append((identity, self._start(messages)))
            if not window:
                break
            identity, outcome = window.popleft()
            yield identity, self._wait(outcome, bar)
            if bar is not None:
                bar.note = self.tally.line(self._config)
                bar.advance()
        if self._silent and not (self.tally.answers_new or self.tally.answers_kept_from_before):
            raise self._unanswered("to any request")

    def close(self, grace_s: float = 1.0) -> None:
        """Start no further request, wait a little for those under way, close the files."""
        self._stop.set()
        for _ in self._threads:
            self._waiting.put(None)
        deadline = time.monotonic() + grace_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._threads.clear()
        self._caller.close()
        self._answers.close()

    def _start(self, messages: Messages) -> Future[Outcome]:
        key = request_key(messages, self._version, self._config)
        with self._lock:
            if key in self._asked:
                return self._asked[key]
            outcome: Future[Outcome] = Future()
            if key in self._answers:
                self.tally.answers_kept_from_before += self._answers.from_before(key)
                outcome.set_result(self._answers.get(key))
                return outcome
            self._asked[key] = outcome
        if len(self._threads) < self._config.concurrency:
            thread = threading.Thread(target=self._work, daemon=True)
            thread.start()  # where there is no memory for it, it is none to be waited for
            self._threads.append(thread)
        self._waiting.put((outcome, key, messages))
        return outcome

    def _wait(self, outcome: Future[Outcome], bar: Progress | None) -> Outcome:
        while True:
            stopping.safe_point(self._stage)
            if self._fault is not None:
                raise self._fault
            if wait([outcome], _LOOK_S).done:
                return outcome.result()
            if self._caller.overdue():
                raise self._unanswered("in the time that `answer_s` allows")
            if bar is not None:
                bar.advance(0)

    def _work(self) -> None:
        """Ask for one waiting request after another; what goes wrong is the asker's to hear."""
        while (item := self._waiting.get()) is not None and not self._stop.is_set():
            waited, key, messages = item
            try:
                outcome = self._caller.ask(messages)
                if isinstance(outcome, Answer):
                    self._answers.put(key, outcome)
                self._count(key, outcome)
                waited.set_result(outcome)
            except SftdivError as fault:
                self._fault = self._fault or fault
            except Exception as fault:  # else the asker would wait for ever
                if not self._stop.is_set():  # closing cuts the connections of calls under way
                    said = self._caller.clean(repr(fault))
                    said = f"{self._stage}: asking {self._caller.host}: {said}"
                    self._fault = self._fault or DataError(said)

    def _count(self, key: str, outcome: Outcome) -> None:
        """Count an outcome; too many failures of the endpoint in a row are a fault of it."""
        with self._lock:
            if isinstance(outcome, Answer):
                del self._asked[key]
                self._silent = 0
                self.tally.answers_new += 1
                self.tally.tokens_in_new += outcome.tokens_in
                self.tally.tokens_out_new += outcome.tokens_out
                return
            self.tally.failed += 1
            self._silent = self._silent + 1 if outcome.reason == "gave-up" else 0
            self._last_words = outcome.detail
            if self._silent >= _IN_A_ROW:
                self._fault = self._fault or self._unanswered(
                    f"to {self._silent} requests in a row"
                )

    def _unanswered(self, requests: str) -> DataError:
        return DataError(
            f"{self._stage}: {self._caller.host} gave no answer {requests} ({self._last_words}); "
            "look at its log. Answers so far are kept: run the same command to go on"
        )
