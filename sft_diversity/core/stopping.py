"""SIGTERM, SIGINT and SIGUSR1 stop the work at the next safe point, with exit code 75."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

from sft_diversity.core.errors import Interrupted

#: Windows has no SIGUSR1.
SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGUSR1") if hasattr(signal, name)
)
_received: list[str] = []
_at_once: list[str] = []  # stages that stop wherever they are
#: Seconds that compiled code, which sees no signal, has to come to an end where a stage is.
GRACE_S = 5.0


def install() -> None:
    """Let the signals set a flag that `safe_point` reads; a second SIGINT stops at once."""
    for number in SIGNALS:
        signal.signal(number, _remember)


def leave_to_parent() -> None:
    """Ignore the signals here: they reach all processes of a terminal or job, and one decides."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def requested() -> bool:
    """Whether a signal has asked to stop."""
    return bool(_received)


def received() -> str:
    """Return the name of the first signal that asked to stop; "" if none did."""
    return _received[0] if _received else ""


def safe_point(stage: str) -> None:
    """Raise `Interrupted` if a signal has come; call it where a stop loses nothing."""
    if _received:
        raise Interrupted(_told(stage, _received[0]))


@contextlib.contextmanager
def at_once(stage: str) -> Iterator[None]:
    """Let a signal stop what is done here wherever it is: all that it has is in memory.

    For computations without units, in which there is no safe point for minutes. Python's code ends
    where it is. Compiled loops and libraries see no signal: where one takes longer than `GRACE_S`,
    a thread ends the process, which is as safe as any kill: files are written whole or not at all.

    Raises
    ------
    Interrupted
        Out of whatever was done.

    Notes
    -----
    Without effect where signals are not `install`ed, and outside of the main thread.
    """
    handled = signal.getsignal(signal.SIGINT) is _remember
    if not handled or threading.current_thread() is not threading.main_thread():
        yield
        return
    safe_point(stage)
    _at_once.append(stage)
    try:
        with _watched(stage) if os.name == "posix" else contextlib.nullcontext():
            yield
    except BaseException:  # libraries make errors of their own of the interrupt
        if _received:
            raise Interrupted(_told(stage, _received[0])) from None
        raise
    finally:
        _at_once.remove(stage)


@contextlib.contextmanager
def _watched(stage: str) -> Iterator[None]:
    """End the process if a signal comes meanwhile and `GRACE_S` later this is not over."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    watch = threading.Thread(target=_watch, args=(reader, stage), daemon=True)
    watch.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(writer)  # which ends the thread
        watch.join()
        os.close(reader)


def _watch(reader: int, stage: str) -> None:
    """Wait for a signal, whose number the interpreter writes even while compiled code runs."""
    by, until = "", None
    while True:
        left = None if until is None else max(until - time.monotonic(), 0.0)
        if not select.select([reader], [], [], left)[0]:
            os.write(2, f"\nerror: {_told(stage, by)}\n".encode())
            os._exit(Interrupted.exit_code)
        numbers = os.read(reader, 64)
        if not numbers:  # the other end is closed: the stage is over
            return
        names = [signal.Signals(number).name for number in numbers if number in SIGNALS]
        if names and until is None:
            by, until = names[0], time.monotonic() + GRACE_S


def _told(stage: str, by: str) -> str:
    return f"{stage}: stopped by {by}; run the same command to resume"


def _remember(number: int, _frame: FrameType | None) -> None:
    if _received and number == signal.SIGINT:
        raise KeyboardInterrupt
    _received.append(signal.Signals(number).name)
    if _at_once:
        raise KeyboardInterrupt
    os.write(2, b"\nstopping at the next safe point (interrupt again to stop at once)\n")
