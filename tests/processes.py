"""Processes that tests start, stop and kill, without the price of a start.

An interpreter that loads torch, transformers and TRL takes seven seconds of a core to begin. Here
it is forked from one that has loaded them, once for all tests of a worker; what it runs is what
`python -c CODE ARGUMENTS` would.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: Code that runs the command line; its words are the arguments.
SFTDIV = "import sys; from sft_diversity.cli import main; sys.argv[0] = 'sftdiv'; main()"
context = multiprocessing.get_context("forkserver")


def load(*modules: str) -> None:
    """Say what is loaded before processes are forked; heeded until the first is started."""
    context.set_forkserver_preload(list(modules))


class Child:
    """A process that was started; what it says goes to files."""

    def __init__(
        self,
        code: str,
        *arguments: Any,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self._place = Path(tempfile.mkdtemp(prefix="sftdiv-child-"))
        self._said = {"out": "", "err": ""}
        for name in self._said:
            (self._place / name).touch()
        words = [str(word) for word in arguments]
        given = (code, words, str(cwd or Path.cwd()), dict(os.environ) | dict(env or {}))
        self._process = context.Process(target=_run, args=(*given, str(self._place)))
        self._process.start()
        self.pid = int(self._process.pid or 0)

    def poll(self) -> int | None:
        """Return the exit code, minus the signal that killed it; None while it runs."""
        code: int | None = self._process.exitcode
        return code

    def wait(self, timeout_s: float = 300.0) -> int:
        """Wait for its end and return the exit code."""
        self._process.join(timeout_s)
        code = self.poll()
        if code is None:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout_s)
        self._read()
        shutil.rmtree(self._place, ignore_errors=True)
        return code

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> int:
        """Kill it, wait for its end and return the exit code."""
        if self.poll() is None:
            self.send_signal(signal.SIGKILL)
        return self.wait()

    def until(self, moment: Any, timeout_s: float = 300.0) -> None:
        """Wait until `moment()` holds, or the process has ended."""
        end = time.monotonic() + timeout_s
        while self.poll() is None and not moment():
            assert time.monotonic() < end, f"it did not come in {timeout_s} s"
            time.sleep(0.002)

    @property
    def stdout(self) -> str:
        return self._read()["out"]

    @property
    def stderr(self) -> str:
        return self._read()["err"]

    def _read(self) -> dict[str, str]:
        if self._place.exists():
            self._said = {name: (self._place / name).read_text("utf-8") for name in self._said}
        return self._said


def _run(code: str, words: list[str], cwd: str, env: dict[str, str], said: str) -> None:
    """Become what `python -c` would be: folder, environment, streams, arguments."""
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    for number, name in ((1, "out"), (2, "err")):
        file = os.open(f"{said}/{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(file, number)
    sys.argv = ["-c", *words]
    exec(compile(code, "<child>", "exec"), {"__name__": "__main__"})
