"""Select: a corpus, its incidence and token passes in; a subset of exactly N samples out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field, model_validator

from sft_diversity.core import corpus as corpora
from sft_diversity.core import folder, incidence, progress, schema
from sft_diversity.core.config import Config
from sft_diversity.core.corpus import COMPONENTS, Component
from sft_diversity.core.errors import DataError
from sft_diversity.core.folder import Work, open_draft, rows_account
from sft_diversity.core.incidence import Incidence
from sft_diversity.select import baselines, figures
from sft_diversity.select.compiled import Rows
from sft_diversity.select.dial import Dial, make_dial
from sft_diversity.select.engine import Fill, choose_at
from sft_diversity.select.entropy import (
    MIN_TOKENS,
    EntropyDial,
    choose_by_entropy,
    make_entropy_dial,
)
from sft_diversity.select.figures import Tokens
from sft_diversity.select.limits import FREE, Limits
from sft_diversity.select.peeling import Peeling, peel

VERSION = 1
STAGE = "select"
_ROWS_PER_FILE = 100_000

Strategy = Literal[
    "macro-instruction",
    "macro-response",
    "meso-instruction",
    "meso-response",
    "micro-instruction",
    "micro-response",
    "random",
    "longest",
]


class SelectConfig(Config):
    """Which samples to keep, and how many."""

    strategy: Strategy = Field(
        description="macro|meso|micro-instruction|response, or the baselines random and longest"
    )
    size: int = Field(gt=0, description="samples to keep, exactly")
    diversity: float = Field(default=100.0, ge=0, le=100, description="percent of the dial's range")
    seed: int = Field(default=0, ge=0, description="redraws what the pool leaves free")
    objective: Literal["kinds", "entropy"] = Field(
        default="kinds", description="kinds covered, or (micro) the token entropy of the subset"
    )
    fill: Fill = Field(
        default="draws", description="how the pool is drawn from: draws, balance or uniform"
    )
    max_per_kind: int | None = Field(
        default=None, ge=1, description="no kind in more picks than this; 1 on meso deduplicates"
    )
    min_tokens: int = Field(
        default=MIN_TOKENS, ge=1, description="entropy only: shorter texts are not eligible"
    )
    match_length: str | None = Field(
        default=None, description="random only: a subset whose response lengths to match"
    )

    @model_validator(mode="after")
    def _options_that_apply(self) -> SelectConfig:
        baseline = self.strategy in ("random", "longest")
        if self.match_length is not None and self.strategy != "random":
            raise ValueError("match_length works with strategy random only")
        if self.objective == "entropy" and not self.strategy.startswith("micro-"):
            raise ValueError("objective entropy works with a micro strategy only")
        if self.max_per_kind is not None and (baseline or self.objective == "entropy"):
            raise ValueError("max_per_kind works with objective kinds of a level only")
        return self

    @property
    def component(self) -> Component:
        """The component whose kinds count; the baselines look at responses."""
        return "instruction" if self.strategy.endswith("-instruction") else "response"

    @property
    def needs_incidence(self) -> bool:
        """Whether the choice reads an incidence; entropy and the baselines read tokens alone."""
        return self.strategy not in ("random", "longest") and self.objective == "kinds"


@dataclass
class Pool:
    """A corpus ready to select from: opened once, it serves any number of subsets.

    Peelings and dials are kept, so that a second diversity, fill or seed costs only its draws.
    """

    corpus: Path
    tokens: Mapping[Component, Tokens]
    keys: Mapping[str, str]
    index_keys: Mapping[str, str]
    incidences: dict[str, Incidence] = field(default_factory=dict)
    _ids: pa.Array | None = None
    _samples: pa.Table | None = None
    _peelings: dict[str, Peeling] = field(default_factory=dict)
    _dials: dict[tuple[str, int, int | None], Dial] = field(default_factory=dict)
    _entropy_dials: dict[tuple[Component, int, int], EntropyDial] = field(default_factory=dict)

    @property
    def n_samples(self) -> int:
        """Rows of the corpus."""
        return len(self.tokens["response"].lengths)

    @property
    def ids(self) -> pa.Array:
        """Sample ids of the corpus, ascending."""
        if self._ids is None:
            self._ids = corpora.read(self.corpus, ["id"])["id"].combine_chunks()
        return self._ids

    def hold_samples(self) -> None:
        """Read the whole corpus into memory: worth it where many subsets are written."""
        self._samples = corpora.read(self.corpus)

    def take(self, rows: Rows) -> pa.Table:
        """Return the samples of `rows`, in that order."""
        if self._samples is not None:
            return self._samples.take(pa.array(rows))
        return corpora.take(self.corpus, rows)

    def dial(self, strategy: str, size: int, cap: int | None) -> Dial:
        """Return the range of the dial, made once for a strategy, size and cap."""
        key = (strategy, size, cap)
        if key not in self._dials:
            if strategy not in self._peelings:
                self._peelings[strategy] = peel(self.incidences[strategy])
            self._dials[key] = make_dial(
                self._peelings[strategy], size, limits=FREE if cap is None else Limits(cap=cap)
            )
        return self._dials[key]

    def entropy_dial(self, component: Component, size: int, min_tokens: int) -> EntropyDial:
        """Return the range of the entropy dial, made once for a component and size."""
        key = (component, size, min_tokens)
        if key not in self._entropy_dials:
            counted = self.tokens[component].incidence
            self._entropy_dials[key] = make_entropy_dial(counted, size, min_tokens=min_tokens)
        return self._entropy_dials[key]


def open_pool(corpus: Path, tokens: Mapping[Component, Path], indexes: Mapping[str, Path]) -> Pool:
    """Open a corpus with its token passes and any number of incidences, by strategy.

    Raises
    ------
    DataError
        If a folder was made from another corpus.
    """
    key = corpora.key(corpus)
    keys = {"corpus": key}
    passes: dict[Component, Tokens] = {}
    for component in COMPONENTS:
        path = tokens[component]
        keys[f"tokens-{component}"] = _checked(path, "tokens", key)
        lengths = np.load(path / "lengths.npy", mmap_mode="r", allow_pickle=False)
        passes[component] = Tokens(incidence.load(path), lengths)
    found, index_keys = {}, {}
    for strategy, path in indexes.items():
        index_keys[strategy] = _checked(path, "index", key)
        found[strategy] = incidence.load(path)
    return Pool(corpus, passes, keys, index_keys, found)


def _checked(path: Path, stage: str, corpus_key: str) -> str:
    """Return the contents' key of a folder that was made from this corpus."""
    manifest = folder.read_manifest(path, stage)
    if manifest["inputs"].get("corpus") != corpus_key:
        raise DataError(f"select: {path} was made from another corpus; make it anew")
    return folder.contents_key(manifest)


def choose(pool: Pool, config: SelectConfig) -> tuple[Rows, dict[str, Any]]:
    """Return the picked rows in pick order and the figures of the choice.

    Raises
    ------
    DataError
        If the pool has fewer samples that qualify than `size`.
    """
    if config.size > pool.n_samples:
        raise DataError(
            f"select: size is {config.size:,} but the corpus has {pool.n_samples:,} samples; "
            "lower --size or ingest more"
        )
    if config.needs_incidence:
        rows, made = _by_kinds(pool, config)
    elif config.objective == "entropy":
        rows, made = _by_entropy(pool, config)
    else:
        rows, made = _baseline(pool, config)
    return rows, made | figures.describe(rows, pool.tokens, config.component)


def _by_kinds(pool: Pool, config: SelectConfig) -> tuple[Rows, dict[str, Any]]:
    dial = pool.dial(config.strategy, config.size, config.max_per_kind)
    chosen = choose_at(dial, config.diversity, fill=config.fill, seed=config.seed)
    names = (
        "kinds_total", "k_min", "k_max", "free_k_min", "free_k_max", "kinds_target",
        "kinds_covered", "coverage_bound", "pool", "eligible", "no_kind",
    )  # fmt: skip
    made = {name: getattr(chosen, name) for name in names}
    return chosen.rows, made | {"evenness": round(chosen.evenness, 6)}


def _by_entropy(pool: Pool, config: SelectConfig) -> tuple[Rows, dict[str, Any]]:
    dial = pool.entropy_dial(config.component, config.size, config.min_tokens)
    chosen = choose_by_entropy(dial, config.diversity, seed=config.seed)
    made = {
        "target_bits": round(chosen.target_bits, 6),
        "low_bits": round(chosen.low_bits, 6),
        "tilt_bits": round(chosen.tilt_bits, 6),
        "high_bits": round(chosen.high_bits, 6),
        "target_missed": chosen.missed,
        "beta": round(chosen.beta, 6),
        "greedy_picks": chosen.greedy_picks,
        "eligible": chosen.eligible,
        "too_short": chosen.too_short,
    }
    return chosen.rows, made


def _baseline(pool: Pool, config: SelectConfig) -> tuple[Rows, dict[str, Any]]:
    lengths = np.asarray(pool.tokens["response"].lengths)
    if config.strategy == "longest":
        return baselines.longest_rows(lengths, config.size), {}
    if config.match_length is None:
        rows = np.arange(pool.n_samples)
        return baselines.random_rows(rows, config.size, config.seed), {}
    reference = _reference_lengths(pool, config.match_length)
    match = baselines.match_lengths(lengths, reference, config.size, config.seed)
    made = {
        "length_bins": {
            "up_to": match.edges.tolist(),
            "wanted": match.wanted.tolist(),
            "got": match.got.tolist(),
        }
    }
    return match.rows, made


def _reference_lengths(pool: Pool, match_length: str) -> npt.NDArray[np.int32]:
    """Return the response lengths of the subset to match, read by id from the token pass."""
    subset = Path(match_length)
    folder.read_manifest(subset, STAGE)
    ids = pa.concat_tables([pq.read_table(p, columns=["id"]) for p in files_of(subset)])["id"]
    places = pc.index_in(ids, value_set=pool.ids)
    if places.null_count:
        raise DataError(
            f"select: {subset} has {places.null_count:,} samples that are not in this corpus; "
            "match a subset of the same corpus"
        )
    lengths: npt.NDArray[np.int32] = np.asarray(pool.tokens["response"].lengths)[places.to_numpy()]
    return lengths


def select(
    pool: Pool,
    out: Path,
    config: SelectConfig,
    say: Callable[[str], None] = progress.say,
) -> dict[str, Any]:
    """Choose a subset, write it to `out`, return the manifest.

    `out` holds `samples/*.parquet` (schema SUBSET, in pick order). The manifest's `result` has
    every achieved figure.
    """
    draft = open_draft(out, _work(pool, config))
    say(f"select: {draft.reason}")
    if draft.reused:
        return folder.read_manifest(out)
    rows, result = choose(pool, config)
    samples = pool.take(rows)
    subset = samples.append_column("pick", pa.array(range(len(rows)), pa.int32()))
    subset = schema.check(subset, schema.SUBSET, STAGE)
    for start in range(0, len(rows), _ROWS_PER_FILE):
        name = f"samples/{start // _ROWS_PER_FILE:05}.parquet"
        draft.write_table(name, subset.slice(start, _ROWS_PER_FILE))
    named = ("strategy", "objective", "fill", "diversity", "seed", "max_per_kind")
    result = {name: getattr(config, name) for name in named} | {"rows": len(rows)} | result
    result["sources"] = figures.source_mix(samples)
    result["licences"] = {
        name: licence
        for name, licence in corpora.licences(pool.corpus).items()
        if name in result["sources"]
    }
    return draft.commit(
        rows=rows_account(pool.n_samples, len(rows), {"not_picked": pool.n_samples - len(rows)}),
        seeds={"seed": config.seed},
        result=result,
    )


def files_of(subset: Path) -> list[Path]:
    """Return a subset's Parquet files in pick order."""
    return sorted((subset / "samples").glob("*.parquet"))


def _work(pool: Pool, config: SelectConfig) -> Work:
    inputs = dict(pool.keys)
    options = config.model_dump(mode="json")
    if config.needs_incidence:
        inputs["incidence"] = pool.index_keys[config.strategy]
    if config.match_length is not None:
        matched = folder.read_manifest(Path(config.match_length), STAGE)
        inputs["match_length"] = folder.contents_key(matched)
        options["match_length"] = "given"  # a path is no content
    return Work(STAGE, VERSION, inputs, options)
