"""Checkpoints that are whole: a killed run may leave half a one, which is never taken."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from sft_diversity.core.folder import write_json

_MARKER = "complete.json"


def mark_complete(checkpoint: Path) -> None:
    """Sync a checkpoint's files and write, last, the marker that lists them with their sizes."""
    sizes = {}
    for path in sorted(path for path in checkpoint.rglob("*") if path.is_file()):
        with path.open("rb") as handle:
            os.fsync(handle.fileno())
        sizes[path.relative_to(checkpoint).as_posix()] = path.stat().st_size
    write_json(checkpoint / _MARKER, sizes, "finetune")


def last_complete(folder: Path) -> Path | None:
    """Return the newest whole checkpoint of `folder` and remove those that are not whole."""
    for path in folder.glob("checkpoint-*"):
        if not _is_complete(path):
            shutil.rmtree(path)
    return max(folder.glob("checkpoint-*"), key=step_of, default=None)


def peek(folder: Path) -> int | None:
    """Return the step of the newest whole checkpoint, touching nothing."""
    whole = (path for path in folder.glob("checkpoint-*") if _is_complete(path))
    return max(map(step_of, whole), default=None)


def history(checkpoint: Path | None) -> list[dict[str, Any]]:
    """Return what a run had logged when it wrote a checkpoint."""
    if checkpoint is None:
        return []
    state = json.loads((checkpoint / "trainer_state.json").read_text("utf-8"))
    logged: list[dict[str, Any]] = state["log_history"]
    return logged


def step_of(checkpoint: Path) -> int:
    """Return the optimizer step that a checkpoint was written after."""
    return int(checkpoint.name.rpartition("-")[2])


def _is_complete(checkpoint: Path) -> bool:
    try:
        sizes = json.loads((checkpoint / _MARKER).read_text("utf-8"))
        return all((checkpoint / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError):
        return False
