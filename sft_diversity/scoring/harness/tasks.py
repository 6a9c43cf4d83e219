"""Own task files: what identifies them, what they may not do, and which tasks are asked for."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sft_diversity.core import extras
from sft_diversity.core.errors import UsageError
from sft_diversity.core.hashing import content_key, file_sha256

_CODE = re.compile(r"^[^#\n]*!function\b", re.MULTILINE)


def require() -> None:
    """Refuse to go on without lm-evaluation-harness."""
    extras.require("lm_eval", "score: the suite harness")


def own_files_key(folder: Path | None, trust_code: bool) -> str:
    """Return what identifies the files of a folder of own tasks; "" without one.

    Raises
    ------
    UsageError
        If the folder is not there, holds no task file, or a file brings code without `trust_code`.
    """
    if folder is None:
        return ""
    if not folder.is_dir():
        raise UsageError(f"score: include_path {folder} is no folder; name that of own task files")
    files = sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and not any(p[0] in "._" for p in path.relative_to(folder).parts)
    )
    configs = [path for path in files if path.suffix in (".yaml", ".yml")]
    if not configs:
        raise UsageError(f"score: include_path {folder} holds no task file (*.yaml)")
    for path in configs:
        if not trust_code and _CODE.search(path.read_text("utf-8", "replace")):
            raise UsageError(
                f"score: {path} names Python code (!function); if you trust it, "
                "--trust-remote-code runs it"
            )
    return content_key([[path.relative_to(folder).as_posix(), file_sha256(path)] for path in files])


def manager(folder: Path | None, names: Sequence[str]) -> tuple[Any, list[str]]:
    """Return lm-eval's task manager and the tasks that `names` stand for.

    The thousands of tasks that lm-eval brings are read only where own ones do not do.

    Raises
    ------
    UsageError
        If a name stands for no task.
    """
    from lm_eval.tasks import TaskManager

    if folder is not None:
        own = TaskManager(include_path=str(folder.resolve()), include_defaults=False)
        if all(own.match_tasks([name]) for name in names):
            return own, _expanded(own, names)
    path = None if folder is None else str(folder.resolve())
    every = TaskManager(include_path=path)
    return every, _expanded(every, names)


def _expanded(tasks: Any, names: Sequence[str]) -> list[str]:
    found: list[str] = []
    for name in names:
        matched = tasks.match_tasks([name])
        if not matched:
            raise UsageError(
                f"score: lm-eval knows no task {name}; own ones come with --include-path"
            )
        found += matched
    return list(dict.fromkeys(found))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what lm-eval and `datasets` say about their work off the log; errors stay."""
    loggers = [logging.getLogger(name) for name in ("lm_eval", "datasets", "evaluate", "httpx")]
    levels = [one.level for one in loggers]
    for one in loggers:
        one.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for one, level in zip(loggers, levels, strict=True):
            one.setLevel(level)
