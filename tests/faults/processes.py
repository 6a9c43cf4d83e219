"""Commands in processes of their own, forked from this one: its imports are theirs, done once."""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

#: Exit code of a command that ended in a traceback; none that the command line itself has.
TRACEBACK = 70
#: Seconds after which a command counts as hanging.
LIMIT_S = 60.0
#: What every command sees, whatever the shell says.
PLAIN = {
    "COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb", "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "CUDA_VISIBLE_DEVICES": "",
}  # fmt: skip


@dataclass
class Ended:
    """How a command ended: exit code (minus the signal that killed it), what it said, its cost."""

    argv: Sequence[str]
    code: int
    out: str
    err: str
    seconds: float
    cpu_s: float
    peak_mb: float
    late: bool = False

    @property
    def errors(self) -> list[str]:
        """The lines by which it says what is wrong."""
        return [line for line in self.err.splitlines() if line.startswith(("error: ", "Error: "))]

    def __str__(self) -> str:
        how = "hangs" if self.late else f"exit code {self.code}"
        said = self.err if len(self.err) <= 3_000 else f"{self.err[:400]}\n…\n{self.err[-2_500:]}"
        return f"sftdiv {' '.join(self.argv)}: {how}\n{said}".rstrip()


@dataclass
class Running:
    """A command under way; the leader of a process group of its own."""

    argv: Sequence[str]
    pid: int
    said: Path
    started: float = field(default_factory=time.monotonic)
    ended: Ended | None = None

    def kill(self) -> None:
        """Kill it, and what it started."""
        if self.ended is None:
            os.kill(self.pid, signal.SIGKILL)  # it is not waited for yet, so the number is its own
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)

    def err(self) -> str:
        """What it has said so far."""
        return self.said.with_suffix(".err").read_text("utf-8", "backslashreplace")

    def alive(self) -> bool:
        """Whether it still runs."""
        if self.ended is None and os.waitid(os.P_PID, self.pid, _LOOK) is None:
            return True
        self.wait(0.0)
        return False

    def wait(self, limit_s: float = LIMIT_S) -> Ended:
        """Return how it ended; past the limit it is killed and counts as late."""
        if self.ended is not None:
            return self.ended
        handle = os.pidfd_open(self.pid)
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        late = not poll.poll(1_000 * limit_s) and limit_s > 0
        os.close(handle)
        if late:
            self.kill()
        _, status, used = os.wait4(self.pid, 0)
        seconds = time.monotonic() - self.started
        with contextlib.suppress(ProcessLookupError):  # what it left running
            os.killpg(self.pid, signal.SIGKILL)
        out, err = (
            self.said.with_suffix(suffix).read_text("utf-8", "backslashreplace")
            for suffix in (".out", ".err")
        )
        code = os.waitstatus_to_exitcode(status)
        cpu_s, peak_mb = used.ru_utime + used.ru_stime, used.ru_maxrss / 1024
        self.ended = Ended(self.argv, code, out, err, seconds, cpu_s, peak_mb, late)
        return self.ended


_LOOK = os.WEXITED | os.WNOHANG | os.WNOWAIT


def start(
    argv: Sequence[str],
    home: Path,
    said: Path,
    *,
    before: Callable[[], None] | None = None,
    environment: Mapping[str, str | None] | None = None,
) -> Running:
    """Begin `sftdiv ARGV` in the folder `home`.

    Parameters
    ----------
    said : Path
        Where its words go, outside of `home`: `SAID.out` and `SAID.err`.
    before : callable, optional
        Called in the new process, right before the command.
    environment : mapping, optional
        Variables over those of `PLAIN`; None takes one away.
    """
    for suffix in (".out", ".err"):
        said.with_suffix(suffix).touch()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if not pid:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # until the command listens
        code = TRACEBACK
        try:
            os.setsid()
            _prepare(home, said, environment or {})
            code = _command(argv, before)
        finally:
            os._exit(code)
    return Running(argv, pid, said)


def apart(function: Callable[[], Any]) -> None:
    """Call a function in a forked process: what it imports and starts is gone with it."""
    pid = os.fork()
    if not pid:
        code = 1
        try:
            os.environ.update(PLAIN)
            function()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    if os.waitpid(pid, 0)[1]:
        raise RuntimeError(f"{function} failed in a process of its own; see above")


def _prepare(home: Path, said: Path, environment: Mapping[str, str | None]) -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    for target, suffix in ((1, ".out"), (2, ".err")):
        path = said.with_suffix(suffix)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        os.dup2(handle, target)
        os.close(handle)
    os.close(nothing)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.chdir(home)
    os.environ.update(PLAIN)
    for name, value in environment.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value


def _command(argv: Sequence[str], before: Callable[[], None] | None) -> int:
    from sft_diversity.cli import main

    sys.argv = ["sftdiv", *argv]
    try:
        if before is not None:
            before()
        main()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
        code = TRACEBACK
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            code = code or TRACEBACK
    return code
