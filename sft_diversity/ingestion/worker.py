"""Further processes for the first pass; each gets its job on stdin.

A worker finishes parts of the draft and reports nothing: what it leaves undone, for any reason,
the main process does itself and meets the same error there. A process of its own (and no fork, no
pool) asks nothing of the caller's main module and cannot inherit a lock; when the main process
goes, however it goes, the pipe closes and the worker goes too.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sft_diversity.core import machine
from sft_diversity.core.drafts import Draft, Work
from sft_diversity.ingestion.config import IngestConfig
from sft_diversity.ingestion.files import File
from sft_diversity.ingestion.parts import Part, read_part

_PROGRAM = "from sft_diversity.ingestion.worker import main; main()"
_WORTH_BYTES = 64 << 20  # below this, starting a process takes longer than it saves
_MAX_WORKERS = 7


@contextlib.contextmanager
def helping(draft: Draft, parts: list[Part], config: IngestConfig) -> Iterator[list[Part]]:
    """Start workers on their share of `parts`; yield the parts that are left to the caller.

    On a clean exit the workers are awaited, on an error they are stopped.
    """
    number = min(machine.cores() - 1, _MAX_WORKERS)
    shares = _shares(parts, 1 + number if sum(p.bytes for p in parts) > _WORTH_BYTES else 1)
    workers = [_start(draft, share, config) for share in shares[1:]]
    try:
        yield shares[0]
        for worker in workers:
            worker.wait()
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
            assert worker.stdin is not None
            worker.stdin.close()


def _shares(parts: list[Part], number: int) -> list[list[Part]]:
    """Deal parts out by size, the largest first, each to the smallest share so far."""
    shares: list[list[Part]] = [[] for _ in range(number)]
    for part in sorted(parts, key=lambda part: (-part.bytes, part.number)):
        min(shares, key=lambda share: sum(p.bytes for p in share)).append(part)
    return [sorted(share, key=lambda part: part.number) for share in shares if share or number == 1]


def _start(draft: Draft, share: list[Part], config: IngestConfig) -> subprocess.Popen[bytes]:
    job = {
        "path": str(draft.path),
        "work": draft.work.as_json(),
        "config": config.model_dump(mode="json"),
        "parts": [dataclasses.asdict(part) for part in share],
    }
    worker = subprocess.Popen(
        [sys.executable, "-P", "-c", _PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # a signal to the terminal's group is the main process's to handle
    )
    assert worker.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        worker.stdin.write(json.dumps(job, default=str).encode() + b"\n")
        worker.stdin.flush()
    return worker


def main() -> None:
    """Do the job that stdin describes; stop at once when stdin closes."""
    job: dict[str, Any] = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_go_with_parent, daemon=True).start()
    path = Path(job["path"])
    draft = Draft(path, Work(**job["work"]), path, "resumed", "")
    config = IngestConfig.model_validate(job["config"])
    for part in job["parts"]:
        files = tuple(File(**file | {"path": Path(file["path"])}) for file in part["files"])
        read_part(draft, Part(part["number"], part["first"], files), config)


def _go_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(1)
