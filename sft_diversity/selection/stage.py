"""Select: a corpus, its incidence and token passes in; a subset of exactly N samples out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sft_diversity.core import corpus as corpora
from sft_diversity.core import folder, lineage, progress, schema
from sft_diversity.core.folder import Work, open_draft, rows_account
from sft_diversity.core.hashing import content_key
from sft_diversity.core.kernels import Rows
from sft_diversity.selection.choices import choose_rows, source_mix
from sft_diversity.selection.config import SelectConfig
from sft_diversity.selection.constraints import content_of
from sft_diversity.selection.pool import Pool, open_pool
from sft_diversity.selection.quotas import CORPUS, ELIGIBLE

VERSION = 3
STAGE = "select"
_ROWS_PER_FILE = 100_000


def select(
    pool: Pool,
    out: Path,
    config: SelectConfig,
    say: Callable[[str], None] = progress.say,
    recipe: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Choose a subset, write it to `out`, return the manifest.

    `recipe` are all options to run again, those of what the pool was made from too.

    `out` holds `samples/*.parquet` (schema SUBSET, in pick order). The manifest's `result` has
    every achieved figure.
    """
    draft = open_draft(out, _work(pool, config))
    say(f"select: {draft.reason}")
    if draft.reused:
        return folder.read_manifest(out)
    rows, result = choose_rows(pool, config)
    samples = pool.take(rows)
    subset = samples.append_column("pick", pa.array(range(len(rows)), pa.int32()))
    subset = schema.check(subset, schema.SUBSET, STAGE)
    for start in range(0, len(rows), _ROWS_PER_FILE):
        name = f"samples/{start // _ROWS_PER_FILE:05}.parquet"
        draft.write_table(name, subset.slice(start, _ROWS_PER_FILE))
    named = ("strategy", "objective", "fill", "diversity", "seed", "max_per_kind")
    result = {name: getattr(config, name) for name in named} | {"rows": len(rows)} | result
    result["sources"] = source_mix(samples)
    result["licences"] = {
        name: licence
        for name, licence in corpora.licences(pool.corpus).items()
        if name in result["sources"]
    }
    result["ids_key"] = content_key(samples["id"].to_pylist())
    asked, paths = lineage.public(recipe or config.model_dump(mode="json"))
    return draft.commit(
        rows=rows_account(pool.n_samples, len(rows), {"not_picked": pool.n_samples - len(rows)}),
        seeds={"seed": config.seed},
        result=result,
        run={"paths": paths} if paths else {},
        lineage=_lineage(pool, config),
        recipe=asked,
    )


def is_there(pool: Pool, out: Path, config: SelectConfig) -> bool:
    """Whether `out` is the finished subset that `select` would make."""
    if folder.stage_of(out) != STAGE:
        return False
    return bool(folder.read_manifest(out)["key"] == _work(pool, config).key)


def facts(pool: Pool, config: SelectConfig) -> dict[str, Any]:
    """Return what will decide the subset's rows, as a recipe states it (`lineage.facts`)."""
    return lineage.facts(_work(pool, config).as_json() | {"lineage": _lineage(pool, config)})


def _lineage(pool: Pool, config: SelectConfig) -> lineage.Lineage:
    read = {"corpus": "corpus", **{f"tokens-{name}": f"tokens-{name}" for name in pool.tokens}}
    if config.needs_embeddings:
        read[f"embeddings-{config.component}"] = f"embeddings-{config.component}"
    if config.needs_incidence:
        read["incidence"] = f"index-{config.strategy}"
    if config.quality in pool.scores:
        read["quality"] = f"quality-{config.quality}"
    return lineage.of(**{n: pool.places[at] for n, at in read.items() if at in pool.places})


def files_of(subset: Path) -> list[Path]:
    """Return a subset's Parquet files in pick order."""
    folder.read_input(subset, STAGE)
    return sorted((subset / "samples").glob("*.parquet"))


def rows_of(pool: Pool, subset: Path) -> Rows:
    """Return the corpus rows of a subset, in pick order."""
    ids = pa.concat_tables([pq.read_table(path, columns=["id"]) for path in files_of(subset)])["id"]
    rows: Rows = pc.index_in(ids, value_set=pool.ids).to_numpy().astype(np.int64)
    return rows


def _work(pool: Pool, config: SelectConfig) -> Work:
    inputs = dict(pool.keys)
    options = config.model_dump(mode="json")
    inputs = {k: v for k, v in inputs.items() if not k.startswith("embeddings-")}
    if config.needs_embeddings:
        name = f"embeddings-{config.component}"
        inputs[name] = pool.keys[name]
    if config.needs_incidence:
        inputs["incidence"] = pool.index_keys[config.strategy]
    for name in ("match_length", "must_include", "exclude"):
        given = options[name]
        if given is not None and given not in (CORPUS, ELIGIBLE):
            inputs[name] = content_of(given)
            options[name] = "given"  # a path is no content
    if config.quality in pool.scores:
        inputs["quality"] = content_key(pool.scores[config.quality].tobytes().hex())
    return Work(STAGE, VERSION, inputs, options)


__all__ = [
    "STAGE", "VERSION", "Pool", "SelectConfig",
    "choose_rows", "files_of", "open_pool", "rows_of", "select",
]  # fmt: skip
