"""Verbs about subsets: select one or a grid, explain a sample, tell two apart.

Many subsets of a grid or a study come from one open pool.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import Field

from sft_diversity.core import config as configs
from sft_diversity.core import corpus as corpora
from sft_diversity.core import folder, lineage
from sft_diversity.core.corpus import COMPONENTS
from sft_diversity.core.errors import UsageError
from sft_diversity.core.hashing import content_key
from sft_diversity.core.kernels import Rows
from sft_diversity.core.models import ENCODER
from sft_diversity.core.progress import progress, say
from sft_diversity.core.stage import Made
from sft_diversity.core.store import Store, corpus_at
from sft_diversity.embedding.stage import EmbedConfig
from sft_diversity.levels.stage import BAND, IndexConfig
from sft_diversity.levels.tokens import TOKENIZER
from sft_diversity.scoring import model as models
from sft_diversity.scoring import quality as judging
from sft_diversity.scoring.quality import QualityConfig
from sft_diversity.selection import grid as grids
from sft_diversity.selection import stage as selecting
from sft_diversity.selection.config import LimitOptions, percent_hint
from sft_diversity.selection.constraints import check_constraints
from sft_diversity.selection.explain import diff_subsets, explain_sample
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
from sft_diversity.verbs.sources import corpus_of, encoding_recipe, made_from


class SelectOptions(selecting.SelectConfig):
    """Options of `select`; those of what it is made from are for YAML files."""

    band: str | None = Field(default=None, description=BAND)
    tokenizer: str | None = Field(default=None, description=TOKENIZER)
    encoder: str | None = Field(default=None, description=ENCODER)
    ingest: dict[str, Any] = Field(default={}, description="options of `ingest`, for raw sources")
    embed: dict[str, Any] = Field(default={}, description="options of `embed`")
    index: dict[str, Any] = Field(default={}, description="options of `index`")
    judge: dict[str, Any] = Field(
        default={},
        description="the model behind quality perplexity and ifd: model, max_length, ...",
    )
    made_from: dict[str, Any] = Field(
        default={},
        exclude=True,  # it changes no row
        description="content keys and options that a recipe was made from; what differs is named",
    )


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
    """Select a subset of a corpus or of raw files; options are those of `SelectOptions`.

    With `grid` (text, or a mapping of axes to values; see `select.grid.parse`) every combination
    becomes a subset in its own folder of `out`, and the result has their overlaps.
    """
    started = time.perf_counter()
    cells, asked = asked_for(config, options | {"grid": grid})
    if out is None:
        raise UsageError("select: name the folder to write (--out)")
    kept, every = store(work, dry_run), list(asked.values())
    places = {name: Path(out) / name for name in asked}
    for place in places.values():
        folder.check_out(place, selecting.STAGE, source)
    check(kept, every)
    corpus = corpus_of(kept, source, every[0].ingest, least=max(one.size for one in every))
    if corpus.there:  # not so where a dry run is to make it
        check(kept, every, corpus)
    open_pool = make_inputs(kept, corpus, every)
    one_only = list(cells) == [""]
    if dry_run:
        there = corpus.there and all(step["state"] == "cached" for step in kept.plan)
        pool = open_pool() if there else None
        for name, one in asked.items():
            plain = configs.part_of(selecting.SelectConfig, one)
            step: Result = {"rows": one.size, "seconds": 1, "bytes": one.size * 800}
            if pool is not None and selecting.is_there(pool, places[name], plain):
                step |= {"cached": True, "seconds": 0.0, "bytes": 0}
            kept.note("select", places[name], step)
        return {"plan": kept.plan}
    figures, picks, n_samples = choose(open_pool(), asked, places)
    seconds = {"seconds": round(time.perf_counter() - started, 3)}
    if one_only:
        return figures[""] | seconds
    shared = grids.grid_overlaps(picks, cells) | {"samples": n_samples}
    return {"subsets": figures, "overlap": shared, "out": str(out)} | seconds


def check_subsets(
    corpus: str | Path,
    cells: Mapping[str, Mapping[str, Any]],
    *,
    out: str | Path,
    work: str | Path = WORK,
) -> dict[str, SelectOptions]:
    """Refuse subsets that `subsets` could not make; return the options of each.

    A corpus that is not made yet is left out of account: its size and its columns.
    """
    asked = {
        name: configs.build(SelectOptions, options, f"subset {name}")
        for name, options in cells.items()
    }
    for name in asked:
        folder.check_out(Path(out) / name, selecting.STAGE)
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
    places = {name: Path(out) / name for name in asked}
    made = corpus_at(Path(corpus))
    open_pool = make_inputs(store(work), made, list(asked.values()))
    with progress("select", len(asked), "subsets") as bar:
        return choose(open_pool(), asked, places, lambda name: bar.advance())[0]


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
    found = [
        made_from(Path(place), Path(work), Path(corpus) if corpus else None)
        for place in (first, second)
    ]
    return diff_subsets(Path(first), Path(second), *found)


def asked_for(
    config: str | Path | None, options: dict[str, Any]
) -> tuple[dict[str, grids.Cell], dict[str, SelectOptions]]:
    """Return the cells of the grid and the options of each; without a grid one, named ""."""
    given = configs.read_yaml(Path(config)) if config else {}
    in_file = given.pop("grid", {})
    cells = grids.grid_cells(grids.parse_grid(options.pop("grid", None) or in_file))
    set_here = {name: value for name, value in options.items() if value is not None}
    where = f"config {config}" if config else "options"
    asked = {
        name: configs.build(SelectOptions, {**given, **set_here, **cell}, where)
        for name, cell in cells.items()
    }
    if not any(one.band is None or _reads_band(one) for one in asked.values()):
        raise UsageError(f"{where}: band works with objective kinds of a micro strategy only")
    if hint := percent_hint(one.diversity for one in asked.values()):
        say(hint)
    return cells, asked


def check(store: Store, asked: Sequence[SelectOptions], corpus: Made | None = None) -> None:
    """Refuse subsets that cannot be made, before a token or an embedding is.

    What is asked of the work folder is what `make_inputs` asks. Without a corpus, which is then not
    made yet, sizes and columns are not looked at.

    Raises
    ------
    UsageError, DataError
        See `check_constraints`, and the checks of the stages before.
    """
    limits = set(LimitOptions.model_fields)
    for one in _distinct(asked, limits):
        check_constraints(one, corpus.path if corpus else None)
    drawn = {"diversity", "seed", "fill", "min_tokens", "threshold", "made_from"}
    drawn |= limits - {"quality"}
    for one in _distinct(asked, set(SelectOptions.model_fields) - drawn):
        for stage, options in _inputs([one]).values():
            store.check(stage, options, corpus or Made(store.root, None, there=False))


def _distinct(asked: Sequence[SelectOptions], fields: set[str]) -> Iterable[SelectOptions]:
    """Return one of those that are alike in some fields."""
    return {content_key(one.model_dump(mode="json", include=fields)): one for one in asked}.values()


def make_inputs(
    store: Store, corpus: Made, asked: Sequence[SelectOptions]
) -> Callable[[], selecting.Pool]:
    """Make (or plan) all that subsets with these options read; return what opens it."""
    made = {
        role: store.get(stage, options, corpus).path
        for role, (stage, options) in _inputs(asked).items()
    }

    def group(name: str) -> dict[Any, Path]:
        prefix = f"{name}-"
        return {k.removeprefix(prefix): at for k, at in made.items() if k.startswith(prefix)}

    def open_pool() -> selecting.Pool:
        judged = group("quality")
        scores = {name: judging.read(place, name) for name, place in judged.items()}
        tokens, indexes, embeddings = group("tokens"), group("index"), group("embeddings")
        return selecting.open_pool(corpus.path, tokens, indexes, embeddings, scores, judged)

    return open_pool


def _inputs(asked: Sequence[SelectOptions]) -> dict[str, tuple[str, Any]]:
    """Return the stage and options of each output that subsets read, by the name of its role."""
    first = asked[0]
    wanted: dict[str, tuple[str, Any]] = {
        f"tokens-{name}": ("tokens", {"component": name, "tokenizer": first.tokenizer})
        for name in COMPONENTS
    }
    for one in asked:
        if one.needs_incidence:
            wanted.setdefault(f"index-{one.strategy}", ("index", _index_options(one)))
        if one.needs_embeddings:
            named = {"encoder": one.encoder, "components": (one.component,)}
            options = configs.build(EmbedConfig, one.embed, "select, key `embed`", named)
            wanted.setdefault(f"embeddings-{one.component}", ("embed", options))
        if one.quality in judging.SCORERS:
            judge = configs.build(QualityConfig, one.judge, "select, key `judge`")
            wanted.setdefault(f"quality-{one.quality}", ("quality", judge))
    return wanted


def choose(
    pool: selecting.Pool,
    asked: Mapping[str, SelectOptions],
    places: Mapping[str, Path],
    advance: Callable[[str], None] | None = None,
) -> tuple[dict[str, Result], dict[str, Rows], int]:
    """Select each subset to its place; return figures and picks by name, and the pool's samples.

    With `advance`, called as each subset is there, nothing else is said.
    """
    tell = say if advance is None else _hush
    if len(asked) > 1:
        pool.hold_samples()
    figures, picks = {}, {}
    for name, one in asked.items():
        if name:
            tell(f"{name}:")
        plain = configs.part_of(selecting.SelectConfig, one)
        differs = _differs(pool, one) if one.made_from else []
        made = selecting.select(pool, places[name], plain, tell, recipe(one, pool.index_figures))
        figures[name] = folder.figures(made, places[name])
        if one.made_from:
            equal = one.made_from.get("ids_key") == made["result"]["ids_key"]
            say(f"select: the ids are {'' if equal else 'not '}those of the recipe")
            figures[name] |= {"recipe": {"differs": differs, "ids_equal": equal}}
        if len(asked) > 1:  # for their overlaps
            picks[name] = selecting.rows_of(pool, places[name])
        if advance is not None:
            advance(name)
    return figures, picks, pool.n_samples


def _differs(pool: selecting.Pool, asked: SelectOptions) -> list[str]:
    """Name what this run reads that its recipe did not."""
    plain = configs.part_of(selecting.SelectConfig, asked)
    found = lineage.differences(asked.made_from, selecting.facts(pool, plain))
    if found:
        say(f"select: not made from what the recipe was: {'; '.join(found)}")
    return found


def recipe(asked: SelectOptions, indexed: Mapping[str, Mapping[str, Any]]) -> Result:
    """Return the options to run again, as they were resolved here; those that play no part go.

    `indexed` are the figures of each strategy's index, for the band that `auto` chose.

    Notes
    -----
    The options of a stage that a strategy does not read are left out, so that a recipe asks for
    no encoder or model that it does not need.
    """
    plain = configs.part_of(selecting.SelectConfig, asked).model_dump(mode="json")
    said: Result = {name: plain[name] for name in ("strategy", "size")} | plain
    said["tokenizer"] = asked.tokenizer
    fields = SelectOptions.model_fields
    said = {n: v for n, v in said.items() if v is not None or fields[n].default is not None}
    encodes: SelectOptions | IndexConfig | None = asked if asked.needs_embeddings else None
    if asked.needs_incidence:
        options = _index_options(asked)
        own = options.model_dump(mode="json")[options.level]
        own |= {"band": indexed[asked.strategy]["band"]} if options.level == "micro" else {}
        said["index"] = {options.level: own | _endpoint(own)}
        if options.level == "micro" and options.tokenizer != asked.tokenizer:
            said["index"]["tokenizer"] = options.tokenizer
        encodes = options if options.level == "macro" or own.get("merge") == "encoder" else None
    if encodes is not None:
        said |= encoding_recipe(encodes.embed, encodes.encoder)
    if asked.quality in judging.SCORERS:
        judge = configs.build(QualityConfig, asked.judge, "select, key `judge`")
        dtype = models.resolve(judge.device, judge.dtype)[1]
        said["judge"] = judge.model_dump(mode="json") | {"dtype": dtype}
    return said


def _endpoint(options: Mapping[str, Any]) -> Result:
    """Return the block of a model that tags, with a word where its address was: that is private."""
    given = options.get("endpoint")
    return {} if given is None else {"endpoint": {**given, "url": "URL"}}


def _index_options(asked: SelectOptions) -> IndexConfig:
    named = {"tokenizer": asked.tokenizer, "encoder": asked.encoder, "embed": asked.embed}
    if _reads_band(asked):
        named["band"] = asked.band
    options = {"strategy": asked.strategy, **asked.index}
    return configs.build(IndexConfig, options, "select, key `index`", named)


def _reads_band(asked: SelectOptions) -> bool:
    return asked.needs_incidence and asked.strategy.startswith("micro-")


def _hush(line: str) -> None:
    """Say nothing."""
