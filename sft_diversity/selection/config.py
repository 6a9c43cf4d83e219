"""The options of `select`."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from sft_diversity.core.config import (
    BAND,
    EMBEDDINGS,
    ENCODER,
    TOKENIZER,
    Config,
    OptionGroups,
)
from sft_diversity.core.corpus import COMPONENTS, Component
from sft_diversity.core.errors import DataError
from sft_diversity.core.messages import KindStrategy, component_of

Fill = Literal["draws", "balance", "uniform"]
MIN_TOKENS = 16  # of a text whose tokens count for entropy
THRESHOLD = 0.9  # of deita, as published
#: Words that a limit takes in place of values.
CORPUS, ELIGIBLE = "corpus", "eligible"
#: Limits that may name ids: a subset folder, a Parquet or a text file.
NAMED = ("match_length", "must_include", "exclude")
#: What a subset is made of, not how it is chosen.
MADE_OF = (
    "band", "tokenizer", "encoder", "embeddings", "kinds_column", "ingest", "embed", "index",
    "judge", "made_from",
)  # fmt: skip
LIMITS = ("match_length", "token_budget", "quota", "must_include")  # beside max_per_kind

Strategy = Literal[KindStrategy, "random", "longest", "k-center", "facility-location", "deita"]
BASELINES = ("random", "longest")
NEIGHBOURS = "facility-location"  # who is near whom decides what it picks
EMBEDDED = ("k-center", NEIGHBOURS, "deita")  # baselines that read embeddings


def percent_hint(diversities: Iterable[float]) -> str | None:
    """Return a hint where shares were given for percent: one of them lies between 0 and 1."""
    shares = sorted({one for one in diversities if 0 < one <= 1})
    if not shares or shares == [1.0]:
        return None
    given, meant = (", ".join(f"{by * one:g}" for one in shares) for by in (1, 100))
    return f"select: diversity is {given} %: percent are meant; for shares of {given} give {meant}"


def check_size(size: int, rows: int) -> None:
    """Refuse a size above the samples of a corpus."""
    if size > rows:
        raise DataError(
            f"select: size is {size:,} but the corpus has {rows:,} samples; "
            "lower --size or ingest more"
        )


class LimitOptions(Config):
    """Options that constrain a subset, all together; each moves the range of the dial."""

    size: int = Field(gt=0, description="samples to keep, exactly")
    max_per_kind: int | None = Field(
        default=None, ge=1, description="no kind in more picks than this; 1 on meso deduplicates"
    )
    match_length: str | None = Field(
        default=None,
        description="hold response lengths, in ten quantile bins and in the mean, to those of the "
        "corpus (`corpus`), of the samples that may be picked (`eligible`), or of another subset "
        "(its folder)",
    )
    token_budget: int | None = Field(
        default=None, gt=0, description="response tokens of the whole subset, within 0.25 %"
    )
    quota: str | None = Field(
        default=None,
        description="hold the mix of a column, exactly: source=corpus, source=eligible (as in what "
        "may be picked) or source=VALUE:SHARE,...; any column or meta.KEY; several joined by ;",
    )
    must_include: str | None = Field(
        default=None, description="ids that every subset holds: a subset, .parquet or text file"
    )
    exclude: str | None = Field(
        default=None, description="ids never picked: a subset, .parquet or text file"
    )
    quality: str | None = Field(
        default=None,
        description="score of a sample, higher is better: a column, meta.KEY, length, or under a "
        "local model perplexity (low is good) or ifd",
    )
    quality_floor: float = Field(
        default=25.0, ge=0, lt=100, description="percent of the samples, worst first, not eligible"
    )

    @property
    def named(self) -> dict[str, str]:
        """The options that name ids, and where those are."""
        given = {name: getattr(self, name) for name in NAMED}
        return {n: at for n, at in given.items() if at not in (None, CORPUS, ELIGIBLE)}


class SelectConfig(LimitOptions):
    """Which samples to keep, how many, and (the last nine) what they are chosen by."""

    GROUPS: ClassVar[OptionGroups] = (
        (
            "The pick",
            (
                "size", "strategy", "diversity", "seed", "objective", "fill", "no_kind",
                "min_tokens",
            ),
        ),
        (
            "Limits",
            (
                "max_per_kind", "match_length", "token_budget", "quota", "must_include",
                "exclude", "quality", "quality_floor",
            ),
        ),
        (
            "What it is picked by",
            (
                "band", "tokenizer", "encoder", "embeddings", "kinds_column", "embedded",
                "threshold",
            ),
        ),
    )  # fmt: skip

    strategy: Strategy = Field(
        description="level and component, own (--kinds-column), or a baseline"
    )
    diversity: float = Field(default=100.0, ge=0, le=100, description="percent of the dial's range")
    seed: int = Field(default=0, ge=0, description="redraws what the pool leaves free")
    objective: Literal["kinds", "entropy"] = Field(
        default="kinds", description="kinds covered, or (micro) the token entropy of the subset"
    )
    fill: Fill = Field(default="draws", description="how the pool is drawn from")
    no_kind: Literal["out", "fill"] = Field(
        default="out",
        description="samples that hold no kind: out, or fill, their share of the subset drawn at "
        "random",
    )
    min_tokens: int = Field(
        default=MIN_TOKENS, ge=1, description="entropy only: shorter texts are not eligible"
    )

    embedded: Component = Field(
        default="response", description="k-center, facility-location, deita: whose embeddings"
    )
    threshold: float = Field(
        default=THRESHOLD,
        ge=-1,
        le=1,
        description="deita: greatest cosine to an earlier pick; `quality` is the order",
    )
    band: str | None = Field(default=None, description=BAND)
    tokenizer: str | None = Field(default=None, description=TOKENIZER)
    encoder: str | None = Field(default=None, description=ENCODER)
    embeddings: str | None = Field(default=None, description=EMBEDDINGS)
    kinds_column: str | None = Field(
        default=None, description="own: column of the source that names the kinds of each sample"
    )
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

    @model_validator(mode="after")
    def _options_that_apply(self) -> SelectConfig:
        baseline = self.strategy in (*BASELINES, *EMBEDDED)
        limited = [name for name in LIMITS if getattr(self, name) is not None]
        if self.strategy == "longest" and {"match_length", "token_budget"} & set(limited):
            raise ValueError("match_length and token_budget contradict strategy longest")
        if self.strategy in EMBEDDED and limited:
            raise ValueError(f"{limited[0]} does not work with strategy {self.strategy}")
        if self.objective == "entropy" and limited:
            raise ValueError(f"{limited[0]} works with objective kinds only")
        if self.objective == "entropy" and not self.strategy.startswith("micro-"):
            raise ValueError("objective entropy works with a micro strategy only")
        if self.max_per_kind is not None and (baseline or self.objective == "entropy"):
            raise ValueError("max_per_kind works with objective kinds of a level only")
        if self.embeddings is not None and not self.reads_embeddings:
            raise ValueError("embeddings work with a macro strategy or one of embeddings only")
        if (self.strategy == "own") != bool(self.kinds_column or self.index.get("own")):
            raise ValueError("kinds_column and strategy own go together")
        if self.no_kind == "fill" and not self.needs_incidence:
            raise ValueError("no_kind fill works with objective kinds of a level only")
        return self

    @property
    def component(self) -> Component:
        """The component whose kinds count, or whose embeddings; of random and longest responses."""
        if self.strategy in EMBEDDED:
            return self.embedded
        return component_of(self.strategy)

    @property
    def counted(self) -> tuple[Component, ...]:
        """Components whose tokens are counted: those that results tell of, and the strategy's."""
        return tuple(dict.fromkeys((*COMPONENTS, self.component)))

    @property
    def needs_incidence(self) -> bool:
        """Whether the choice reads an incidence; entropy and the baselines read tokens alone."""
        return self.strategy not in (*BASELINES, *EMBEDDED) and self.objective == "kinds"

    @property
    def reads_band(self) -> bool:
        """Whether the choice reads a band of token types."""
        return self.needs_incidence and self.strategy.startswith("micro-")

    @property
    def needs_embeddings(self) -> bool:
        """Whether the choice reads the embeddings of `component`."""
        return self.strategy in EMBEDDED

    @property
    def reads_embeddings(self) -> bool:
        """Whether the choice reads the embeddings of `component`, or clusters of them."""
        return self.needs_embeddings or self.strategy.startswith("macro-")

    @property
    def index_options(self) -> dict[str, Any]:
        """The options of `index`, with those that are named here."""
        named = {name: getattr(self, name) for name in ("tokenizer", "encoder", "embeddings")}
        named |= {"embed": self.embed}
        named |= {"band": self.band} if self.reads_band else {}
        named |= {"own": {"column": self.kinds_column}} if self.kinds_column else {}
        given = {name: value for name, value in named.items() if value not in (None, {})}
        return {"strategy": self.strategy, **self.index, **given}

    @property
    def embed_options(self) -> dict[str, Any]:
        """The options of `embed`, for strategies that read embeddings."""
        named = {"encoder": self.encoder, "embeddings": self.embeddings}
        given = {name: value for name, value in named.items() if value is not None}
        return self.embed | given | {"components": (self.component,)}

    @property
    def eligibility(self) -> tuple[Hashable, ...]:
        """The options that decide which samples may be picked."""
        floor = None if self.quality is None else self.quality_floor
        return self.exclude, self.must_include, self.quality, floor
