"""`report`: a study, a subset or two in, one HTML page and the data behind it out."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sft_diversity.core import corpus as corpora
from sft_diversity.core import drafts, folder, stopping
from sft_diversity.core.config import part_of
from sft_diversity.core.errors import UsageError
from sft_diversity.core.hashing import content_key, file_key
from sft_diversity.core.lineage import Found
from sft_diversity.core.stage import Ask, Job, Result, Stage
from sft_diversity.reporting import pages
from sft_diversity.reporting.config import ReportConfig
from sft_diversity.reporting.figures import FigureFormat, write_figures
from sft_diversity.reporting.page import page_html, page_look
from sft_diversity.reporting.study import is_study

VERSION = 5
PAGE, DATA = "report.html", "report.json"
_READ = ("results.csv", "metrics.csv", "fit.json", "failures.jsonl", "manifest.json", "race.json")


class Report(ReportConfig):
    """What a page is made of, and what it shows.

    Attributes
    ----------
    sources : sequence of Path
        A study, a subset or a corpus, or two subsets; see `checked`.
    found : Found
        What they were made from, as far as it is at hand; the page shows what that allows.
    measures : Path, optional
        Output of `measure` for the sources, in their order.
    """

    sources: tuple[Path, ...]
    found: Found = Found()
    measures: Path | None = None


def needs(config: Report, ask: Ask) -> None:
    """Read the sources, what they were made from, their measures, and how pages look."""
    for number, source in enumerate(config.sources):
        ask.key(str(number), _key(source))
    for name, key in config.found.keys().items():
        ask.key(name, key)
    ask.key("look", page_look())
    if config.measures is not None:
        measured = folder.stage_of(config.measures) is not None
        ask.key("measures", content_key(_measures(config)) if measured else None)


@stopping.at_once("report")
def join(job: Job[Report]) -> Result:
    """Write `report.html` and, first, the data behind it, `report.json`."""
    if not job.draft.has(DATA):
        job.draft.write_json(DATA, _gathered(job.config))
    page = folder.read_json(job.draft.path / DATA)
    text = page_html(page)
    with job.writing(PAGE) as path:
        path.write_text(text, "utf-8", newline="\n")
    figures = {"kind": page["kind"], "title": page["title"], "bytes": len(text.encode())}
    return Result(figures=figures, seeds={"seed": job.config.seed})


def _cost(config: Report, ask: Ask) -> dict[str, Any]:
    """Return an estimate; most of the time goes into the map's t-SNE."""
    return {"rows": None, "seconds": 30.0, "bytes": 2_000_000}


REPORT = Stage(
    "report", VERSION, Report, needs=needs, join=join, cost=_cost,
    options=lambda config: part_of(ReportConfig, config).model_dump(mode="json"),
)  # fmt: skip


def check_out(out: Path, one_file: bool, figures: Path | None = None) -> None:
    """Refuse a place that the page, its folder, or its figures cannot be written to."""
    page_there = one_file and out.is_file()
    drafts.check_out(out.with_name(f".{out.name}.writing") if page_there else out, "report")
    if one_file and out.is_dir():
        raise UsageError(f"report: {out} is a folder; name a page that ends in .html")
    if figures is not None:
        drafts.check_out(figures / ".writing", "report")


def put(made: Path, target: Path) -> None:
    """Copy the page of a finished report to `target`, whole or not at all."""
    with folder.replacing(target, "report") as scratch:
        shutil.copyfile(made / PAGE, scratch)


def put_figures(made: Path, place: Path, which: FigureFormat) -> list[str]:
    """Write the plots of a finished report to files in `place`, for papers; return their names."""
    return write_figures(folder.read_json(made / DATA), place, which)


def _gathered(config: Report) -> dict[str, Any]:
    sources, found = config.sources, config.found
    if is_study(sources[0]):
        return pages.of_study(sources[0], found, config)
    if len(sources) == 2:
        return pages.of_two(*sources, found, _measures(config), config)
    return pages.of_one(sources[0], found, _measures(config), config)


def _measures(config: Report) -> dict[str, Any] | None:
    """Return the figures of `measure`."""
    if config.measures is None:
        return None
    figures: dict[str, Any] = folder.read_manifest(config.measures, "measure")["result"]
    return figures


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
        folder.refuse_damaged(source)
        subset = folder.stage_of(source) == "select" or corpora.is_corpus(source)
        if not subset and not (len(sources) == 1 and is_study(source)):
            wanted = "a subset" if len(sources) == 2 else "a study, a subset or a corpus"
            raise UsageError(
                f"report: {source} is not {wanted}; a study has results.csv, a subset is made by "
                "`sftdiv select`"
            )
    return list(sources)


def _key(source: Path) -> str:
    """Return a hash of all that a page reads of a source, its name included."""
    name = source.resolve().name
    if not is_study(source):
        manifest = folder.read_manifest(source)
        return content_key([name, manifest["digest"]])
    files = {file: file_key(source / file) for file in _READ if (source / file).is_file()}
    if "manifest.json" in files:
        files["manifest.json"] = str(folder.read_manifest(source).get("digest"))
    logs = sorted(source.glob("models/*/training.jsonl"))
    subsets = sorted(source.glob("subsets/*/manifest.json"))
    read = {path.parent.name: file_key(path) for path in logs}
    for path in sorted(source.glob("generated/*/answers/*.jsonl")):
        read[f"{path.parent.parent.name} {path.name}"] = file_key(path)
    read |= {path.name: file_key(path) for path in sorted(source.glob("logs/*.seconds.json"))}
    chosen = {path.parent.name: folder.read_manifest(path.parent)["digest"] for path in subsets}
    return content_key([name, files, read, chosen])
