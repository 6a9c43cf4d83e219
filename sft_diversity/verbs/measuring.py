"""Verbs that look at data sets: measure their diversity, report them as a page.

A subset is described by what its corpus was described by, if that is still in the work folder;
what is not there is made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import Field

from sft_diversity.core import config as configs
from sft_diversity.core import corpus as corpora
from sft_diversity.core import drafts, extras, folder, lineage, parquet, urls
from sft_diversity.core.config import ENCODER, TOKENIZER
from sft_diversity.core.corpus import Component
from sft_diversity.core.stage import Made
from sft_diversity.core.store import Store
from sft_diversity.embedding.stage import EmbedConfig
from sft_diversity.ingestion import stage as ingesting
from sft_diversity.ingestion.config import IngestConfig
from sft_diversity.ingestion.fetched import Fetcher
from sft_diversity.ingestion.files import last_name
from sft_diversity.metrics.stage import Dataset, Measurement
from sft_diversity.metrics.table import MeasureConfig
from sft_diversity.reporting import stage as reporting
from sft_diversity.reporting.config import ReportConfig
from sft_diversity.reporting.figures import FigureFormat
from sft_diversity.reporting.reading import locate
from sft_diversity.reporting.stage import Report
from sft_diversity.stages import store
from sft_diversity.verbs.options import WORK, ConfigFile, CorpusOption, DryRun, OutOrWork, Work
from sft_diversity.verbs.results import Result, made, options_from
from sft_diversity.verbs.sources import corpus_of

#: Options of what describes data sets, by stage and component.
Wanted = dict[tuple[str, Component], Any]


class MeasureOptions(MeasureConfig):
    """Options of `measure`; `ingest` and `embed` are for YAML files."""

    tokenizer: str | None = Field(default=None, description=TOKENIZER)
    encoder: str | None = Field(default=None, description=ENCODER)
    reference: str | None = Field(
        default=None,
        description="corpus whose density NovelSum reads for all data sets; "
        "default: the one each was selected from",
    )
    ingest: dict[str, Any] = Field(default={}, description="options of `ingest`, for raw sources")
    embed: dict[str, Any] = Field(default={}, description="further options of `embed`")


class ReportOptions(ReportConfig):
    """Options of `report`."""

    measure: bool = Field(
        default=True, description="measure the subsets, where their work folder is at hand"
    )
    figures: Path | None = Field(
        default=None, description="folder for the page's plots as files, for papers"
    )
    figure_format: FigureFormat = Field(
        default="all", description="of these files: svg, pdf, png, or all three"
    )


def measure(
    *dataset: Annotated[str | Path, typer.Argument(help="Subsets, corpora or raw files.")],
    out: OutOrWork = None,
    work: Work = WORK,
    config: ConfigFile = None,
    dry_run: DryRun = False,
    **options: Any,
) -> Result:
    """Measure the diversity of subsets, corpora or raw files; see `MeasureOptions`."""
    asked = options_from(MeasureOptions, config, options)
    kept, place = store(work, dry_run), Path(out) if out else None
    if place:
        drafts.check_out(place, "measure")
    described = describe(kept, asked, dataset)
    wanted = configs.part_of(Measurement, asked, datasets=described)
    return made(kept, kept.get("measure", wanted, out=place))


def report(
    *source: Annotated[
        str | Path, typer.Argument(help="A study, a subset or a corpus; or two subsets."), Path
    ],
    out: Annotated[
        str | Path,
        typer.Option(help="Page to write (.html), or a folder for it and its data."),
    ] = Path("report.html"),
    corpus: CorpusOption = None,
    work: Work = WORK,
    config: ConfigFile = None,
    dry_run: DryRun = False,
    **options: Any,
) -> Result:
    """Show a study, a subset or two as one HTML page; options are those of `ReportOptions`.

    `out` is the page, or a folder for it and the data behind it.
    """
    asked = options_from(ReportOptions, config, options)
    places, kept = reporting.checked([Path(one) for one in source]), store(work, dry_run)
    found = locate(places, Path(work), Path(corpus) if corpus else None)
    one_file = Path(out).suffix == ".html"
    reporting.check_out(Path(out), one_file, asked.figures)
    measured = _measured(kept, places) if asked.measure else None
    wanted = configs.part_of(Report, asked, sources=places, found=found, measures=measured)
    output = kept.get("report", wanted, out=None if one_file else Path(out))
    if dry_run:
        kept.plan[-1]["out"] = str(out)
        return made(kept, output)
    if one_file:
        reporting.put(output.path, Path(out))
    result = made(kept, output) | {"out": str(out)}
    if asked.figures is not None:
        names = reporting.put_figures(output.path, asked.figures, asked.figure_format)
        result["figures"] = [str(asked.figures / name) for name in names]
    return result


def _measured(kept: Store, places: Sequence[Path]) -> Path | None:
    """Measure subsets; None where what that reads would have to be made first."""
    if any(folder.stage_of(place) != "select" for place in places):
        return None
    described = describe(store(kept.root, dry=True), MeasureOptions(), places)
    if None in (dataset.contents() for dataset in described):
        return None
    return kept.get("measure", Measurement(datasets=described)).path


def describe(
    kept: Store, options: MeasureOptions, sources: Sequence[str | Path]
) -> tuple[Dataset, ...]:
    """Return data sets (subsets, corpora or raw files), named apart, with what describes them.

    That is found or made, for all with the same tokenizer and encoder. In a dry run some of it may
    be in the store's plan alone.
    """
    encoding = configs.build(
        EmbedConfig, options.embed, "key `embed`", {"encoder": options.encoder}
    )
    wanted: Wanted = {}
    embedded = extras.has("sentence_transformers")
    if not embedded and (options.encoder or options.reference or options.embed):
        extras.require("sentence_transformers", "measure: an encoder")
    if not embedded:
        kept.say(
            "measure: no metrics of embeddings (distance, Vendi, NovelSum); with "
            f"{extras.install('embed')} they are measured too"
        )
    for part in options.components:
        wanted["tokens", part] = {"component": part, "tokenizer": options.tokenizer}
        if embedded:
            wanted["embed", part] = encoding.model_copy(update={"components": (part,)})
    for (stage, _), asked in wanted.items():
        kept.check(stage, asked, Made(Path(), None, there=False))
    against = None if options.reference is None else Path(options.reference)
    if against is not None:
        corpora.manifest(against)
    ingest = configs.build(IngestConfig, options.ingest, "key `ingest`")
    fetcher = Fetcher(kept.root, kept.dry, kept.once)
    for source in sources:
        if urls.is_remote(source) or folder.stage_of(Path(source)) is None:
            ingesting.check_rows(ingesting.resolve((source,), ingest), fetcher)
    found = [_described(kept, source, wanted, options.ingest) for source in sources]
    paths = [Path(last_name(str(source))) for source in sources]
    names = [path.name for path in paths]
    for number, path in enumerate(paths):
        if names.count(path.name) > 1:
            found[number] = replace(found[number], name=f"{path.parent.name}/{path.name}")
    if against is not None:
        reference = {
            c: kept.get("embed", wanted["embed", c], against).path for c in options.components
        }
        found = [replace(dataset, reference=reference) for dataset in found]
    return tuple(found)


def _described(
    kept: Store, source: str | Path, wanted: Wanted, ingest: Mapping[str, Any]
) -> Dataset:
    corpus: Made | None = None
    chosen_by = None
    path = Path(last_name(str(source)))
    if not urls.is_remote(source) and folder.stage_of(path) == "select":
        files, manifest = parquet.listed(path, "samples"), folder.read_manifest(path)
        key: str | None = folder.contents_key(manifest, "samples/")
        rows = sum(map(parquet.rows, files))
        pool, chosen_by = manifest["inputs"]["corpus"], manifest["inputs"].get("incidence")
    else:
        corpus = corpus_of(kept, (source,), ingest)
        files = corpora.shards(corpus.path) if corpus.there else []
        key, rows, pool = corpus.key, corpus.rows, corpus.key or "not made yet"
    # what the corpus of a subset has serves the subset too: it is known by its key alone
    read = {
        what: kept.resolve(kept.request(what[0], asked, Made(path, pool))).made
        for what, asked in wanted.items()
    }
    if corpus is None and not all(one.there for one in read.values()):
        corpus = corpus_of(kept, (path / "samples",), {})
    for what in [what for what, one in read.items() if not one.there]:
        read[what] = kept.get(what[0], wanted[what], corpus)
    tokens, embeddings = (
        {part: one.path for (kind, part), one in read.items() if kind == stage}
        for stage in ("tokens", "embed")
    )
    inputs = {"corpus": pool, "incidence": chosen_by}
    indexed = [place for place, _ in kept.finished("index")]
    indexes = lineage.found_among([{"inputs": inputs}], indexed).indexes
    return Dataset(path.name, files, rows, key, tokens, embeddings, embeddings, indexes)
