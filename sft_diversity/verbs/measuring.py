"""Verbs that look at data sets: measure their diversity, report them as a page.

A subset is described by what its corpus was described by, if that is still in the work folder;
what is not there is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import pyarrow.parquet as pq
import typer
from pydantic import Field

from sft_diversity.core import config as configs
from sft_diversity.core import corpus as corpora
from sft_diversity.core import folder, lineage
from sft_diversity.core.config import ENCODER, TOKENIZER
from sft_diversity.core.corpus import COMPONENTS, Component
from sft_diversity.core.stage import Made
from sft_diversity.core.store import Store
from sft_diversity.embedding.stage import EmbedConfig
from sft_diversity.ingestion import stage as ingesting
from sft_diversity.ingestion.config import IngestConfig
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

_NOT_THERE = Made(Path(), None, there=False)


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
        folder.check_out(place, "measure")
    described = Describer(kept, asked).describe(dataset)
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
    described = Describer(store(kept.root, dry=True), MeasureOptions()).describe(places)
    if None in (dataset.contents() for dataset in described):
        return None
    return kept.get("measure", Measurement(datasets=described)).path


class Describer:
    """Finds or makes what describes data sets, all with the same tokenizer and encoder."""

    def __init__(self, store: Store, options: MeasureOptions) -> None:
        self._store, self._options = store, options
        encoding = configs.build(
            EmbedConfig, options.embed, "key `embed`", {"encoder": options.encoder}
        )
        self._wanted: dict[tuple[str, Component], Any] = {}
        for name in COMPONENTS:
            counted = {"component": name, "tokenizer": options.tokenizer}
            self._wanted["tokens", name] = counted
            self._wanted["embed", name] = encoding.model_copy(update={"components": (name,)})
        for (stage, _), asked in self._wanted.items():
            store.check(stage, asked, _NOT_THERE)
        if options.reference is not None:
            corpora.manifest(Path(options.reference))

    def describe(self, sources: Sequence[str | Path]) -> tuple[Dataset, ...]:
        """Return the data sets of `sources`: subsets, corpora or raw files, named apart.

        In a dry run some of what they name may be in the store's plan alone.
        """
        paths = [Path(source) for source in sources]
        names = [path.name for path in paths]
        named = [
            f"{path.parent.name}/{path.name}" if names.count(path.name) > 1 else path.name
            for path in paths
        ]
        ingest = configs.build(IngestConfig, self._options.ingest, "key `ingest`")
        for path in paths:
            if folder.stage_of(path) is None:
                ingesting.check_rows(ingesting.resolve((path,), ingest))
        return tuple(self._one(path, name) for path, name in zip(paths, named, strict=True))

    def _one(self, path: Path, name: str) -> Dataset:
        corpus: Made | None = None
        chosen_by = None
        if folder.stage_of(path) == "select":
            files = sorted((path / "samples").glob("*.parquet"))
            manifest = folder.read_input(path)
            key: str | None = folder.contents_key(manifest, "samples/")
            rows = sum(pq.read_metadata(file).num_rows for file in files)
            pool, chosen_by = manifest["inputs"]["corpus"], manifest["inputs"].get("incidence")
        else:
            corpus = corpus_of(self._store, (path,), self._options.ingest)
            files = corpora.shards(corpus.path) if corpus.there else []
            key, rows, pool = corpus.key, corpus.rows, corpus.key or "not made yet"
        # what the corpus of a subset has serves the subset too
        at = {wanted: self._there(*wanted, Made(path, pool)) for wanted in self._wanted}
        if corpus is None and None in at.values():
            corpus = corpus_of(self._store, (path / "samples",), {})
        read = {
            wanted: there or self._store.get(wanted[0], self._wanted[wanted], corpus).path
            for wanted, there in at.items()
        }
        tokens = {c: read["tokens", c] for c in COMPONENTS}
        embeddings = {c: read["embed", c] for c in COMPONENTS}
        reference = {c: self._reference(c) or embeddings[c] for c in COMPONENTS}
        inputs = {"corpus": pool, "incidence": chosen_by}
        indexed = [place for place, _ in self._store.finished("index")]
        indexes = lineage.found_among([{"inputs": inputs}], indexed).indexes
        return Dataset(name, files, rows, key, tokens, embeddings, reference, indexes)

    def _there(self, stage: str, component: Component, corpus: Made) -> Path | None:
        """Return a finished pass or embeddings of a corpus, known by its key alone."""
        request = self._store.request(stage, self._wanted[stage, component], corpus)
        made = self._store.resolve(request).made
        return made.path if made.there else None

    def _reference(self, component: Component) -> Path | None:
        """Return the embeddings of the corpus that all data sets are read against, if one is."""
        if self._options.reference is None:
            return None
        against = Path(self._options.reference)
        return self._store.get("embed", self._wanted["embed", component], against).path
