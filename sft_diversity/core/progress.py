"""Talk to the person at the terminal, on stderr: live bars there, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from sft_diversity.core.errors import printable

_PLAIN_EVERY_S = 10.0

#: Its level is how much is said: INFO lines and bars, WARNING nothing but errors, DEBUG the keys of
#: outputs too, with the time.
LOG = logging.getLogger("sft_diversity")


#: Hears of this thread's bars the share that is done, for whoever shows it elsewhere.
HEARD: ContextVar[Callable[[str, float], None] | None] = ContextVar("heard", default=None)


class _Lines(logging.Handler):
    """Prints records on stderr, as it is at that moment."""

    def emit(self, record: logging.LogRecord) -> None:
        timed = LOG.isEnabledFor(logging.DEBUG)
        lead = time.strftime("%H:%M:%S ", time.localtime(record.created)) if timed else ""
        tell(lead + record.getMessage())


if not LOG.handlers:
    LOG.addHandler(_Lines())
    LOG.setLevel(logging.INFO)
    LOG.propagate = False


@contextmanager
def loudness(at: int) -> Iterator[None]:
    """Say what has this level of `logging` or a higher one meanwhile."""
    before = LOG.level
    LOG.setLevel(at)
    try:
        yield
    finally:
        LOG.setLevel(before)


@contextmanager
def quiet(silent: bool = True) -> Iterator[None]:
    """Say nothing meanwhile, where `silent`: what a person did not ask for at a terminal."""
    with loudness(max(LOG.level, logging.WARNING) if silent else LOG.level):
        yield


def say(line: str) -> None:
    """Print one line on stderr; stdout is for machines."""
    LOG.info("%s", line)


def tell(line: str) -> None:
    """Print one line, or a table of lines, on stderr, asked for or not; see `say`."""
    _print("".join(f"{printable(one)}\n" for one in line.split("\n")))


def _print(text: str) -> None:
    """Write to stderr; whoever closed it, or let it run full, does not want to hear."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(text)
            sys.stderr.flush()


class Progress:
    """Counts work done; `advance` is cheap enough for every batch."""

    def __init__(
        self, label: str, total: int, unit: str, done: int = 0, silent: bool = False
    ) -> None:
        self._silent = silent
        self._label, self._total, self._unit = label, total, unit
        self._done = self._before = done
        self._start = self._last = time.monotonic()
        self._live = sys.stderr is not None and sys.stderr.isatty()
        self.note = ""  # what else there is to say, at the end of the line

    def advance(self, amount: int = 1) -> None:
        """Count `amount` more units; prints at most a few lines a second on a terminal."""
        self._done += amount
        if (heard := HEARD.get()) is not None and self._total:
            heard(self._label, self._done / self._total)
        now = time.monotonic()
        if now - self._last >= (0.2 if self._live else _PLAIN_EVERY_S):
            self._last = now
            self._print(now, end="" if self._live else "\n")

    def close(self) -> None:
        """Print the final line, with the rate, if anything took long enough to be seen."""
        now = time.monotonic()
        if self._live or now - self._start >= _PLAIN_EVERY_S:
            self._print(now, end="\n")

    def _print(self, now: float, end: str) -> None:
        if self._silent or not LOG.isEnabledFor(logging.INFO):
            return
        seconds = max(now - self._start, 1e-9)
        rate = (self._done - self._before) / seconds
        share = self._done / self._total if self._total else 1.0
        left = (self._total - self._done) / rate if rate else 0.0
        line = (
            f"{self._label}: {self._done:,}/{self._total:,} {self._unit} ({share:.0%}), "
            f"{rate:{',.0f' if rate >= 10 else '.2g'}} {self._unit}/s, {clock(left)} left"
        )
        line += f"; {self.note}" if self.note else ""
        lead = "\r\x1b[2K" if self._live else ""
        _print(f"{lead}{printable(line)}{end}")


@contextmanager
def progress(
    label: str, total: int, unit: str = "rows", done: int = 0, silent: bool = False
) -> Iterator[Progress]:
    """Yield a `Progress` over `total` units, `done` of which an earlier run did, and close it."""
    bar = Progress(label, total, unit, done, silent)
    try:
        yield bar
    finally:
        bar.close()


def clock(seconds: float) -> str:
    """Return seconds as `42 s`, `3 min 20 s` or `2 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
