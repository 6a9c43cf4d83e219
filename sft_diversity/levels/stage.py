"""Index: a corpus and a strategy in, one incidence out, stored so that selecting is instant."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow.parquet as pq
from pydantic import Field

from sft_diversity.core import corpus as corpora
from sft_diversity.core import folder, incidence, lineage, progress
from sft_diversity.core.config import Config
from sft_diversity.core.errors import SftdivError
from sft_diversity.endpoint.config import check_endpoint
from sft_diversity.levels import macro, tagging
from sft_diversity.levels.base import PARTS, VERSION, Encode, Level, Made, Sources
from sft_diversity.levels.macro import Macro, MacroOptions
from sft_diversity.levels.meso import Meso, MesoOptions
from sft_diversity.levels.micro import Micro, MicroOptions

STAGE = "index"

LevelName = Literal["macro", "meso", "micro"]
Strategy = Literal[
    "macro-instruction",
    "macro-response",
    "meso-instruction",
    "meso-response",
    "micro-instruction",
    "micro-response",
]

#: Guesses for plans: rows a second on two cores, bytes a row.
_COSTS: dict[str, tuple[float, int]] = {
    "macro": (4_000, 60),
    "meso": (1_200, 110),
    "micro": (200_000, 160),
}
_SECONDS_AN_ANSWER = 3.0  # of a model that tags, a guess too

#: A new level is one new file and one new line here (and its options in `IndexConfig`).
LEVELS: dict[str, Level] = {"macro": Macro(), "meso": Meso(), "micro": Micro()}


class IndexConfig(Config):
    """Which strategy to index for; only the options of its level matter."""

    strategy: Strategy = Field(default="micro-response", description="level and component")
    macro: MacroOptions = Field(
        default_factory=MacroOptions, description="options of the macro level"
    )
    meso: MesoOptions = Field(default_factory=MesoOptions, description="options of the meso level")
    micro: MicroOptions = Field(
        default_factory=MicroOptions, description="options of the micro level"
    )

    @property
    def level(self) -> str:
        """`macro`, `meso` or `micro`."""
        return self.strategy.split("-")[0]

    @property
    def component(self) -> corpora.Component:
        """`instruction` or `response`."""
        return "instruction" if self.strategy.endswith("-instruction") else "response"


def check(config: IndexConfig, rows: int | None = None) -> None:
    """Refuse what cannot be made of a corpus of `rows` samples, before its inputs are made.

    Raises
    ------
    UsageError
        If a package is not installed, or the endpoint of tags is no URL.
    DataError
        If there are fewer samples than clusters asked for.
    """
    if config.level == "macro":
        macro.check(config.macro, rows)
    elif config.level == "meso" and config.meso.endpoint is not None:
        check_endpoint(config.meso.endpoint.url, STAGE)


def plan(
    corpus: Path,
    out: Path,
    config: IndexConfig,
    *,
    embeddings: Path | None = None,
    tokens: Path | None = None,
    encoder: str | None = None,
) -> dict[str, Any]:
    """Say what `index` would do; touches nothing."""
    rows = sum(pq.read_metadata(path).num_rows for path in corpora.shards(corpus))
    sources = Sources(corpus, config.component, embeddings, tokens, None, encoder)
    try:
        cached = _is_done(out, _work(sources, config))
    except SftdivError:  # an input that is still to be made
        cached = False
    rate, per_row = _COSTS[config.level]
    asked: dict[str, Any] = {}
    if config.level == "meso" and config.meso.endpoint is not None and not cached:
        endpoint = config.meso.endpoint
        rate = endpoint.concurrency / _SECONDS_AN_ANSWER
        guessed = tagging.estimate(corpus, config.component, config.meso.tags)
        asked = {**guessed, "cost": round(endpoint.cost(**guessed), 2)}
    return {
        "stage": STAGE,
        "strategy": config.strategy,
        "rows": rows,
        "cached": cached,
        "seconds": 0.0 if cached else round(rows / rate, 1),
        "bytes": 0 if cached else rows * per_row,
        "out": str(out),
        **asked,
    }


def index(
    corpus: Path,
    out: Path,
    config: IndexConfig,
    *,
    embeddings: Path | None = None,
    tokens: Path | None = None,
    encode: Encode | None = None,
    encoder: str | None = None,
    answers: Path | None = None,
    ready: Path | None = None,
    encoder_facts: Mapping[str, Any] | None = None,
    say: Callable[[str], None] = progress.say,
) -> dict[str, Any]:
    """Make the incidence of `config.strategy`; return the manifest.

    Parameters
    ----------
    corpus : Path
        A finished output of `ingest`.
    embeddings : Path, optional
        The embeddings of the component; macro needs them.
    tokens : Path, optional
        The token pass of the component; micro needs it.
    encode : callable, optional
        Texts to unit vectors, shape (m, d); meso merges near-synonyms with it.
    encoder : str, optional
        Revision of that encoder; part of what the result depends on.
    answers : Path, optional
        Folder of a model's kept answers, for meso by tags; default: `OUT.answers` beside `out`.
    ready : Path, optional
        Folder of finished parts (`levels.part`): meso does not read their rows' words again.
    encoder_facts : mapping, optional
        What made the encoder's revision, as a lineage says it.

    Raises
    ------
    UsageError
        If the level lacks an input, or an input belongs to another component.
    """
    sources = Sources(
        corpus, config.component, embeddings, tokens, encode, encoder, answers, ready, encoder_facts
    )
    draft = folder.open_draft(out, _work(sources, config))
    say(f"index {config.strategy}: {draft.state}, {draft.reason}")
    if draft.reused:
        return folder.read_manifest(out, STAGE)
    made = LEVELS[config.level].make(sources, _options(config), draft)
    for line in made.lines:
        say(f"index {config.strategy}: {line}")
    incidence.save(draft.path, made.incidence, made.ids, made.kinds)
    for name, array in made.files.items():
        with draft.writing(name) as path, path.open("wb") as handle:
            np.save(handle, array)
    shutil.rmtree(draft.path / PARTS, ignore_errors=True)
    rows = made.incidence.n_samples
    result = _figures(config, made)
    return draft.commit(
        rows=folder.rows_account(rows, rows, {}),
        result=result,
        run=made.run,
        lineage=_lineage(sources, draft.work),
    )


def _lineage(sources: Sources, work: folder.Work) -> lineage.Lineage:
    """Return what the level read besides the corpus."""
    read = {"tokens": sources.tokens, "embeddings": sources.embeddings}
    found = lineage.of(**{n: place for n, place in read.items() if place and n in work.inputs})
    if "encoder" in work.inputs and sources.encoder_facts is not None:
        found["encoder"] = dict(sources.encoder_facts)
    return found


def _options(config: IndexConfig) -> Any:
    return getattr(config, config.level)


def _work(sources: Sources, config: IndexConfig) -> folder.Work:
    """Return the identity of the result: only the strategy's own options take part."""
    options = _options(config)
    inputs = {"corpus": corpora.key(sources.corpus)}
    inputs |= LEVELS[config.level].inputs(sources, options)
    described = {"strategy": config.strategy} | options.model_dump(mode="json")
    return folder.Work(STAGE, VERSION, inputs, described)


def _is_done(out: Path, work: folder.Work) -> bool:
    if folder.stage_of(out) != work.stage:
        return False
    return bool(folder.read_manifest(out, work.stage).get("key") == work.key)


def _figures(config: IndexConfig, made: Made) -> dict[str, Any]:
    sizes = np.diff(made.incidence.indptr)
    return {
        "level": config.level,
        "component": config.component,
        "samples": made.incidence.n_samples,
        "kinds": made.incidence.n_kinds,
        "nnz": int(sizes.sum()),
        "mean_kinds_per_sample": round(float(sizes.mean()), 4) if len(sizes) else 0.0,
        "samples_without_kind": int((sizes == 0).sum()),
        **made.result,
    }
