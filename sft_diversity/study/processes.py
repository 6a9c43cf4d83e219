"""Many runs, some at a time, each in a process that ends with this one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sft_diversity.core import stopping
from sft_diversity.core.errors import Interrupted
from sft_diversity.study import runs

_POLL_S = 0.1
# The first thing a process does, before imports that take seconds: ask the kernel to be killed with
# its parent (Linux; elsewhere the lock of a run must do), and end if that has happened already.
_BOOT = """\
import ctypes, os, signal, sys
PR_SET_PDEATHSIG = 1
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
if os.getppid() != int(sys.argv[3]):
    sys.exit(1)
from sft_diversity.study.worker import main
sys.exit(main(sys.argv[1], sys.argv[2]))
"""
_THREADS = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS",
    "POLARS_MAX_THREADS", "RAYON_NUM_THREADS",
)  # fmt: skip


@dataclass
class _Running:
    name: str
    process: subprocess.Popen[bytes]
    started: float


def run_all(
    place: Path,
    names: Sequence[str],
    jobs: int,
    threads: int,
    ended: Callable[[str, float, bool], None],
) -> None:
    """Do the runs in order, `jobs` at a time; `ended(name, seconds, well)` as each ends.

    Processes are started by the calling thread, since the kernel ties them to it.

    Raises
    ------
    Interrupted
        If a signal came: it was passed on, and every run has kept what it had.
    """
    waiting, running = list(reversed(names)), list[_Running]()
    try:
        while waiting or running:
            while waiting and len(running) < jobs and not stopping.requested():
                running.append(_start(place, waiting.pop(), threads))
            if stopping.requested():
                _stop(running, signal.SIGTERM)
                raise Interrupted("study: stopped by a signal; run the same command to resume")
            time.sleep(_POLL_S)
            for one in [one for one in running if one.process.poll() is not None]:
                running.remove(one)
                _explain(place, one)
                ended(one.name, time.monotonic() - one.started, one.process.returncode == 0)
    finally:
        _stop(running, signal.SIGKILL)


def _start(place: Path, name: str, threads: int) -> _Running:
    log = place / "logs" / f"{name.replace(':', '-')}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = os.environ | dict.fromkeys(_THREADS, str(threads))
    environment |= {"TOKENIZERS_PARALLELISM": "false", "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-c", _BOOT, str(place.absolute()), name, str(os.getpid())]
    with log.open("ab") as handle:
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=handle,
            stderr=handle,
        )
    return _Running(name, process, time.monotonic())


def _explain(place: Path, one: _Running) -> None:
    """Note why a process ended that could not say so itself."""
    code = one.process.returncode
    if code == 0 or runs.failure(place, one.name) is not None:
        return
    if code < 0:
        reason = f"killed by {signal.Signals(-code).name}"
        reason += " (out of memory?)" if code == -signal.SIGKILL else ""
    else:
        reason = f"ended with exit code {code}; see logs/{one.name.replace(':', '-')}.log"
    runs.note_failure(place, one.name, "process", reason)


def _stop(running: list[_Running], number: signal.Signals) -> None:
    """Signal the processes and wait until they have ended."""
    for one in running:
        if one.process.poll() is None:
            one.process.send_signal(number)
    for one in running:
        one.process.wait()
    running.clear()
