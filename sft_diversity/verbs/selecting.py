"""Verbs about subsets: select one or a grid, explain a sample, tell two apart.

Many subsets of a grid or a study come from one open pool. What is told of subsets is imported
where it is asked for: a finished one is found without it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from sft_diversity.core import config as configs
from sft_diversity.core import corpus as corpora
from sft_diversity.core import drafts, folder, lineage, stopping
from sft_diversity.core.errors import UsageError
from sft_diversity.core.hashing import content_key
from sft_diversity.core.progress import progress, say
from sft_diversity.core.stage import Made
from sft_diversity.core.store import Store, corpus_at
from sft_diversity.selection import grid as grids
from sft_diversity.selection.config import SelectConfig, percent_hint
from sft_diversity.selection.stage import STAGE
from sft_diversity.stages import store
from sft_diversity.verbs.options import (
    WORK,
    ConfigFile,
    CorpusOption,
    DryRun,
    OutOrNone,
    Work,
)
from sft_diversity.verbs.results import Result
from sft_diversity.verbs.sources import corpus_of, made_from


def select(
    *source: Annotated[str | Path, typer.Argument(help="A corpus, or raw files to ingest first.")],
    out: OutOrNone = None,
    work: Work = WORK,
    config: ConfigFile = None,
    dry_run: DryRun = False,
    grid: Annotated[
        str | None,
        typer.Option(
            help="Many subsets at once: strategy=all diversity=0,50,100 size=2000 seed=0,1"
        ),
    ] = None,
    **options: Any,
) -> Result:
    """Select a subset of a corpus or of raw files; options are those of `SelectConfig`.

    With `grid` (text, or a mapping of axes to values; see `select.grid.parse`) every combination
    becomes a subset in its own folder of `out`, and the result has their overlaps.
    """
    started = time.perf_counter()
    cells, asked = asked_for(config, options | {"grid": grid})
    if out is None:
        raise UsageError("select: name the folder to write (--out)")
    kept, every = store(work, dry_run), list(asked.values())
    for name in asked:
        drafts.check_out(Path(out) / name, STAGE, source)
    check(kept, every)
    corpus = corpus_of(kept, source, every[0].ingest, least=max(one.size for one in every))
    if corpus.there:  # not so where a dry run is to make it
        check(kept, every, corpus)
    made = make(kept, corpus, asked, Path(out))
    if dry_run:
        return {"plan": kept.plan}
    seconds = {"seconds": round(time.perf_counter() - started, 3)}
    if list(cells) == [""]:
        return made[""] | seconds
    from sft_diversity.selection.constraints import rows_named

    with stopping.at_once(STAGE):
        ids = corpora.ids(corpus.path)
        picks = {n: rows_named(str(Path(out) / n), ids, "grid") for n in asked}
        shared = grids.grid_overlaps(picks, cells) | {"samples": corpus.rows}
    return {"subsets": made, "overlap": shared, "out": str(out)} | seconds


def check_subsets(
    corpus: str | Path,
    cells: Mapping[str, Mapping[str, Any]],
    *,
    out: str | Path,
    work: str | Path = WORK,
) -> dict[str, SelectConfig]:
    """Refuse subsets that `subsets` could not make; return the options of each.

    A corpus that is not made yet is left out of account: its size and its columns.
    """
    asked = {
        name: configs.build(SelectConfig, options, f"subset {name}")
        for name, options in cells.items()
    }
    for name in asked:
        drafts.check_out(Path(out) / name, STAGE)
    made = corpus_at(Path(corpus)) if corpora.is_corpus(Path(corpus)) else None
    check(store(work), list(asked.values()), made)
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
    kept, made = store(work), corpus_at(Path(corpus))
    for one in asked.values():
        kept.prepare(STAGE, one, made)
    kept.say = _hush
    with progress("select", len(asked), "subsets") as bar:
        return make(kept, made, asked, Path(out), bar.advance)


def explain(
    subset: Annotated[str | Path, typer.Argument(help="A subset.")],
    id: Annotated[str, typer.Argument(help="A sample's id.")],
    *,
    corpus: CorpusOption = None,
    work: Work = WORK,
) -> Result:
    """Say why the sample `id` is in a subset, or why it is not.

    What the subset was made from is found in the work folder by its contents.
    """
    from sft_diversity.selection.explain import explain_sample

    found = made_from(Path(subset), Path(work), Path(corpus) if corpus else None)
    return explain_sample(Path(subset), id, found)


def diff(
    first: Annotated[str | Path, typer.Argument(help="A subset.")],
    second: Annotated[str | Path, typer.Argument(help="Another subset of the same corpus.")],
    *,
    corpus: CorpusOption = None,
    work: Work = WORK,
) -> Result:
    """Say how two subsets of one corpus differ: rows, kinds, sources, figures."""
    from sft_diversity.selection.explain import diff_subsets

    found = [
        made_from(Path(place), Path(work), Path(corpus) if corpus else None)
        for place in (first, second)
    ]
    return diff_subsets(Path(first), Path(second), *found)


def asked_for(
    config: str | Path | None, options: dict[str, Any]
) -> tuple[dict[str, grids.Cell], dict[str, SelectConfig]]:
    """Return the cells of the grid and the options of each; without a grid one, named ""."""
    given = configs.read_yaml(Path(config)) if config else {}
    in_file, grid = given.pop("grid", None), options.pop("grid", None)
    grid = in_file if grid is None else grid
    cells = grids.grid_cells({} if grid is None else grids.parse_grid(grid))
    set_here = {name: value for name, value in options.items() if value is not None}
    where = f"config {config}" if config else "options"
    asked = {
        name: configs.build(SelectConfig, {**given, **set_here, **cell}, where)
        for name, cell in cells.items()
    }
    if not any(one.band is None or one.reads_band for one in asked.values()):
        raise UsageError(f"{where}: band works with objective kinds of a micro strategy only")
    if hint := percent_hint(one.diversity for one in asked.values()):
        say(hint)
    return cells, asked


def check(store: Store, asked: Iterable[SelectConfig], corpus: Made | None = None) -> None:
    """Refuse subsets that cannot be made, before a token or an embedding is.

    Without a corpus, which is then not made yet, sizes and columns are not looked at.
    """
    drawn = {"diversity", "seed", "fill", "min_tokens", "threshold"}
    alike = {content_key(one.model_dump(mode="json", exclude=drawn)): one for one in asked}
    for one in alike.values():
        store.check(STAGE, one, corpus or Made(store.root, None, there=False))


def make(
    store: Store,
    corpus: Made,
    asked: Mapping[str, SelectConfig],
    out: Path,
    advance: Callable[[], object] | None = None,
) -> dict[str, Result]:
    """Make (or plan) each subset in its folder of `out`; return their figures by name."""
    figures: dict[str, Result] = {}
    for one in asked.values():
        store.prepare(STAGE, one, corpus)
    for name, one in asked.items():
        if name and not store.dry:
            store.say(f"{name}:")
        made = store.get(STAGE, one, corpus, out=out / name)
        if store.dry:
            continue
        manifest = folder.read_manifest(made.path)
        figures[name] = folder.figures(manifest, made.path)
        if one.made_from:
            figures[name]["recipe"] = _differs(one.made_from, manifest)
        if advance is not None:
            advance()
    return figures


def _differs(recipe: Mapping[str, Any], made: Mapping[str, Any]) -> Result:
    """Name what a subset was made of that its recipe was not, and whether the ids are the same."""
    found = lineage.differences(recipe, lineage.facts(made))
    if found:
        say(f"select: not made from what the recipe was: {'; '.join(found)}")
    equal = recipe.get("ids_key") == made["result"]["ids_key"]
    say(f"select: the ids are {'' if equal else 'not '}those of the recipe")
    return {"differs": found, "ids_equal": equal}


def _hush(line: str) -> None:
    """Say nothing."""
