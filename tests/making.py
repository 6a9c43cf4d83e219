"""Outputs of stages, made by the store as the verbs make them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sft_diversity.core import folder
from sft_diversity.core.stage import Stage, Tool
from sft_diversity.core.store import Store
from sft_diversity.stages import TOOLS, StageTable


def quiet(line: str) -> None:
    """Say nothing."""


def store(
    work: Path,
    dry: bool = False,
    say: Callable[[str], None] = quiet,
    stages: Mapping[str, Stage[Any]] | None = None,
    tools: Mapping[str, Callable[[Any, bool], Tool]] | None = None,
) -> Store:
    """Return a store; `stages` and `tools` stand in the place of those of their names."""
    table = {name: StageTable()[name] for name in StageTable()} | dict(stages or {})
    return Store(work, table, {**TOOLS, **(tools or {})}, dry, say)


def make(
    stage: str,
    options: Any,
    out: Path,
    corpus: Path | None = None,
    *,
    subject: str | Path = "",
    work: Path | None = None,
    say: Callable[[str], None] = quiet,
    stages: Mapping[str, Stage[Any]] | None = None,
    tools: Mapping[str, Callable[[Any, bool], Tool]] | None = None,
) -> dict[str, Any]:
    """Make an output to `out`; return its manifest. The work folder lies beside it by default."""
    kept = store(work or out.parent / "work", False, say, stages, tools)
    return folder.read_manifest(kept.get(stage, options, corpus, subject=subject, out=out).path)


def plan(
    stage: str,
    options: Any,
    out: Path,
    corpus: Path | None = None,
    *,
    subject: str | Path = "",
    work: Path | None = None,
) -> dict[str, Any]:
    """Return the last step of a dry run, the stage's own."""
    kept = store(work or out.parent / "work", True)
    kept.get(stage, options, corpus, subject=subject, out=out)
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


def contents(out: Path) -> dict[str, bytes]:
    """Return the files of a finished output, its manifest without `run`."""
    found = {}
    for path in sorted(out.rglob("*")):
        if path.is_file():
            found[path.relative_to(out).as_posix()] = path.read_bytes()
    manifest = json.loads(found[folder.MANIFEST])
    del manifest["run"]
    return found | {folder.MANIFEST: json.dumps(manifest).encode()}


def outputs(work: Path) -> dict[str, dict[str, bytes]]:
    """Return the contents of the finished outputs in a work folder, by `stage/key`."""
    places = [path.parent for path in sorted(work.glob(f"*/[!.]*/{folder.MANIFEST}"))]
    return {place.relative_to(work).as_posix(): contents(place) for place in places}


def left_behind(work: Path) -> list[str]:
    """Return what of drafts, locks and scratch files is still in a work folder."""
    return sorted(path.relative_to(work).as_posix() for path in work.rglob(".*"))


def score(
    model: str | Path,
    out: Path,
    config: Any,
    work: Path | None = None,
    say: Callable[[str], None] = quiet,
) -> dict[str, Any]:
    """Score a model by the suite of a config; return the manifest."""
    return make(f"score {config.suite}", config, out, subject=model, work=work, say=say)


def planned_score(model: str | Path, config: Any) -> dict[str, Any]:
    """Return what scoring would do."""
    return plan(f"score {config.suite}", config, Path("nowhere"), subject=model)


def report(
    sources: list[Path],
    out: Path,
    config: Any,
    work: Path | None = None,
    say: Callable[[str], None] = quiet,
) -> dict[str, Any]:
    """Report folders with what is found in `work`, without it with nothing; return the manifest."""
    from sft_diversity.core.lineage import Found
    from sft_diversity.reporting.reading import locate
    from sft_diversity.reporting.stage import Report

    found = Found() if work is None else locate(sources, work)
    wanted = Report(**config.model_dump(), sources=tuple(sources), found=found)
    return make("report", wanted, out, say=say)


def export(
    source: Path, out: str | Path, config: Any, say: Callable[[str], None] = quiet
) -> dict[str, Any]:
    """Export to a folder; return the manifest."""
    from sft_diversity.exporting.stage import check, check_licences

    check([source], str(out), config)
    check_licences([source], config, None, say)
    return make("export", config, Path(out), subject=source, say=say)
