"""A run in a process of its own: `python -m sft_diversity.study.worker DIR NAME PARENT`."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import traceback
from pathlib import Path

from sft_diversity.core import stopping
from sft_diversity.core.errors import SftdivError
from sft_diversity.study import runs

_PR_SET_PDEATHSIG = 1


def die_with(parent: int) -> None:
    """Let the kernel kill this process when `parent` ends (Linux; elsewhere locks must do)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before this line
        sys.exit(1)


def main(arguments: list[str]) -> int:
    """Do the run; return the exit code."""
    place, name, parent = arguments
    die_with(int(parent))
    stopping.install()
    try:
        runs.one(Path(place), name)
    except SftdivError as fault:
        print(f"error: {fault}", file=sys.stderr)
        return fault.exit_code
    except Exception:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
