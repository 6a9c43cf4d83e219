"""Select: a corpus, its incidence and token passes in; a subset of exactly N samples out.

What chooses is imported where it is called: who finds a subset finished loads no kernel.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from sft_diversity.core import (
    arrow,
    folder,
    incidence,
    lineage,
    neighbours,
    quality,
    schema,
    stopping,
)
from sft_diversity.core import corpus as corpora
from sft_diversity.core.hashing import content_key
from sft_diversity.core.quality import JUDGED
from sft_diversity.core.stage import Ask, Job, Made, Result, Stage, once
from sft_diversity.core.tokens import TokenPass
from sft_diversity.selection.config import (
    MADE_OF,
    NEIGHBOURS,
    LimitOptions,
    SelectConfig,
    check_size,
)

if TYPE_CHECKING:
    from sft_diversity.selection.pool import Pool

VERSION = 4
STAGE = "select"
_ROWS_PER_FILE = 100_000
_BYTES_A_ROW = 800


def needs(config: SelectConfig, ask: Ask) -> None:
    """Read the corpus, both token passes, and what the strategy chooses by.

    Raises
    ------
    UsageError, DataError
        If no subset could keep to what is asked; see `check_constraints`.
    """
    corpus = ask.corpus()
    ask.rows(config.size)
    if corpus.there:
        check_size(config.size, corpus.rows)
    if config.named or config.quota or config.quality:
        _check_limits(config, ask, corpus)
    for name in config.counted:
        of = {"component": name, "tokenizer": config.tokenizer}
        ask.stage(f"tokens-{name}", "tokens", of)
    if config.needs_incidence:
        ask.stage("incidence", "index", config.index_options)
    if config.needs_embeddings:
        ask.stage(f"embeddings-{config.component}", "embed", config.embed_options)
    if config.strategy == NEIGHBOURS:
        neighbours.count_engine(ask)
    if config.quality in JUDGED:
        ask.stage("quality", "quality", config.judge)


def _check_limits(config: SelectConfig, ask: Ask, corpus: Made) -> None:
    """Refuse limits that cannot be met; ids that they name count by what they are."""
    from sft_diversity.selection.constraints import check_constraints, content_of

    limits = config.model_dump(mode="json", include=set(LimitOptions.model_fields))
    place = corpus.path if corpus.there else None
    key = ("limits", corpus.key, content_key(limits))
    ask.once(key, lambda: check_constraints(config, place))
    for option, named in config.named.items():
        ask.key(option, content_of(named))


@stopping.at_once(STAGE)
def join(job: Job[SelectConfig]) -> Result:
    """Choose the samples; write `samples/*.parquet` (schema SUBSET, in pick order).

    The figures have all that was achieved.
    """
    from sft_diversity.selection.choices import choose_rows

    config, pool = job.config, open_pool(job.inputs, job.config, job.kept)
    rows, made = choose_rows(pool, config)
    samples = pool.take(rows)
    result = stated(pool.corpus, config, made, samples)
    subset = samples.append_column("pick", arrow.numbers(np.arange(len(rows), dtype=np.int32)))
    subset = schema.check(subset, schema.samples_like(subset.schema, subset=True), STAGE)
    for start in range(0, len(rows), _ROWS_PER_FILE):
        name = f"samples/{start // _ROWS_PER_FILE:05}.parquet"
        job.write_table(name, subset.slice(start, _ROWS_PER_FILE))
    asked, paths = lineage.public(_recipe(job))
    left = pool.n_samples - len(rows)
    return Result(
        rows=folder.rows_account(pool.n_samples, len(rows), {"not_picked": left}),
        seeds={"seed": config.seed},
        figures=result,
        run=({"paths": paths} if paths else {}) | _engine_facts(config),
        lineage=lineage.of(corpus=job.corpus),
        recipe=asked,
    )


def _engine_facts(config: SelectConfig) -> dict[str, str]:
    return neighbours.engine().facts() if config.strategy in ("k-center", NEIGHBOURS) else {}


def stated(
    corpus: Path, config: SelectConfig, made: Mapping[str, Any], samples: pa.Table
) -> dict[str, Any]:
    """Return all that a subset states of itself.

    Parameters
    ----------
    made : mapping
        The figures of the choice.
    samples : table
        Columns `id` and `source` of what is picked, in pick order.
    """
    from sft_diversity.selection.choices import source_mix

    named = ("strategy", "objective", "fill", "diversity", "seed", "max_per_kind")
    result = {name: getattr(config, name) for name in named} | {"rows": len(samples), **made}
    result["sources"] = source_mix(samples)
    result["licences"] = {
        name: licence
        for name, licence in corpora.licences(corpus).items()
        if name in result["sources"]
    }
    return result | {"ids_key": content_key(samples["id"].to_pylist())}


def open_pool(inputs: Mapping[str, Made], config: SelectConfig, kept: dict[Hashable, Any]) -> Pool:
    """Return the pool of what `needs` asked for: one for all that share `kept` and the inputs."""
    from sft_diversity.selection.pool import Pool

    key = tuple((role, inputs[role].key) for role in sorted(inputs))

    def tokens(name: str) -> TokenPass:
        place = inputs[f"tokens-{name}"].path
        return once(kept, ("tokens", place), lambda: TokenPass(place))

    def opened() -> Pool:
        counted = {name: tokens(name) for name in config.counted}
        pool = Pool(inputs["corpus"].path, counted, key=key, kept=kept)
        if config.needs_incidence:
            place = inputs["incidence"].path
            manifest = folder.read_manifest(place)
            pool.incidence = incidence.load(place)
            pool.indexed = manifest["config"] | manifest["result"]
        if config.needs_embeddings:
            pool.embeddings = inputs[f"embeddings-{config.component}"].path
        if "quality" in inputs:
            pool.scores = {name: quality.read(inputs["quality"].path, name) for name in JUDGED}
        return pool

    return once(kept, key, opened)


def _recipe(job: Job[SelectConfig]) -> dict[str, Any]:
    """Return the options to run again, as they were resolved; those that play no part go.

    Notes
    -----
    The options of a stage that a strategy does not read are left out, so that a recipe asks for
    no encoder or model that it does not need.
    """
    config = job.config
    own = config.model_dump(mode="json", exclude=set(MADE_OF))
    said = {name: own[name] for name in ("strategy", "size")} | own
    fields = SelectConfig.model_fields
    said = {n: v for n, v in said.items() if v is not None or fields[n].default is not None}
    for name in ("tokenizer", "embeddings"):
        if getattr(config, name) is not None:
            said[name] = getattr(config, name)
    made = {
        role: lineage.entry(folder.read_manifest(one.path))
        for role, one in job.inputs.items()
        if role != "corpus"
    }
    if config.needs_incidence:
        said |= _index_recipe(config, made["incidence"])
    for role in made:
        if role.startswith("embeddings-"):
            said |= _encoder_recipe(config.encoder, config.embed, made[role])
    if "quality" in made:
        said["judge"] = config.judge | made["quality"]["config"]
    return said


def _index_recipe(config: SelectConfig, index: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of `index` as they were resolved; a band that `auto` chose is one."""
    level, given = config.strategy.split("-")[0], config.index_options
    own = {name: value for name, value in index["config"].items() if name != "strategy"}
    if own.get("endpoint") is not None:  # its address is private
        own["endpoint"] = {**own["endpoint"], "url": "URL"}
    said: dict[str, Any] = {"index": {level: own}}
    if level == "micro" and given.get("tokenizer") != config.tokenizer:
        said["index"]["tokenizer"] = given["tokenizer"]
    before = index.get("lineage", {}).values()
    encoders = [made for made in before if made["stage"] in ("embed", "encoder")]
    for made in encoders:
        said |= _encoder_recipe(given.get("encoder"), given.get("embed", {}), made)
    return said


def _encoder_recipe(
    encoder: str | None, options: Mapping[str, Any], made: Mapping[str, Any]
) -> dict[str, Any]:
    """Return encoder and options of `embed`, with the precision and commit that they came to."""
    given = {name: value for name, value in options.items() if name != "workers"}
    if "embeddings" in made["inputs"]:  # no encoder had a part in it
        return {"embed": given} if given else {}
    resolved = {name: value for name, value in made["config"].items() if name != "components"}
    resolved |= made.get("recipe", {})
    return {"encoder": encoder or "packaged", "embed": {**given, **resolved}}


def _options(config: SelectConfig) -> dict[str, Any]:
    """Return what decides the choice; what it is made of counts by its keys, ids by theirs."""
    options = config.model_dump(mode="json", exclude=set(MADE_OF))
    return options | dict.fromkeys(config.named, "given")  # a path is no content


def _cost(config: SelectConfig, ask: Ask) -> dict[str, Any]:
    return {"seconds": 1, "bytes": config.size * _BYTES_A_ROW}


SELECT = Stage(
    STAGE, VERSION, SelectConfig, needs=needs, join=join, options=_options, cost=_cost
)  # fmt: skip
