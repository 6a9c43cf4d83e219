"""A run in a process of its own, as `processes` starts it."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path

from sft_diversity.core import stopping
from sft_diversity.core.errors import SftdivError
from sft_diversity.study import runs


def main(place: str, name: str) -> int:
    """Do the run `name` of the study in `place`; return the exit code."""
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
