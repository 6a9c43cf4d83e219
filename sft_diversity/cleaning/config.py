"""What `clean` takes out, and what it calls alike."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from sft_diversity.core.config import ENCODER, Config
from sft_diversity.core.corpus import COMPONENTS, Component


class EvalFile(Config):
    """An evaluation file whose fields have names of their own; paths such as `turns.0`."""

    path: str = Field(description="file or folder: JSON list, JSON lines (.gz, .zst) or Parquet")
    prompts: list[str] = Field(default=[], description="paths of prompts; default: by known names")
    references: list[str] = Field(default=[], description="paths of references; default: as above")


class CleanConfig(Config):
    """What is taken out of a corpus; the last three are for YAML files, but for the encoder."""

    minhash: bool = Field(default=True, description="look for near-duplicates by their words")
    jaccard: float = Field(
        default=0.8, gt=0, le=1, description="least Jaccard similarity of two samples' shingles"
    )
    shingle: int = Field(default=3, ge=1, le=32, description="words a shingle")
    component: Literal["both", "instruction", "response"] = Field(
        default="both",
        description="what must be alike; both: the less similar of the two components counts",
    )
    cosine: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="also near-duplicates by embedding, exact, quadratic in the corpus: least "
        "cosine, such as 0.95; default: off",
    )
    clusters: Literal["direct", "chain"] = Field(
        default="direct",
        description="direct: a sample goes only if it is alike to one that stays; "
        "chain: one sample stays of each connected cluster",
    )
    keep: Literal["longest", "first"] = Field(
        default="longest", description="which twin stays: longest response, or first by id"
    )
    against: list[EvalFile | str] = Field(
        default=[], description="evaluation files that no sample may share an n-gram with"
    )
    ngram: int = Field(default=13, ge=2, le=64, description="words of an n-gram that contaminates")
    min_words: int = Field(
        default=8,
        ge=1,
        description="least words of an overlap, boilerplate aside; texts shorter than `ngram` "
        "count whole from here on",
    )
    common: int = Field(
        default=10,
        ge=0,
        description="n-grams in more samples than this are boilerplate: they contaminate only a "
        "sample that holds all of a text",
    )
    permutations: int = Field(default=128, ge=16, le=4096, description="MinHash permutations")
    seed: int = Field(default=0, ge=0, le=2**32 - 1, description="seed of the permutations")
    report_only: bool = Field(default=False, description="write the report, not the corpus")
    encoder: str | None = Field(default=None, description=ENCODER)
    embed: dict[str, Any] = Field(default={}, description="further options of `embed`")
    ingest: dict[str, Any] = Field(default={}, description="options of `ingest`, for raw sources")

    @property
    def components(self) -> tuple[Component, ...]:
        """The components that must be alike."""
        return COMPONENTS if self.component == "both" else (self.component,)

    @property
    def encoding(self) -> dict[str, Any]:
        """Options of the encoder that `cosine` reads."""
        return self.embed | ({"encoder": self.encoder} if self.encoder is not None else {})
