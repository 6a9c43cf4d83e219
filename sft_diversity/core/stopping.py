"""SIGTERM, SIGINT and SIGUSR1 stop the work at the next safe point, with exit code 75."""

from __future__ import annotations

import os
import signal
from types import FrameType

from sft_diversity.core.errors import Interrupted

#: Windows has no SIGUSR1.
SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGUSR1") if hasattr(signal, name)
)
_received: list[str] = []


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
        raise Interrupted(f"{stage}: stopped by {_received[0]}; run the same command to resume")


def _remember(number: int, _frame: FrameType | None) -> None:
    if _received and number == signal.SIGINT:
        raise KeyboardInterrupt
    _received.append(signal.Signals(number).name)
    os.write(2, b"\nstopping at the next safe point (interrupt again to stop at once)\n")
