"""Verbs that let one see a corpus: a map of it as a table, for tools that draw such tables."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import pyarrow.parquet as pq
import typer
from pydantic import Field

from sft_diversity.core import config as configs
from sft_diversity.core import folder
from sft_diversity.core.errors import UsageError
from sft_diversity.core.store import corpus_at
from sft_diversity.maps.stage import STAGE, LayoutOptions, MapConfig
from sft_diversity.selection.config import SelectConfig
from sft_diversity.stages import store
from sft_diversity.verbs.options import WORK, ConfigFile, CorpusOption, DryRun, Work
from sft_diversity.verbs.results import Result, options_from
from sft_diversity.verbs.sources import made_from


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


def map_subset(
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
    recipe = folder.read_manifest(Path(subset))["recipe"]
    chosen = configs.build(SelectConfig, recipe, "the subset's recipe")
    embedded = f"embeddings-{chosen.component}" in found
    by = asked.by if asked.by != "auto" else ("embeddings" if embedded else "kinds")
    index = chosen.index_options
    if not chosen.needs_incidence:  # of random draws and the like: tokens, as for micro-response
        index = {"strategy": f"micro-{chosen.component}", "tokenizer": chosen.tokenizer}
    given = {"by": by, "component": chosen.component, "embed": chosen.embed_options}
    wanted = configs.part_of(MapConfig, asked, index=index, **given)
    kept = store(work, dry_run)
    of = corpus_at(found["corpus"])
    made = kept.get(STAGE, wanted, of)
    held = kept.get("index", index, of)
    if dry_run:
        kept.plan[-1]["out"] = str(out)
        return {"plan": kept.plan}
    from sft_diversity.maps.table import subset_table

    points = made.path, kept.get("embed", given["embed"], of).path if by == "embeddings" else None
    table = subset_table(
        Path(subset), found["corpus"], *points, held.path, wanted, asked.neighbours
    )
    with folder.replacing(out, STAGE) as scratch:
        pq.write_table(table, scratch, compression="zstd")
    figures = folder.figures(folder.read_manifest(made.path), out)
    return figures | {"picked": int(table["picked"].to_numpy().sum()), "out": str(out)}
