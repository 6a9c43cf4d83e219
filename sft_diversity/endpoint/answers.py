"""Answers kept on disk: append-only files of JSON lines, one file a run, safe against kill -9.

A file is only ever written by the run that made it, so a line cut short by a kill is the last of
its file and is passed over; several runs may use one folder at a time.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from pathlib import Path

import orjson

from sft_diversity.core.errors import DataError
from sft_diversity.core.hashing import text_key
from sft_diversity.endpoint.base import Answer

_SYNC_EVERY_S = 2.0


class Answers:
    """Answers by key; memory holds where each lies, not its text."""

    def __init__(self, folder: Path, stage: str) -> None:
        self._folder, self._stage = folder, stage
        self._files: list[Path] = sorted(folder.glob("*.jsonl")) if folder.is_dir() else []
        self._before = len(self._files)
        self._places: dict[bytes, tuple[int, int]] = {}  # key -> number of the file, byte offset
        self._lock = threading.Lock()
        self._writing: int | None = None  # file descriptor
        self._end = 0
        self._synced = time.monotonic()
        self.unreadable = 0
        for number in range(len(self._files)):
            self._index(number)

    def __contains__(self, key: str) -> bool:
        return bytes.fromhex(key) in self._places

    def __len__(self) -> int:
        return len(self._places)

    def from_before(self, key: str) -> bool:
        """Whether the answer was kept by an earlier run."""
        place = self._places.get(bytes.fromhex(key))
        return place is not None and place[0] < self._before

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
        line = {
            "key": key,
            "text": answer.text,
            "finish": answer.finish,
            "in": answer.tokens_in,
            "out": answer.tokens_out,
        }
        raw = orjson.dumps(line) + b"\n"
        with self._lock:
            try:
                self._append(raw)
            except OSError as fault:
                self._forsake()
                raise DataError(
                    f"{self._stage}: cannot keep answers in {self._folder}: "
                    f"{fault.strerror or fault}; free space or rights?"
                ) from fault
            self._places[bytes.fromhex(key)] = len(self._files) - 1, self._end
            self._end += len(raw)

    def close(self) -> None:
        """Sync and close the file of this run, if it has one."""
        with self._lock:
            self._forsake()

    def _forsake(self) -> None:
        """Leave the file, whose last line may be half written, to those that read it."""
        if self._writing is not None:
            with contextlib.suppress(OSError):
                os.fsync(self._writing)
            os.close(self._writing)
            self._writing = None

    def _append(self, raw: bytes) -> None:
        if self._writing is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._folder / f"{time.time_ns():x}-{os.getpid()}.jsonl"
            self._writing = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o644)
            self._files.append(path)
            self._end = 0
        written = 0
        while written < len(raw):
            written += os.write(self._writing, raw[written:])
        now = time.monotonic()
        if now - self._synced >= _SYNC_EVERY_S:
            self._synced = now
            os.fsync(self._writing)

    def _index(self, number: int) -> None:
        offset = 0
        with self._files[number].open("rb") as handle:
            for line in handle:
                try:
                    kept = orjson.loads(line)
                    key = bytes.fromhex(kept["key"])
                    whole = isinstance(kept["text"], str) and {"finish", "in", "out"} <= set(kept)
                except (ValueError, KeyError, TypeError):
                    whole = False
                if whole and line.endswith(b"\n"):
                    self._places.setdefault(key, (number, offset))
                else:
                    self.unreadable += 1
                offset += len(line)


def folder_for(root: Path, model: str, version: str) -> Path:
    """Return where the answers of a model to a prompt lie; any model name makes a safe path."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", model).strip("-.")[-60:] or "model"
    return root / f"{version}-{plain}-{text_key(model)[:8]}"
