"""Report: a study, a subset or two in, one HTML page and the data behind it out."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sft_diversity.core import corpus as corpora
from sft_diversity.core import folder, progress
from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.core.hashing import content_key, file_sha256
from sft_diversity.reporting import pages
from sft_diversity.reporting.config import ReportConfig
from sft_diversity.reporting.figures import FigureFormat, write_figures
from sft_diversity.reporting.locate import Found
from sft_diversity.reporting.page import page_html, page_look
from sft_diversity.reporting.study import is_study

VERSION = 3
STAGE = "report"
PAGE, DATA = "report.html", "report.json"
_READ = ("results.csv", "metrics.csv", "fit.json", "failures.jsonl", "manifest.json")
_SECONDS = 30.0  # t-SNE of the map, most of it

__all__ = [
    "DATA", "PAGE", "STAGE", "VERSION", "FigureFormat", "Found", "ReportConfig", "plan", "put",
    "put_figures", "report",
]  # fmt: skip


def plan(sources: Sequence[Path], out: Path, found: Found, config: ReportConfig) -> dict[str, Any]:
    """Say what `report` would do, its measures apart; touches nothing."""
    done = folder.read_manifest(out) if folder.stage_of(out) == STAGE else {}
    cached = done.get("key") == _work(sources, found, None, config).key
    return {
        "stage": STAGE,
        "rows": None,
        "cached": cached,
        "seconds": 0.0 if cached else _SECONDS,
        "bytes": 2_000_000,
    }


def check_out(out: Path, one_file: bool, figures: Path | None = None) -> None:
    """Refuse a place that the page, its folder, or its figures cannot be written to."""
    page_there = one_file and out.is_file()
    folder.check_out(out.with_name(f".{out.name}.writing") if page_there else out, STAGE)
    if one_file and out.is_dir():
        raise UsageError(f"report: {out} is a folder; name a page that ends in .html")
    if figures is not None:
        folder.check_out(figures / ".writing", STAGE)


def place(
    sources: Sequence[Path], found: Found, measures: dict[str, Any] | None,
    config: ReportConfig, root: Path,
) -> Path:  # fmt: skip
    """Return the folder of a report within the work folder, named by all it depends on."""
    return root / STAGE / _work(sources, found, measures, config).key[:16]


def report(
    sources: Sequence[Path],
    out: Path,
    found: Found,
    measures: dict[str, Any] | None,
    config: ReportConfig,
    say: Callable[[str], None] = progress.say,
) -> dict[str, Any]:
    """Write `report.html` and the data behind it, `report.json`, to `out`; return the manifest.

    Parameters
    ----------
    sources : sequence of Path
        A study, a subset or a corpus, or two subsets; see `checked`.
    found : Found
        What they were made from, as far as it is at hand; the page shows what that allows.
    measures : dict, optional
        The figures of `measure` for the sources, in their order.
    """
    draft = folder.open_draft(out, _work(sources, found, measures, config))
    say(f"report: {draft.reason}")
    if draft.reused:
        return folder.read_manifest(out, STAGE)
    if not draft.has(DATA):
        draft.write_json(DATA, _gathered(sources, found, measures, config))
    page = json.loads((draft.path / DATA).read_text("utf-8"))
    text = page_html(page)
    with draft.writing(PAGE) as path:
        path.write_text(text, "utf-8", newline="\n")
    result = {"kind": page["kind"], "title": page["title"], "bytes": len(text.encode())}
    return draft.commit(result=result, seeds={"seed": config.seed})


def put(made: Path, target: Path) -> None:
    """Copy the page of a finished report to `target`, whole or not at all."""
    scratch = target.with_name(f".{target.name}.writing")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with scratch.open("wb") as file:
            file.write((made / PAGE).read_bytes())
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(target)
    except OSError as fault:
        raise DataError(
            f"report: cannot write {target}: {fault.strerror or fault}; name another --out"
        ) from None
    finally:
        scratch.unlink(missing_ok=True)


def put_figures(made: Path, place: Path, which: FigureFormat) -> list[str]:
    """Write the plots of a finished report to files in `place`, for papers; return their names."""
    page = json.loads((made / DATA).read_text("utf-8"))
    try:
        return write_figures(page, place, which)
    except OSError as fault:
        raise DataError(
            f"report: cannot write {place}: {fault.strerror or fault}; name another --figures"
        ) from None


def _gathered(
    sources: Sequence[Path], found: Found, measures: dict[str, Any] | None, config: ReportConfig
) -> dict[str, Any]:
    if len(sources) == 2:
        return pages.of_two(sources[0], sources[1], found, measures, config)
    if is_study(sources[0]):
        return pages.of_study(sources[0], found, config)
    return pages.of_one(sources[0], found, measures, config)


def checked(sources: Sequence[Path]) -> list[Path]:
    """Return `sources` if a page can be made of them.

    Raises
    ------
    UsageError
        If one is no study, subset or corpus, there are more than two, or two and one is a study.
    """
    if not 1 <= len(sources) <= 2:
        raise UsageError(f"report: {len(sources)} folders; name a study, a subset, or two subsets")
    for source in sources:
        subset = folder.stage_of(source) == "select" or corpora.is_corpus(source)
        if not subset and not (len(sources) == 1 and is_study(source)):
            wanted = "a subset" if len(sources) == 2 else "a study, a subset or a corpus"
            raise UsageError(
                f"report: {source} is not {wanted}; a study has results.csv, a subset is made by "
                "`sftdiv select`"
            )
    return list(sources)


def _work(
    sources: Sequence[Path], found: Found, measures: dict[str, Any] | None, config: ReportConfig
) -> folder.Work:
    inputs = {f"{number}": _key(source) for number, source in enumerate(sources)}
    inputs |= {**found.keys(), "look": page_look()}
    if measures is not None:
        inputs["measures"] = content_key(measures)
    return folder.Work(STAGE, VERSION, inputs, config.model_dump(mode="json"))


def _key(source: Path) -> str:
    """Return a hash of all that a page reads of a source, its name included."""
    name = source.resolve().name
    if not is_study(source):
        manifest = folder.read_manifest(source)
        return content_key([name, manifest["digest"]])
    files = {file: file_sha256(source / file) for file in _READ if (source / file).is_file()}
    if "manifest.json" in files:
        files["manifest.json"] = str(folder.read_manifest(source).get("digest"))
    logs = sorted(source.glob("models/*/training.jsonl"))
    subsets = sorted(source.glob("subsets/*/manifest.json"))
    read = {path.parent.name: file_sha256(path) for path in logs}
    chosen = {path.parent.name: folder.read_manifest(path.parent)["digest"] for path in subsets}
    return content_key([name, files, read, chosen])
