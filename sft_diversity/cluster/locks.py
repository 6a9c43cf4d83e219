"""Locks that the system frees when the process that holds them ends, however it ends."""

from __future__ import annotations

import contextlib
import fcntl
import time
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def alone(path: Path, wait_s: float = 0.0) -> Iterator[int | None]:
    """Hold a lock that the system frees when this process ends; yield its descriptor.

    None: another process holds it. A process that inherits the descriptor keeps the lock.
    """
    until = time.monotonic() + wait_s
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as handle:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                if time.monotonic() < until:
                    time.sleep(0.1)
                    continue
                yield None
                return
            yield handle.fileno()
            return


def held(path: Path) -> bool:
    """Whether another process holds the lock; a folder that cannot be written will do."""
    try:
        with path.open("rb") as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
