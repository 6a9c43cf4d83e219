"""Outputs of stages, made by the store as the verbs make them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sft_diversity.core import folder
from sft_diversity.core.stage import Stage
from sft_diversity.core.store import Store
from sft_diversity.stages import TOOLS, Table


def quiet(line: str) -> None:
    """Say nothing."""


def store(
    work: Path,
    dry: bool = False,
    say: Callable[[str], None] = quiet,
    stages: Mapping[str, Stage[Any]] | None = None,
) -> Store:
    """Return a store; `stages` stand in the place of those of their names."""
    table = {name: Table()[name] for name in Table()} | dict(stages or {})
    return Store(work, table, TOOLS, dry, say)


def make(
    stage: str,
    options: Any,
    out: Path,
    corpus: Path | None = None,
    *,
    work: Path | None = None,
    say: Callable[[str], None] = quiet,
    stages: Mapping[str, Stage[Any]] | None = None,
) -> dict[str, Any]:
    """Make an output to `out`; return its manifest. The work folder lies beside it by default."""
    kept = store(work or out.parent / "work", False, say, stages)
    return folder.read_manifest(kept.get(stage, options, corpus, out=out).path)


def plan(
    stage: str, options: Any, out: Path, corpus: Path | None = None, *, work: Path | None = None
) -> dict[str, Any]:
    """Return the last step of a dry run, the stage's own."""
    kept = store(work or out.parent / "work", True)
    kept.get(stage, options, corpus, out=out)
    return kept.plan[-1]


def ingest(
    sources: list[Path],
    out: Path,
    config: Any,
    say: Callable[[str], None] = quiet,
    format: Any = "auto",
) -> dict[str, Any]:
    """Ingest to `out`; return the manifest."""
    from sft_diversity.ingestion.stage import check_out, resolve

    asked = resolve(sources, config, format)
    check_out(out, asked)
    return make("ingest", asked, out, say=say)
