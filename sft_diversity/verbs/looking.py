"""Verbs that let one see a corpus: the dial in a page, and a map as a table for other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import pyarrow.parquet as pq
import typer
from pydantic import Field, model_validator

from sft_diversity.core import config as configs
from sft_diversity.core import extras, folder
from sft_diversity.core.errors import UsageError
from sft_diversity.core.messages import Component, component_of
from sft_diversity.core.progress import tell
from sft_diversity.core.store import corpus_at
from sft_diversity.exploring.settings import read
from sft_diversity.maps.stage import STAGE, LayoutOptions, MapConfig
from sft_diversity.reporting.reading import locate
from sft_diversity.selection.config import EMBEDDED, SelectConfig, Strategy
from sft_diversity.selection.stage import STAGE as SELECT
from sft_diversity.stages import store
from sft_diversity.verbs.options import WORK, ConfigFile, CorpusOption, DryRun, Work
from sft_diversity.verbs.results import Result, options_from
from sft_diversity.verbs.sources import corpus_of, made_from


class MapOptions(LayoutOptions):
    """Options of `map`."""

    by: Literal["auto", "embeddings", "kinds"] = Field(
        default="auto",
        description="what samples are near by: the embeddings of the subset's component where "
        "they are at hand (auto), or the kinds it was selected by",
    )
    neighbours: int = Field(
        default=10, ge=0, le=100,
        description="nearest samples that are named beside each; 0: none, which saves most time",
    )  # fmt: skip


def map(
    subset: Annotated[str | Path, typer.Argument(help="A subset.")],
    *,
    out: Annotated[str | Path, typer.Option(help="Parquet file to write.")],
    corpus: CorpusOption = None,
    work: Work = WORK,
    config: ConfigFile = None,
    dry_run: DryRun = False,
    **options: Any,
) -> Result:
    """Write a map of a subset's corpus as one table: places, neighbours, what is picked, kinds.

    Raises
    ------
    UsageError
        If `out` is no file that can be written, or the subset's corpus is not found.
    """
    asked, out = options_from(MapOptions, config, options), Path(out)
    if out.suffix != ".parquet" or out.is_dir():
        raise UsageError(f"map: {out} is no Parquet file; name one that ends in .parquet")
    found = made_from(Path(subset), Path(work), Path(corpus) if corpus else None)
    chosen = folder.read_manifest(Path(subset))["config"]
    component = component_of(chosen["strategy"])
    if chosen["strategy"] in EMBEDDED:
        component = chosen["embedded"]
    held = found.get("incidence") or _another(Path(subset), Path(work), found["corpus"], component)
    embedded = found.get(f"embeddings-{component}")
    by = asked.by if asked.by != "auto" else ("embeddings" if embedded else "kinds")
    place = held if by == "kinds" else embedded
    if place is None:
        raise UsageError(
            f"map: no embeddings of the {component}s at hand; embed them, or --by kinds"
        )
    wanted = configs.part_of(MapConfig, asked, by=by, component=component, place=place)
    kept = store(work, dry_run)
    made = kept.get(STAGE, wanted, corpus_at(found["corpus"]))
    if dry_run:
        kept.plan[-1]["out"] = str(out)
        return {"plan": kept.plan}
    from sft_diversity.maps.table import subset_table

    table = subset_table(Path(subset), found["corpus"], made.path, held, wanted, asked.neighbours)
    with folder.replacing(out, STAGE) as scratch:
        pq.write_table(table, scratch, compression="zstd")
    figures = folder.figures(folder.read_manifest(made.path), out)
    return figures | {"picked": int(table["picked"].to_numpy().sum()), "out": str(out)}


class ExploreOptions(SelectConfig):
    """Options of `explore`: those of `select` to begin with, and where the page is."""

    strategy: Strategy = Field(
        default="micro-response", description="to begin with: level and component, or a baseline"
    )
    size: int | None = Field(  # type: ignore[assignment]
        default=None, gt=0, description="to begin with; default: a tenth, at most 10,000"
    )
    port: int = Field(default=0, ge=0, le=65_535, description="to listen on; 0: a free one")
    open: bool = Field(default=True, description="open a browser, where there is one")
    share: Path | None = Field(
        default=None,
        description="write the page, its dial at 21 positions, as this HTML file; serve nothing",
    )

    @model_validator(mode="after")
    def _options_that_apply(self) -> ExploreOptions:
        """Take what serves one strategy beside another to begin with; the page asks for both."""
        return self


def explore(
    *source: Annotated[str | Path, typer.Argument(help="A corpus, or raw files to ingest first.")],
    root: Annotated[
        str | Path, typer.Option(help="Folder below which the page may write, and nowhere else.")
    ] = Path(),
    work: Work = WORK,
    config: ConfigFile = None,
    dry_run: DryRun = False,
    **options: Any,
) -> Result | None:
    """Serve a page on this machine in which the dial of a corpus is turned, until it is stopped.

    Options are those of `ExploreOptions`; the address, with its token, is said on stderr.
    """
    extras.require("starlette", "explore: the server")
    extras.require("uvicorn", "explore: the server")
    asked = options_from(ExploreOptions, config, options)
    kept = store(work, dry_run)
    corpus = corpus_of(kept, source, asked.ingest, least=asked.size or 1)
    own = {"port", "open", "share"}
    given = asked.model_dump(mode="json", exclude_unset=True, exclude=own)
    size = asked.size or max(1, min(10_000, corpus.rows // 10))
    given |= {"strategy": asked.strategy, "size": size}
    first = read({}, given, lambda ids: None).config
    if dry_run:
        kept.prepare(SELECT, first, corpus)
        return {"plan": kept.plan}
    kept.check(SELECT, first, corpus)
    from sft_diversity.exploring.serving import serve
    from sft_diversity.exploring.session import Session

    session = Session(corpus, [str(one) for one in source], Path(work), given, Path(root))
    if asked.share is not None:
        from sft_diversity.exploring.keeping import keep
        from sft_diversity.exploring.reading import Reader

        job = keep(Reader(session), {}, "share", str(asked.share))
        job.wait(None)
        return dict(job.result)
    session.select({})  # begun while the browser loads the page
    serve(session, asked.port, asked.open, tell)
    return None


def _another(subset: Path, work: Path, corpus: Path, component: Component) -> Path:
    """Return an incidence of the corpus, for a subset that was selected by none."""
    indexes = locate([subset], work, corpus).indexes
    found = indexes.get(f"micro-{component}") or next(iter(indexes.values()), None)
    if found is None:
        raise UsageError(
            f"map: {subset} was selected by no kinds, and no incidence of its corpus is at hand; "
            f"make one: sftdiv index {corpus} --strategy micro-{component}"
        )
    return found
