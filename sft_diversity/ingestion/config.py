"""What `ingest` can be told: sources, how to read them, what to keep."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from sft_diversity.core.config import Config
from sft_diversity.ingestion.rows import Limits

Format = Literal[
    "auto",
    "alpaca",
    "gpteacher",
    "dolly",
    "sharegpt",
    "messages",
    "prompt-completion",
    "question-answer",
    "mapping",
]
Turns = Literal["all", "first"]


class Mapping(Config):
    """How to make a sample of rows in no known format: templates over the row's columns.

    `{column}` stands for a column's text, `{a.b}` for a value inside an object, `{a.0}` for a list
    item, `{{` and `}}` for braces. Numbers are written out; lists and objects are refused.
    """

    instruction: str | None = Field(default=None, description="template of the task")
    input: str = Field(
        default="", description="template of what the task works on; may come out empty"
    )
    response: str | None = Field(default=None, description="template of the answer")
    system: str = Field(default="", description="template of the system turn; may come out empty")
    messages: str | None = Field(
        default=None, description="column with a list of turns, in place of these"
    )
    role: str = Field(default="role", description="key of a turn that says who speaks")
    content: str = Field(default="content", description="key of a turn that holds the text")
    roles: dict[str, Literal["system", "user", "assistant", "tool"]] = Field(
        default_factory=dict, description="what other names of speakers mean"
    )

    @model_validator(mode="after")
    def _whole(self) -> Mapping:
        pair = self.instruction is not None and self.response is not None
        if pair == (self.messages is not None):
            raise ValueError("give `instruction` and `response`, or `messages`")
        return self


class Replacement(Config):
    """A text to find and what to put there, in every text that is read from the source."""

    find: str = Field(min_length=1, description="exact text, no pattern")
    replace: str = Field(default="", description="what stands there afterwards")
    where: Literal["end", "anywhere"] = Field(
        default="anywhere", description="`end`: a suffix, once"
    )


class Table(Config):
    """How a CSV or TSV file is laid out."""

    header: bool = Field(default=True, description="whether the first line names the columns")
    columns: list[str] = Field(
        default_factory=list, description="names of the columns where no header does"
    )
    delimiter: str | None = Field(
        default=None,
        min_length=1,
        max_length=1,
        description="default: comma for .csv, tab for .tsv",
    )
    quoting: Literal["minimal", "none"] = Field(
        default="minimal", description='`none`: a line is a row and `"` a letter like any other'
    )

    @model_validator(mode="after")
    def _named(self) -> Table:
        if not self.header and not self.columns:
            raise ValueError("without a header `columns` must name the columns")
        return self


class SourceConfig(Config):
    """One source: files of one format and origin."""

    name: str = Field(description="what `source` says in the samples")
    path: str = Field(
        min_length=1,
        description="file, folder, glob (relative to `root`), or "
        "`hub:org/name[/config[/split]][@revision]`",
    )
    format: Format = Field(default="auto", description="format of a row; `auto` recognises it")
    take: Literal["all"] | Annotated[int, Field(gt=0)] = Field(
        default="all", description="how many samples to keep, drawn by `seed`"
    )
    fill: bool = Field(default=False, description="draw from this one what is missing to `size`")
    mapping: Mapping | None = Field(default=None, description="for `format: mapping`")
    replace: list[Replacement] = Field(default_factory=list, description="applied in this order")
    table: Table = Field(default_factory=lambda: Table.model_validate({}), description="CSV, TSV")
    split: str | None = Field(
        default=None, description="of a `datasets` folder or Hub id; default train"
    )
    domain: str | None = Field(
        default=None, description="kept in the manifest, for reports by domain"
    )
    licence: str | None = Field(default=None, description="kept in the manifest")

    @field_validator("name")
    @classmethod
    def _plain(cls, name: str) -> str:
        if not re.fullmatch(r"[^\W_][\w.+-]{0,99}", name):
            raise ValueError("letters, digits, `_`, `.`, `+` and `-` only, at most 100")
        return name

    @model_validator(mode="after")
    def _mapped(self) -> SourceConfig:
        if (self.format == "mapping") != (self.mapping is not None):
            raise ValueError("`format: mapping` and `mapping` go together")
        return self


class IngestConfig(Config):
    """Options of `ingest`."""

    root: str | None = Field(
        default=None, min_length=1, description="folder that relative source paths start from"
    )
    sources: list[SourceConfig] = Field(default_factory=list, description="in order of precedence")
    turns: Turns = Field(
        default="all", description="`first`: only the first exchange of a dialogue"
    )
    dedup: Literal["exact", "none"] = Field(
        default="exact",
        description="`exact`: equal after NFKC, casefold and white space to one space",
    )
    seed: int = Field(
        default=0, ge=0, description="of the draws that `take`, `fill` and `size` ask for"
    )
    size: int | None = Field(default=None, gt=0, description="samples of the whole corpus")
    max_bad_fraction: float = Field(
        default=0.01, ge=0, le=1, description="share of a source's rows that may go to quarantine"
    )
    max_row_mb: float = Field(default=16, gt=0, description="longer rows go to quarantine unread")
    max_expanded_gb: float = Field(
        default=64, gt=0, description="a compressed file may unpack to no more"
    )
    truncated: Literal["stop", "keep"] = Field(
        default="stop",
        description="`keep`: take what comes before the break in a cut compressed file",
    )

    @model_validator(mode="after")
    def _consistent(self) -> IngestConfig:
        names = [source.name for source in self.sources]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"source names must differ; given twice: {', '.join(twice)}")
        filling = [source.name for source in self.sources if source.fill]
        if len(filling) > 1:
            raise ValueError(f"one source can fill up, not {len(filling)}: {', '.join(filling)}")
        if filling and self.size is None:
            raise ValueError(f"source {filling[0]} fills up to `size`, which is not set")
        return self

    @property
    def limits(self) -> Limits:
        """How much of a file is read before it is called bad."""
        expanded = int(self.max_expanded_gb * (1 << 30))
        return Limits(self.max_row_bytes, expanded, self.truncated == "keep")

    @property
    def max_row_bytes(self) -> int:
        """The row limit in bytes."""
        return int(self.max_row_mb * (1 << 20))


class IngestOptions(IngestConfig):
    """Options of `ingest`."""

    format: Format = Field(default="auto", description="format of the SOURCEs; auto recognises it")
