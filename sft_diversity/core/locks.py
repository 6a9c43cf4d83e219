"""One writer at a time of one output: the second waits, and says so."""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sft_diversity.core import progress, stopping

try:
    import fcntl
except ImportError:  # Windows has none
    fcntl = None  # type: ignore[assignment]

_LOOK_EVERY_S = 0.2
#: What file systems that know no `flock` answer; systems that know none have no `fcntl`.
_NO_FLOCK = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}
_held: dict[Path, Lock] = {}


@dataclass
class Lock:
    """A lock that this process holds until `release`, or until it ends.

    The file beside the output goes with the lock. It is removed while it is locked, and whoever got
    it afterwards looks whether the file of that name is still the one that it locked: so no two
    hold locks on two files of one name.
    """

    path: Path
    descriptor: int | None = None  # of the locked file, or
    soft: Any = None  # filelock's, where there is no `flock`
    pid: int = 0

    def release(self) -> None:
        """Let the next one in; more calls than one do no harm."""
        if _held.get(self.path) is self and self.pid == os.getpid():
            del _held[self.path]
            with contextlib.suppress(OSError):
                self.path.unlink()
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None
        if self.soft is not None:
            self.soft.release()
            self.soft = None


def acquire(
    out: Path, stage: str, say: Callable[[str], None] = progress.say, *, wait: bool = True
) -> Lock | None:
    """Return the lock of an output, once no other process holds it; None if it is not to be waited.

    A process that holds it already gets it again: what it began there has failed, or it is nested.

    Parameters
    ----------
    out : Path
        The output; the lock's file `.NAME.lock` lies beside it.

    Raises
    ------
    Interrupted
        If a signal comes while it waits.
    OSError
        If no file can be made there.
    """
    path = _file_of(out)
    held = _held.get(path)
    if held is not None and held.pid == os.getpid():
        return held
    said = False
    while True:
        found = _try(path)
        if found is not None:
            _held[path] = found
            return found
        if not wait:
            return None
        if not said:
            say(f"{stage}: waiting for {holder(out)}, which writes {out}")
            said = True
        stopping.safe_point(stage)
        time.sleep(_LOOK_EVERY_S)


@contextlib.contextmanager
def alone(out: Path, stage: str, *, wait: bool = True) -> Iterator[bool]:
    """Hold the lock of an output; False: another process has it, and it is not to be waited for."""
    lock = acquire(out, stage, wait=wait)
    try:
        yield lock is not None
    finally:
        if lock is not None:
            lock.release()


def held(out: Path) -> bool:
    """Whether a process holds the lock of an output now; nothing is written to find out."""
    path = _file_of(out)
    if _soft_file(path).exists():
        return True
    if fcntl is None:
        return False
    try:
        with path.open("rb") as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as fault:
        return isinstance(fault, BlockingIOError)
    return False


def holder(out: Path) -> str:
    """Say who holds the lock of an output, as it wrote into the lock's file itself."""
    try:
        host, pid = _file_of(out).read_text("utf-8").split()
    except (OSError, ValueError):
        return "another process"
    return f"process {pid}" + ("" if host == platform.node() else f" on {host}")


def _file_of(out: Path) -> Path:
    return out.absolute().parent / f".{out.name}.lock"


def _soft_file(path: Path) -> Path:
    return path.with_name(f"{path.name}ed")


def _try(path: Path) -> Lock | None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if fcntl is None:
        return _try_soft(path)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as fault:
        os.close(descriptor)
        return _try_soft(path) if fault.errno in _NO_FLOCK else None
    if not _same(descriptor, path):  # its holder removed it while we opened it
        os.close(descriptor)
        return _try(path)
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"{platform.node()} {os.getpid()}".encode())
    return Lock(path, descriptor, pid=os.getpid())


def _same(descriptor: int, path: Path) -> bool:
    try:
        here, there = os.fstat(descriptor), path.stat()
    except FileNotFoundError:
        return False
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)


def _try_soft(path: Path) -> Lock | None:
    """Lock where the file system cannot: by a file that names its host and process."""
    import filelock

    soft = filelock.SoftFileLock(_soft_file(path))
    try:
        soft.acquire(timeout=0)
    except filelock.Timeout:
        return None
    return Lock(path, soft=soft, pid=os.getpid())
