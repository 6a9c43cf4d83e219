"""The verbs: what the command line calls and Python users import.

Each verb checks its options against its stage's config, makes what is missing on the way in the
work folder, where folders are named by the content they were made from, and returns the figures
that `--json` prints. With `dry_run=True` it returns `{"plan": [...]}` and touches nothing.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field

from sft_diversity import checkup, picking
from sft_diversity.cleaning import stage as cleaning
from sft_diversity.cleaning.config import CleanConfig
from sft_diversity.core import config as configs
from sft_diversity.core import corpus as corpora
from sft_diversity.core import folder, resources
from sft_diversity.core import parts as splitting
from sft_diversity.core.config import Config
from sft_diversity.core.errors import UsageError
from sft_diversity.core.parts import Part
from sft_diversity.core.progress import progress, say
from sft_diversity.describe import Describer, MeasureOptions
from sft_diversity.embedding import part as embed_part
from sft_diversity.embedding.stage import EmbedConfig
from sft_diversity.exporting import stage as exporting
from sft_diversity.fitting import stage as fitting
from sft_diversity.ingestion import stage as ingesting
from sft_diversity.ingestion.config import Format, IngestConfig
from sft_diversity.metrics import stage as measuring
from sft_diversity.metrics.table import MeasureConfig
from sft_diversity.reporting import stage as reporting
from sft_diversity.reporting.locate import locate
from sft_diversity.rewriting import stage as rewriting
from sft_diversity.scoring import suites
from sft_diversity.selection import grid as grids
from sft_diversity.selection import stage as selecting
from sft_diversity.selection.explain import diff_subsets, explain_sample
from sft_diversity.training import curves
from sft_diversity.training import stage as finetuning
from sft_diversity.training.config import FinetuneConfig
from sft_diversity.work import ENCODER, IndexOptions, Work, encoding_recipe, made_from

WORK = Path(".sftdiv")
Result = dict[str, Any]
C = TypeVar("C", bound=Config)


class IngestOptions(IngestConfig):
    """Options of `ingest`."""

    format: Format = Field(default="auto", description="format of the SOURCEs; auto recognises it")


class CleanOptions(CleanConfig):
    """Options of `clean`; those of the embeddings that `cosine` reads are for YAML files."""

    encoder: str | None = Field(default=None, description=ENCODER)
    embed: dict[str, Any] = Field(default={}, description="further options of `embed`")
    ingest: dict[str, Any] = Field(default={}, description="options of `ingest`, for raw sources")


class ReportOptions(reporting.ReportConfig):
    """Options of `report`."""

    measure: bool = Field(
        default=True, description="measure the subsets, where their work folder is at hand"
    )
    figures: Path | None = Field(
        default=None, description="folder for the page's plots as files, for papers"
    )
    figure_format: reporting.FigureFormat = Field(
        default="all", description="of these files: svg, pdf, png, or all three"
    )


def ingest(
    *sources: str | Path,
    out: str | Path,
    config: str | Path | None = None,
    dry_run: bool = False,
    **options: Any,
) -> Result:
    """Make a corpus folder of raw files; options are those of `IngestOptions`."""
    asked = _options(IngestOptions, config, options)
    plain = configs.part_of(IngestConfig, asked)
    if dry_run:
        return {"plan": [_step(ingesting.plan(sources, Path(out), plain, asked.format))]}
    return folder.figures(ingesting.ingest(sources, Path(out), plain, say, asked.format), out)


def embed(
    corpus: str | Path,
    *,
    out: str | Path | None = None,
    part: str | Part | None = None,
    work: str | Path = WORK,
    config: str | Path | None = None,
    dry_run: bool = False,
    **options: Any,
) -> Result:
    """Embed both components of a corpus; options are those of `EmbedConfig`.

    With `part`, "I/N", only the I-th of N parts, into the work folder's cache of vectors: parts run
    at once, anywhere; the call without `part` then finds every vector. See `part_folder`.
    """
    asked = _options(EmbedConfig, config, options)
    kept = Work(Path(work), dry_run)
    if part is None:
        place = kept.embeddings(Path(corpus), asked, out)
    else:
        place = kept.embeddings_part(Path(corpus), asked, _part(part, "embed", out))
    return {"plan": kept.plan} if dry_run else folder.figures(folder.read_manifest(place), place)


def index(
    corpus: str | Path,
    *,
    out: str | Path | None = None,
    part: str | Part | None = None,
    work: str | Path = WORK,
    config: str | Path | None = None,
    dry_run: bool = False,
    **options: Any,
) -> Result:
    """Make the incidence of a strategy; options are those of `IndexOptions`.

    With `part`, "I/N", only the I-th of N parts of its costly pass (tokens for micro, words for
    meso, embeddings for macro); the call without `part` then goes on from there. See `part_folder`.
    """
    asked = _options(IndexOptions, config, options)
    kept = Work(Path(work), dry_run)
    if part is None:
        place = kept.index(Path(corpus), asked, out)
    else:
        place = kept.index_part(Path(corpus), asked, _part(part, "index", out))
    return {"plan": kept.plan} if dry_run else folder.figures(folder.read_manifest(place), place)


def select(
    *source: str | Path,
    out: str | Path | None = None,
    work: str | Path = WORK,
    config: str | Path | None = None,
    dry_run: bool = False,
    **options: Any,
) -> Result:
    """Select a subset of a corpus or of raw files; options are those of `picking.SelectOptions`.

    With `grid` (text, or a mapping of axes to values; see `select.grid.parse`) every combination
    becomes a subset in its own folder of `out`, and the result has their overlaps.
    """
    started = time.perf_counter()
    cells, asked = picking.asked_for(config, options)
    if out is None:
        raise UsageError("select: name the folder to write (--out)")
    kept, every = Work(Path(work), dry_run), list(asked.values())
    places = {name: Path(out) / name for name in asked}
    for place in places.values():
        folder.check_out(place, selecting.STAGE, source)
    picking.check(kept, every)
    corpus = kept.corpus(source, every[0].ingest, least=max(one.size for one in every))
    if corpora.is_corpus(corpus):  # not so where a dry run is to make it
        picking.check(kept, every, corpus)
    open_pool = picking.make_inputs(kept, corpus, every)
    one_only = list(cells) == [""]
    if dry_run:
        for name, one in asked.items():
            step = {"rows": one.size, "seconds": 1, "bytes": one.size * 800}
            kept.note("select", places[name], step)
        return {"plan": kept.plan}
    figures, picks, n_samples = picking.choose(open_pool(), asked, places)
    seconds = {"seconds": round(time.perf_counter() - started, 3)}
    if one_only:
        return figures[""] | seconds
    shared = grids.overlaps(picks, cells) | {"samples": n_samples}
    return {"subsets": figures, "overlap": shared, "out": str(out)} | seconds


def check_subsets(
    corpus: str | Path,
    cells: Mapping[str, Mapping[str, Any]],
    *,
    out: str | Path,
    work: str | Path = WORK,
) -> dict[str, picking.SelectOptions]:
    """Refuse subsets that `subsets` could not make; return the options of each.

    A corpus that is not made yet is left out of account: its size and its columns.
    """
    asked = {
        name: configs.build(picking.SelectOptions, options, f"subset {name}")
        for name, options in cells.items()
    }
    for name in asked:
        folder.check_out(Path(out) / name, selecting.STAGE)
    made = Path(corpus) if corpora.is_corpus(Path(corpus)) else None
    picking.check(Work(Path(work)), list(asked.values()), made)
    return asked


def subsets(
    corpus: str | Path,
    cells: Mapping[str, Mapping[str, Any]],
    *,
    out: str | Path,
    work: str | Path = WORK,
) -> dict[str, Result]:
    """Select many subsets of a corpus from one pool, each with options of its own, to `out`/NAME.

    Returns
    -------
    dict
        The figures of each, as `select` returns them.
    """
    asked = check_subsets(corpus, cells, out=out, work=work)
    places = {name: Path(out) / name for name in asked}
    open_pool = picking.make_inputs(Work(Path(work)), Path(corpus), list(asked.values()))
    with progress("select", len(asked), "subsets") as bar:
        return picking.choose(open_pool(), asked, places, lambda name: bar.advance())[0]


def explain(
    subset: str | Path,
    id: str,
    *,
    corpus: str | Path | None = None,
    work: str | Path = WORK,
) -> Result:
    """Say why the sample `id` is in a subset, or why it is not.

    What the subset was made from is found in the work folder by its contents.
    """
    found = made_from(Path(subset), Path(work), Path(corpus) if corpus else None)
    return explain_sample(Path(subset), id, found)


def diff(
    first: str | Path,
    second: str | Path,
    *,
    corpus: str | Path | None = None,
    work: str | Path = WORK,
) -> Result:
    """Say how two subsets of one corpus differ: rows, kinds, sources, figures."""
    found = [
        made_from(Path(place), Path(work), Path(corpus) if corpus else None)
        for place in (first, second)
    ]
    return diff_subsets(Path(first), Path(second), *found)


def measure(
    *datasets: str | Path,
    out: str | Path | None = None,
    work: str | Path = WORK,
    config: str | Path | None = None,
    dry_run: bool = False,
    **options: Any,
) -> Result:
    """Measure the diversity of subsets, corpora or raw files; see `MeasureOptions`."""
    asked = _options(MeasureOptions, config, options)
    plain = configs.part_of(MeasureConfig, asked)
    kept = Work(Path(work), dry_run)
    if out:
        folder.check_out(Path(out), measuring.STAGE)
    described = Describer(kept, asked).describe(datasets)
    place = Path(out) if out else measuring.place(described, plain, Path(work))
    if dry_run:
        planned = measuring.plan(described, place, plain)
        if len(described) < len(datasets):  # the others are not made yet
            planned = {"rows": sum(step["rows"] for step in kept.plan if step["stage"] == "ingest")}
        kept.note("measure", place, planned)
        return {"plan": kept.plan}
    return folder.figures(measuring.measure(described, place, plain, say), place)


def finetune(
    subset: str | Path,
    *,
    out: str | Path,
    config: str | Path | None = None,
    dry_run: bool = False,
    **options: Any,
) -> Result:
    """Fine-tune a model on a subset; options are those of `FinetuneConfig`."""
    asked = _options(FinetuneConfig, config, options)
    if dry_run:
        return {"plan": [_step(finetuning.plan(Path(subset), Path(out), asked))]}
    return folder.figures(finetuning.finetune(Path(subset), Path(out), asked, say), out)


def check_training(**options: Any) -> None:
    """Refuse options of `finetune` whose model, packages or GPU are not there."""
    finetuning.check_options(_options(FinetuneConfig, None, options))


def score(
    model: str | Path,
    *,
    out: str | Path,
    work: str | Path = WORK,
    config: str | Path | None = None,
    dry_run: bool = False,
    **options: Any,
) -> Result:
    """Score a model: suite heldout, pairwise or harness; options are those of `score.suites`."""
    asked = suites.config_of(Path(config) if config else None, options)
    folder.check_out(Path(out), "score")
    if dry_run:
        return {"plan": [_step(suites.plan(model, asked) | {"out": str(out)})]}
    return folder.figures(suites.score(model, Path(out), asked, Path(work) / "answers", say), out)


def fit(
    results: str | Path,
    *,
    metrics: str | Path | None = None,
    out: str | Path | None = None,
    config: str | Path | None = None,
    dry_run: bool = False,
    **options: Any,
) -> Result:
    """Fit a table of scores, or a study's; options are those of `FitConfig`."""
    asked = _options(fitting.FitConfig, config, options)
    table, place = Path(metrics) if metrics else None, Path(out) if out else None
    if place:
        folder.check_out(place, fitting.STAGE)
    if dry_run:
        return {"plan": [_step(fitting.plan(Path(results), asked, table, place))]}
    fitted = fitting.fit(Path(results), asked, table, place, say)
    return fitted if out is None else fitted | {"out": str(out)}


def report(
    *sources: str | Path,
    out: str | Path = "report.html",
    corpus: str | Path | None = None,
    work: str | Path = WORK,
    config: str | Path | None = None,
    dry_run: bool = False,
    **options: Any,
) -> Result:
    """Show a study, a subset or two as one HTML page; options are those of `ReportOptions`.

    `out` is the page, or a folder for it and the data behind it.
    """
    asked = _options(ReportOptions, config, options)
    plain = configs.part_of(reporting.ReportConfig, asked)
    places = reporting.checked([Path(source) for source in sources])
    found = locate(places, Path(work), Path(corpus) if corpus else None)
    measures = None if dry_run or not asked.measure else _measures(places, Path(work))
    one_file = Path(out).suffix == ".html"
    reporting.check_out(Path(out), one_file, asked.figures)
    kept = reporting.place(places, found, measures, plain, Path(work)) if one_file else Path(out)
    if dry_run:
        return {"plan": [_step(reporting.plan(places, kept, found, plain) | {"out": str(out)})]}
    made = reporting.report(places, kept, found, measures, plain, say)
    if one_file:
        reporting.put(kept, Path(out))
    result = folder.figures(made, out)
    if asked.figures is not None:
        names = reporting.put_figures(kept, asked.figures, asked.figure_format)
        result["figures"] = [str(asked.figures / name) for name in names]
    return result


def _measures(places: Sequence[Path], work: Path) -> Result | None:
    """Return the measures of subsets; None where what they read would have to be made first."""
    if any(folder.stage_of(place) != selecting.STAGE for place in places):
        return None
    described = Describer(Work(work, dry_run=True), MeasureOptions()).describe(places)
    if len(described) < len(places):
        return None
    plain = MeasureConfig()
    at = measuring.place(described, plain, work)
    result: Result = measuring.measure(described, at, plain, say)["result"]
    return result


def clean(
    corpus: str | Path,
    *,
    out: str | Path,
    work: str | Path = WORK,
    config: str | Path | None = None,
    dry_run: bool = False,
    **options: Any,
) -> Result:
    """Take near-duplicates and contaminated samples out of a corpus; see `CleanOptions`.

    `corpus` may also be a subset, an export or raw files, which are ingested first.
    """
    asked = _options(CleanOptions, config, options)
    plain = configs.part_of(CleanConfig, asked)
    kept = Work(Path(work), dry_run)
    cleaning.check(Path(corpus), Path(out), plain)
    made = kept.corpus([corpus], asked.ingest)
    embeddings: dict[str, Path] = {}
    encoding: dict[str, Any] = {}
    if asked.cosine is not None:
        encoding = encoding_recipe(asked.embed, asked.encoder)
        for name in cleaning.components(plain):
            named = {"encoder": asked.encoder, "components": (name,)}
            wanted = configs.build(EmbedConfig, asked.embed, "key `embed`", named)
            embeddings[name] = kept.embeddings(made, wanted)
    place = kept.clean(made, Path(out), plain, embeddings, encoding)
    return {"plan": kept.plan} if dry_run else folder.figures(folder.read_manifest(place), out)


def rewrite(
    source: str | Path,
    *,
    out: str | Path,
    work: str | Path = WORK,
    config: str | Path | None = None,
    dry_run: bool = False,
    **options: Any,
) -> Result:
    """Let one model write the responses of a corpus or subset; see `RewriteConfig`."""
    asked = _options(rewriting.RewriteConfig, config, options)
    rewriting.check(Path(source), Path(out), asked)
    if dry_run:
        return {"plan": [_step(rewriting.plan(Path(source), Path(out), asked))]}
    answers = Path(work) / "answers"
    return folder.figures(rewriting.rewrite(Path(source), Path(out), asked, answers, say), out)


def export(
    *sources: str | Path,
    to: str,
    config: str | Path | None = None,
    dry_run: bool = False,
    **options: Any,
) -> Result:
    """Export a subset, corpus or model to a folder or `hub:org/name`; see `ExportConfig`.

    A Hub repository takes several subsets and corpora at once, a folder one.
    """
    asked = _options(exporting.ExportConfig, config, options)
    named = [Path(source) for source in sources]
    exporting.check(named, to)
    if dry_run:
        return {"plan": [_step(exporting.plan(one, to, asked) | {"out": to}) for one in named]}
    return folder.figures(exporting.export(named, to, asked, say), to)


def verify(place: str | Path) -> Result:
    """Check a folder against its manifest; `faults` is empty when all is well."""
    return folder.verify(Path(place))


def base_model() -> Path:
    """Return the folder of the offline base model, the default of `finetune`."""
    return resources.tiny_base()


def schedule(
    *,
    png: str | Path | None = None,
    config: str | Path | None = None,
    **options: Any,
) -> Result:
    """Compare a learning-rate schedule with others; options are those of `ScheduleOptions`."""
    asked = _options(curves.ScheduleOptions, config, options)
    if png is not None:
        curves.draw(asked, Path(png))
    return curves.compare(asked) | ({} if png is None else {"out": str(png)})


def doctor(work: str | Path = WORK) -> Result:
    """Say what this machine has for each part of the job."""
    return checkup.doctor(Path(work))


def part_folder(
    verb: str,
    corpus: str | Path,
    part: str | Part,
    *,
    work: str | Path = WORK,
    config: str | Path | None = None,
    **options: Any,
) -> Path:
    """Return the folder that `sftdiv VERB CORPUS --part I/N` writes; its manifest says: finished.

    It depends on the corpus and the options alone, not on the machine, and nothing is made.

    Raises
    ------
    UsageError
        If the verb does not work by parts, or the options or the part are wrong.
    """
    wanted = splitting.parse(part, verb)
    if verb == "embed":
        asked = _options(EmbedConfig, config, options)
        return embed_part.place(Path(corpus), asked, wanted, Path(work))
    if verb == "index":
        kept = Work(Path(work))
        return kept.index_part_place(Path(corpus), _options(IndexOptions, config, options), wanted)
    raise UsageError(f"{verb}: does not work by parts; leave out --part")


def _part(part: str | Part, verb: str, out: str | Path | None) -> Part:
    """Return the part asked for; what it makes has its place in the work folder."""
    if out is not None:
        raise UsageError(f"{verb}: --part fills the work folder; leave out --out")
    return splitting.parse(part, verb)


def _options(model: type[C], config: str | Path | None, options: Mapping[str, Any]) -> C:
    return configs.load(Path(config) if config else None, model, options)


def _step(planned: Mapping[str, Any]) -> Result:
    return {"state": "cached" if planned.get("cached") else "to do", **planned}
