"""What is asked and answered, and the answers kept on disk.

They lie in append-only files of JSON lines, one file a run. A file is only ever written by the run
that made it, so a line cut short by a kill is the last of its file and is passed over; several runs
may use one folder at a time.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeAlias

import orjson

from sft_diversity.core.errors import DataError
from sft_diversity.core.hashing import content_key, text_key
from sft_diversity.endpoint.config import CallOptions

Messages: TypeAlias = Sequence[Mapping[str, str]]
#: A caller's id, which need not be unique, and the dialogue that a model is to go on with.
Request: TypeAlias = tuple[str, Messages]


@dataclass(frozen=True)
class Answer:
    """What the model said.

    Attributes
    ----------
    text : str
    finish : str
        Why it ended: `stop`, `length` where it was cut at `max_tokens`, or the endpoint's word.
    tokens_in, tokens_out : int
        As the endpoint counted them, 0 where it does not say.
    """

    text: str
    finish: str
    tokens_in: int
    tokens_out: int


@dataclass(frozen=True)
class Failure:
    """Why there is no answer.

    Attributes
    ----------
    reason : str
        `refused`, the endpoint does not take this request (HTTP 4xx); `gave-up`, no answer came in
        all the tries; `empty`, the answer holds no text.
    detail : str
    """

    reason: str
    detail: str


Outcome: TypeAlias = Answer | Failure


def without_thoughts(text: str) -> str:
    """Return an answer without the thinking that some models write before it."""
    return re.sub(r"<think>.*?(</think>|$)", "", text, flags=re.DOTALL).strip()


def request_key(messages: Messages, version: str, config: CallOptions) -> str:
    """Return the key of an answer: model, prompt version, messages and parameters."""
    return content_key(
        {
            "model": config.model,
            "version": version,
            "messages": [dict(message) for message in messages],
            "parameters": config.parameters(),
        }
    )


def folder_for(root: Path, model: str, version: str) -> Path:
    """Return where the answers of a model to a prompt lie; any model name makes a safe path."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", model).strip("-.")[-60:] or "model"
    return root / f"{version}-{plain}-{text_key(model)[:8]}"


class Answers:
    """Answers by key; memory holds where each lies, not its text."""

    def __init__(self, folder: Path, stage: str) -> None:
        self._folder, self._stage = folder, stage
        self._files = sorted(folder.glob("*.jsonl")) if folder.is_dir() else []
        self._before = len(self._files)
        self._places: dict[bytes, tuple[int, int]] = {}  # key -> number of the file, byte offset
        self._lock = threading.Lock()
        self._handle: BinaryIO | None = None  # of the last file, where this run writes
        self._end = 0
        for number in range(len(self._files)):
            self._index(number)

    def __contains__(self, key: str) -> bool:
        return bytes.fromhex(key) in self._places

    def __len__(self) -> int:
        return len(self._places)

    def from_before(self, key: str) -> bool:
        """Whether the answer, which must be there, was kept by an earlier run."""
        return self._places[bytes.fromhex(key)][0] < self._before

    def get(self, key: str) -> Answer:
        """Return the answer kept under `key`, which must be there."""
        number, offset = self._places[bytes.fromhex(key)]
        with self._files[number].open("rb") as handle:
            handle.seek(offset)
            kept = orjson.loads(handle.readline())
        return Answer(kept["text"], kept["finish"], kept["in"], kept["out"])

    def put(self, key: str, answer: Answer) -> None:
        """Append an answer; once this returns, killing the process does not lose it.

        Raises
        ------
        DataError
            If the file cannot be written.
        """
        line = {"key": key, "text": answer.text, "finish": answer.finish}
        raw = orjson.dumps(line | {"in": answer.tokens_in, "out": answer.tokens_out}) + b"\n"
        with self._lock:
            try:
                if self._handle is None:
                    self._open()
                assert self._handle is not None
                self._handle.write(raw)
                self._handle.flush()
            except OSError as fault:
                self._leave()
                raise DataError(
                    f"{self._stage}: cannot keep answers in {self._folder}: "
                    f"{fault.strerror or fault}; free space or rights?"
                ) from fault
            self._places[bytes.fromhex(key)] = len(self._files) - 1, self._end
            self._end += len(raw)

    def close(self) -> None:
        """Sync and close the file of this run, if it has one."""
        with self._lock:
            self._leave()

    def _open(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{time.time_ns():x}-{os.getpid()}.jsonl"
        self._handle, self._end = path.open("xb"), 0
        self._files.append(path)

    def _leave(self) -> None:
        """Leave the file, whose last line may be half written, to those that read it."""
        if self._handle is not None:
            with contextlib.suppress(OSError), self._handle:
                os.fsync(self._handle.fileno())
            self._handle = None

    def _index(self, number: int) -> None:
        offset = 0
        with self._files[number].open("rb") as handle:
            for line in handle:
                with contextlib.suppress(ValueError, KeyError, TypeError):  # cut, or no answer
                    kept = orjson.loads(line)
                    fields = isinstance(kept["text"], str) and {"finish", "in", "out"} <= set(kept)
                    if fields and line.endswith(b"\n"):
                        self._places.setdefault(bytes.fromhex(kept["key"]), (number, offset))
                offset += len(line)
