"""Processes that end with the one that started them, so that no two are ever at one output."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def command(python: str, code: str, *arguments: str) -> list[str]:
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
