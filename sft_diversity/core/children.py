"""Processes that end with the one that started them, so that no two are ever at one output.

Three kinds, each where it serves: interpreters with a task of their own (`tied_command`: batch
tasks, the host of a study's runs, a launcher), a pool for the units of one task (`pool`: an encoder
a GPU, dialogues by the thousand), and processes that a launcher starts for us (`end_with_starter`:
training). All start afresh, for fork copies locks and CUDA; a study's host alone forks,
single-threaded, to share what it has loaded. Ingestion's workers get their share on stdin, by which
they also learn of the end.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import signal
import sys
import types
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    Executor,
    Future,
    ProcessPoolExecutor,
    wait,
)
from typing import Any, TypeVar

from sft_diversity.core import stopping
from sft_diversity.core.errors import DataError

T = TypeVar("T")
R = TypeVar("R")
_PR_SET_PDEATHSIG = 1
_LOOK_EVERY_S = 0.5


def tied_command(python: str, code: str, *arguments: str) -> list[str]:
    """Return the command line of an interpreter that runs `code` and ends with this process.

    Start it from the main thread: the kernel ties it to the thread that starts it.
    """
    boot = f"from sft_diversity.core.children import end_with\nend_with({os.getpid()})\n"
    return [python, "-P", "-c", boot + code, *arguments]


def end_with(parent: int) -> None:
    """Be killed when the process `parent` ends; exit with 1 if it has ended already.

    Only Linux can promise the first; elsewhere a child must notice by other means.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)


def end_with_starter() -> None:
    """Be killed when the process ends that started this one, whatever it is."""
    end_with(os.getppid())


def how_it_ended(code: int) -> str:
    """Say how a process ended that did not say so itself, from its exit code."""
    if code >= 0:
        return f"exit code {code}"
    hint = " (out of memory?)" if code == -signal.SIGKILL else ""
    return f"killed by {signal.Signals(-code).name}{hint}"


@contextlib.contextmanager
def pool(count: int, begin: Callable[..., None], *arguments: Any) -> Iterator[ProcessPoolExecutor]:
    """Yield a pool of processes, each prepared by `begin(*arguments)`; all must be picklable.

    They leave signals to this process, which decides when to stop. They do not load the script that
    runs here, as such processes usually do: it needs no `if __name__ == "__main__"`.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        count, context, initializer=_begin, initargs=(os.getpid(), begin, arguments)
    ) as executor:
        with _without_script():
            for _ in range(count):
                executor.submit(os.getpid)  # starts one
        yield executor


@contextlib.contextmanager
def _without_script() -> Iterator[None]:
    script = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script


def _begin(parent: int, begin: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    end_with(parent)
    stopping.leave_to_parent()
    begin(*arguments)


def drain(
    stage: str,
    executor: Executor,
    work: Callable[[T], R],
    units: Iterable[T],
    ahead: int,
    advance: Callable[[R], None],
) -> None:
    """Have the units done by threads or processes, `ahead` of them submitted at a time.

    Parameters
    ----------
    advance : callable
        Called with what `work` returned for a unit, here.

    Raises
    ------
    SftdivError
        The first that a worker raised; nothing further is begun. Interrupted, if a signal came;
        DataError, if a process ended before its work.
    """
    running: set[Future[R]] = set()
    source = iter(units)
    more = True
    try:
        with told_when_ended(stage):
            while more or running:
                while more and len(running) < ahead:
                    unit = next(source, None)
                    if unit is None:
                        more = False
                    else:
                        running.add(executor.submit(work, unit))
                done, running = wait(running, _LOOK_EVERY_S, return_when=FIRST_COMPLETED)
                for future in done:
                    advance(future.result())
                stopping.safe_point(stage)
    finally:
        for future in running:
            future.cancel()


def in_order(
    stage: str, executor: Executor, work: Callable[[T], R], units: Iterable[T], ahead: int
) -> Iterator[R]:
    """Yield what `work` returns for each unit, in their order; else as `drain`."""
    running: deque[Future[R]] = deque()
    try:
        with told_when_ended(stage):
            for unit in units:
                running.append(executor.submit(work, unit))
                if len(running) > ahead:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
    finally:
        for future in running:
            future.cancel()


@contextlib.contextmanager
def told_when_ended(stage: str) -> Iterator[None]:
    """Say it in one line where a process of a pool ended before its work."""
    try:
        yield
    except BrokenExecutor:
        raise DataError(
            f"{stage}: a worker process ended before its work (killed, or out of memory?); run the "
            "same command to resume"
        ) from None
