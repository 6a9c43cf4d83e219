"""Many runs, some at a time, each in a process of its own that ends with this one.

The processes are forked from a host that has loaded torch, transformers and TRL once: that takes
about ten seconds of a core, and a run may take less.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sft_diversity.core import children, machine, stopping
from sft_diversity.core.errors import DataError, Interrupted
from sft_diversity.studies import runs
from sft_diversity.training.memory import SHARED

_POLL_S = 0.2
_HOST = "import sys; from sft_diversity.studies.host import main; main(sys.argv[1])"


def run_all(
    place: Path,
    names: Sequence[str],
    jobs: int,
    threads: int,
    ended: Callable[[str, float, bool], None],
    cards: Sequence[str] = (),
) -> None:
    """Do the runs in order, `jobs` at a time; `ended(name, seconds, well)` as each ends.

    A run sees one of the GPUs `cards`, that which fewest others are on. Call it from the main
    thread: the kernel ties the host to the thread that starts it.

    Raises
    ------
    Interrupted
        If a signal came: it was passed on, and every run has kept what it had.
    DataError
        If the host was killed, and its runs with it.
    """
    waiting, running = list(reversed(names)), dict[str, float]()
    on: dict[str, str] = {}
    host = _Host(place, threads, -(-jobs // max(len(cards), 1)))
    try:
        while waiting or running:
            while waiting and len(running) < jobs and not stopping.requested():
                name = waiting.pop()
                running[name] = time.monotonic()
                used = [on.get(one) for one in running]
                on |= {name: min(cards, key=used.count)} if cards else {}
                host.tell(start=name, card=on.get(name))
            if stopping.requested():
                host.tell(signal=int(signal.SIGTERM))
                while running:
                    for name, _ in host.ended(_POLL_S):
                        del running[name]
                raise Interrupted("study: stopped by a signal; run the same command to resume")
            for name, code in host.ended(_POLL_S):
                _explain(place, name, code)
                ended(name, time.monotonic() - running.pop(name), code == 0)
    finally:
        host.close()


class _Host:
    """The process that runs are forked from, and the talk with it: a JSON object a line."""

    def __init__(self, place: Path, threads: int, together: int) -> None:
        environment = os.environ | dict.fromkeys(machine.THREADS, str(threads))
        environment |= {SHARED: str(together)}
        environment |= {"TOKENIZERS_PARALLELISM": "false", "PYTHONUNBUFFERED": "1"}
        (place / "logs").mkdir(parents=True, exist_ok=True)
        with (place / "logs" / "host.log").open("ab") as log:
            self._process = subprocess.Popen(
                children.tied_command(sys.executable, _HOST, str(place.absolute())),
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                bufsize=0,
            )
        self._heard = b""

    def tell(self, **order: Any) -> None:
        """Give an order: start a run, or signal all."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
        except BrokenPipeError:
            raise self._gone() from None

    def ended(self, wait_s: float) -> list[tuple[str, int]]:
        """Return the runs that have ended, with their exit codes, after `wait_s` at most."""
        output = self._process.stdout
        assert output is not None
        if not select.select([output], [], [], wait_s)[0]:
            return []
        heard = os.read(output.fileno(), 1 << 16)
        if not heard:
            raise self._gone()
        *lines, self._heard = (self._heard + heard).split(b"\n")
        return [(one["ended"], one["code"]) for one in map(json.loads, lines)]

    def close(self) -> None:
        """End the host and what is left of its runs."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def _gone(self) -> DataError:
        return DataError(
            "study: the process that runs are forked from is gone (killed, or out of memory? see "
            "logs/host.log); run the same command to resume, with fewer --jobs if memory is short"
        )


def _explain(place: Path, name: str, code: int) -> None:
    """Note why a process ended that could not say so itself."""
    if code == 0 or runs.failure(place, name) is not None:
        return
    reason = children.how_it_ended(code)
    if code > 0:
        reason = f"ended with {reason}; see logs/{runs.file_name(name)}.log"
    runs.note_failure(place, name, "process", reason)
