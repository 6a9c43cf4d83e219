"""Subsets as `select` makes them: its options, what they need made first, and the pool they share.

Many subsets of a grid or a study come from one open pool.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from sft_diversity.core import config as configs
from sft_diversity.core import folder, lineage
from sft_diversity.core.corpus import COMPONENTS, Component
from sft_diversity.core.errors import UsageError
from sft_diversity.core.hashing import content_key
from sft_diversity.core.kernels import Rows
from sft_diversity.core.progress import say
from sft_diversity.embedding.stage import EmbedConfig
from sft_diversity.scoring import model as models
from sft_diversity.scoring import quality as judging
from sft_diversity.scoring.quality import QualityConfig
from sft_diversity.selection import grid as grids
from sft_diversity.selection import stage as selecting
from sft_diversity.selection.config import LimitOptions, percent_hint
from sft_diversity.selection.constraints import check_constraints
from sft_diversity.work import BAND, ENCODER, TOKENIZER, IndexOptions, Work, encoding_recipe

Result = dict[str, Any]


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


def asked_for(
    config: str | Path | None, options: dict[str, Any]
) -> tuple[dict[str, grids.Cell], dict[str, SelectOptions]]:
    """Return the cells of the grid and the options of each; without a grid one, named ""."""
    given = configs.read_yaml(Path(config)) if config else {}
    in_file = given.pop("grid", {})
    cells = grids.cells(grids.parse(options.pop("grid", None) or in_file))
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


def check(kept: Work, asked: Sequence[SelectOptions], corpus: Path | None = None) -> None:
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
        check_constraints(one, corpus)
    drawn = {"diversity", "seed", "fill", "min_tokens", "threshold", "made_from"}
    drawn |= limits - {"quality"}
    for one in _distinct(asked, set(SelectOptions.model_fields) - drawn):
        make_inputs(kept.ahead(), corpus or kept.root, [one])


def _distinct(asked: Sequence[SelectOptions], fields: set[str]) -> Iterable[SelectOptions]:
    """Return one of those that are alike in some fields."""
    return {content_key(one.model_dump(mode="json", include=fields)): one for one in asked}.values()


def make_inputs(
    kept: Work, corpus: Path, asked: Sequence[SelectOptions]
) -> Callable[[], selecting.Pool]:
    """Make (or plan) all that subsets with these options read; return what opens it."""
    passes = {name: kept.tokens(corpus, name, asked[0].tokenizer) for name in COMPONENTS}
    indexes: dict[str, Path] = {}
    embeddings: dict[Component, Path] = {}
    judged: dict[str, Path] = {}
    for one in asked:
        if one.needs_incidence and one.strategy not in indexes:
            indexes[one.strategy] = kept.index(corpus, _index_options(one))
        if one.needs_embeddings and one.component not in embeddings:
            named = {"encoder": one.encoder, "components": (one.component,)}
            wanted = configs.build(EmbedConfig, one.embed, "select, key `embed`", named)
            embeddings[one.component] = kept.embeddings(corpus, wanted)
        if one.quality in judging.SCORERS and one.quality not in judged:
            judge = configs.build(QualityConfig, one.judge, "select, key `judge`")
            judged[one.quality] = kept.quality(corpus, judge)

    def open_pool() -> selecting.Pool:
        scores = {name: judging.read(place, name) for name, place in judged.items()}
        return selecting.open_pool(corpus, passes, indexes, embeddings, scores, judged)

    return open_pool


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
    encodes: SelectOptions | IndexOptions | None = asked if asked.needs_embeddings else None
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


def _index_options(asked: SelectOptions) -> IndexOptions:
    named = {"tokenizer": asked.tokenizer, "encoder": asked.encoder, "embed": asked.embed}
    if _reads_band(asked):
        named["band"] = asked.band
    options = {"strategy": asked.strategy, **asked.index}
    return configs.build(IndexOptions, options, "select, key `index`", named)


def _reads_band(asked: SelectOptions) -> bool:
    return asked.needs_incidence and asked.strategy.startswith("micro-")


def _hush(line: str) -> None:
    """Say nothing."""
