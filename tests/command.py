"""The command line in this process: as a user runs it, without the price of a start."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock


@dataclass(frozen=True)
class Done:
    """A command that ended."""

    returncode: int
    stdout: str
    stderr: str


def sftdiv(*words: Any, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> Done:
    """Run a command in the folder `cwd` with `env` added to the environment."""
    from sft_diversity.cli import main
    from sft_diversity.core import stopping

    out, err, code = io.StringIO(), io.StringIO(), 0
    with (
        contextlib.chdir(cwd or Path.cwd()),
        mock.patch.object(sys, "argv", ["sftdiv", *map(str, words)]),
        mock.patch.object(stopping, "install"),  # signals are pytest's
        mock.patch.dict(os.environ, env or {}),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
    return Done(code, out.getvalue(), err.getvalue())
