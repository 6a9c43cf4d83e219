"""Index: a corpus and a strategy in, one incidence out, stored so that selecting is instant."""

from __future__ import annotations

import contextlib
import shutil
from typing import Any, Literal

import numpy as np
from pydantic import Field, model_validator

from sft_diversity.core import corpus as corpora
from sft_diversity.core import folder, incidence, numbers, stopping
from sft_diversity.core.config import BAND, EMBEDDINGS, ENCODER, TOKENIZER, Config
from sft_diversity.core.messages import KindStrategy, component_of
from sft_diversity.core.stage import Ask, Job, Result, Stage
from sft_diversity.levels import tagging
from sft_diversity.levels.base import PARTS, VERSION, Level
from sft_diversity.levels.macro import Macro, MacroOptions
from sft_diversity.levels.meso import Meso, MesoOptions
from sft_diversity.levels.micro import Micro, MicroOptions
from sft_diversity.levels.own import Own, OwnOptions

STAGE = "index"

LevelName = Literal["macro", "meso", "micro", "own"]

#: Guesses for plans: rows a second on two cores, bytes a row.
_COSTS: dict[str, tuple[float, int]] = {
    "macro": (4_000, 60),
    "meso": (1_200, 110),
    "micro": (200_000, 160),
    "own": (200_000, 100),
}
_SECONDS_AN_ANSWER = 3.0  # of a model that tags, a guess too

#: A new level is one new file and one new line here (and its options in `IndexConfig`).
LEVELS: dict[str, Level] = {"macro": Macro(), "meso": Meso(), "micro": Micro(), "own": Own()}


class IndexConfig(Config):
    """Which strategy to index for; only the options of its level matter."""

    strategy: KindStrategy = Field(default="micro-response", description="level and component")
    macro: MacroOptions = Field(
        default_factory=MacroOptions, description="options of the macro level"
    )
    meso: MesoOptions = Field(default_factory=MesoOptions, description="options of the meso level")
    micro: MicroOptions = Field(
        default_factory=MicroOptions, description="options of the micro level"
    )
    own: OwnOptions = Field(
        default_factory=OwnOptions, description="options of strategy own, of a column's kinds"
    )
    band: str | None = Field(default=None, description=BAND)  # a name for micro.band
    tokenizer: str | None = Field(default=None, description=TOKENIZER)
    encoder: str | None = Field(default=None, description=ENCODER)
    embeddings: str | None = Field(default=None, description=EMBEDDINGS)
    embed: dict[str, Any] = Field(default={}, description="further options of `embed`")

    @model_validator(mode="before")
    @classmethod
    def _band_of_micro(cls, given: dict[str, Any]) -> dict[str, Any]:
        if given.get("band") is None:
            return given
        options = {name: value for name, value in given.items() if name != "band"}
        if not str(options.get("strategy", "micro-response")).startswith("micro-"):
            raise ValueError("band works with a micro strategy only")
        return options | {"micro": {**dict(options.get("micro", {})), "band": given["band"]}}

    @model_validator(mode="after")
    def _embeddings_of_macro(self) -> IndexConfig:
        if self.embeddings is not None and self.level != "macro":
            raise ValueError("embeddings work with a macro strategy only")
        return self

    @property
    def level(self) -> str:
        """`macro`, `meso`, `micro` or `own`."""
        return self.strategy.split("-")[0]

    @property
    def component(self) -> corpora.Component:
        """Whose text it is of."""
        return component_of(self.strategy)

    @property
    def encoding(self) -> dict[str, Any]:
        """Options of the encoder that macro and meso read."""
        named = {"encoder": self.encoder, "embeddings": self.embeddings}
        return self.embed | {name: value for name, value in named.items() if value is not None}


def needs(config: IndexConfig, ask: Ask) -> None:
    """Read the corpus, and what the level makes the incidence of."""
    corpus = ask.corpus()
    if corpus.there:
        corpora.check_component(corpus.path, config.component, STAGE)
    LEVELS[config.level].needs(config, ask)


def join(job: Job[IndexConfig]) -> Result:
    """Make the incidence of the strategy."""
    config = job.config
    asks = config.level == "meso" and config.meso.endpoint is not None  # answers are waited for
    with contextlib.nullcontext() if asks else stopping.at_once(job.label):
        made = LEVELS[config.level].make(job)
    for line in made.lines:
        job.say(f"{job.label}: {line}")
    incidence.save(job.draft.path, made.incidence, made.ids, made.kinds)
    for name, array in made.files.items():
        with job.writing(name) as path:
            numbers.save_array(path, array)
    shutil.rmtree(job.draft.path / PARTS, ignore_errors=True)
    sizes = np.diff(made.incidence.indptr)
    rows = made.incidence.n_samples
    figures = {
        "level": config.level,
        "component": config.component,
        "samples": rows,
        "kinds": made.incidence.n_kinds,
        "nnz": int(sizes.sum()),
        "mean_kinds_per_sample": round(float(sizes.mean()), 4) if len(sizes) else 0.0,
        "samples_without_kind": int((sizes == 0).sum()),
        **made.result,
    }
    return Result(rows=folder.rows_account(rows, rows, {}), figures=figures, run=made.run)


def _options(config: IndexConfig) -> dict[str, Any]:
    """Return the strategy's own options; those of its inputs count by their keys."""
    own: Config = getattr(config, config.level)
    return {"strategy": config.strategy, **own.model_dump(mode="json")}


def _cost(config: IndexConfig, ask: Ask) -> dict[str, Any]:
    corpus = ask.inputs["corpus"]
    rate, per_row = _COSTS[config.level]
    asked: dict[str, Any] = {}
    if config.level == "meso" and config.meso.endpoint is not None:
        endpoint = config.meso.endpoint
        rate = endpoint.concurrency / _SECONDS_AN_ANSWER
        guessed = tagging.estimate(corpus.path, config.component, config.meso.tags)
        asked = {**guessed, "cost": round(endpoint.cost(**guessed), 2)}
    seconds = round(corpus.rows / rate, 1)
    return {
        "strategy": config.strategy, "seconds": seconds, "bytes": corpus.rows * per_row, **asked,
    }  # fmt: skip


INDEX = Stage(
    STAGE, VERSION, IndexConfig, needs=needs, join=join, options=_options, cost=_cost,
    label=lambda config: f"index {config.strategy}",
)  # fmt: skip
