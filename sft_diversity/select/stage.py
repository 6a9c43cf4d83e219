"""Select: a corpus, its incidence and token passes in; a subset of exactly N samples out."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field, model_validator

from sft_diversity.core import corpus as corpora
from sft_diversity.core import folder, incidence, progress, schema, vectors
from sft_diversity.core.corpus import COMPONENTS, Component
from sft_diversity.core.errors import DataError
from sft_diversity.core.folder import Work, open_draft, rows_account
from sft_diversity.core.hashing import content_key
from sft_diversity.core.incidence import Incidence
from sft_diversity.core.vectors import Vectors
from sft_diversity.select import baselines, constraints, figures, repr_filter
from sft_diversity.select.compiled import NO_ROWS, Rows
from sft_diversity.select.constraints import Eligible, LimitOptions
from sft_diversity.select.dial import Dial, make_dial
from sft_diversity.select.engine import Fill, choose_at
from sft_diversity.select.entropy import (
    MIN_TOKENS,
    EntropyDial,
    choose_by_entropy,
    make_entropy_dial,
)
from sft_diversity.select.facility import facility_bound, facility_location
from sft_diversity.select.figures import Tokens
from sft_diversity.select.kcenter import k_center
from sft_diversity.select.limits import Limits
from sft_diversity.select.neighbours import neighbour_graph
from sft_diversity.select.peeling import Peeling, peel

VERSION = 2
STAGE = "select"
_ROWS_PER_FILE = 100_000
T = TypeVar("T")

_LIMITS = ("match_length", "token_budget", "quota", "must_include")  # beside max_per_kind

Strategy = Literal[
    "macro-instruction",
    "macro-response",
    "meso-instruction",
    "meso-response",
    "micro-instruction",
    "micro-response",
    "random",
    "longest",
    "k-center",
    "facility-location",
    "deita",
]
BASELINES = ("random", "longest")
EMBEDDED = ("k-center", "facility-location", "deita")  # baselines that read embeddings


class SelectConfig(LimitOptions):
    """Which samples to keep, and how many."""

    strategy: Strategy = Field(
        description="macro|meso|micro-instruction|response, or a baseline: random, longest, "
        "k-center, facility-location, deita"
    )
    diversity: float = Field(default=100.0, ge=0, le=100, description="percent of the dial's range")
    seed: int = Field(default=0, ge=0, description="redraws what the pool leaves free")
    objective: Literal["kinds", "entropy"] = Field(
        default="kinds", description="kinds covered, or (micro) the token entropy of the subset"
    )
    fill: Fill = Field(
        default="draws", description="how the pool is drawn from: draws, balance or uniform"
    )
    min_tokens: int = Field(
        default=MIN_TOKENS, ge=1, description="entropy only: shorter texts are not eligible"
    )

    embedded: Component = Field(
        default="response", description="k-center, facility-location, deita: whose embeddings"
    )
    threshold: float = Field(
        default=repr_filter.THRESHOLD,
        ge=-1,
        le=1,
        description="deita: greatest cosine to an earlier pick; `quality` is the order",
    )

    @model_validator(mode="after")
    def _options_that_apply(self) -> SelectConfig:
        baseline = self.strategy in (*BASELINES, *EMBEDDED)
        limited = [name for name in _LIMITS if getattr(self, name) is not None]
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
        return self

    @property
    def component(self) -> Component:
        """The component whose kinds count, or whose embeddings; of random and longest responses."""
        if self.strategy in EMBEDDED:
            return self.embedded
        return "instruction" if self.strategy.endswith("-instruction") else "response"

    @property
    def needs_incidence(self) -> bool:
        """Whether the choice reads an incidence; entropy and the baselines read tokens alone."""
        return self.strategy not in (*BASELINES, *EMBEDDED) and self.objective == "kinds"

    @property
    def needs_embeddings(self) -> bool:
        """Whether the choice reads the embeddings of `component`."""
        return self.strategy in EMBEDDED


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
    scores: dict[str, npt.NDArray[np.float64]] = field(default_factory=dict)
    embeddings: dict[Component, Path] = field(default_factory=dict)
    _ids: pa.Array | None = None
    _samples: pa.Table | None = None
    _kept: dict[Hashable, Any] = field(default_factory=dict)

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

    @property
    def source(self) -> constraints.Source:
        """What constraints are read from."""
        lengths = np.asarray(self.tokens["response"].lengths)
        return constraints.Source(self.corpus, self.ids, lengths, self.scores)

    def hold_samples(self) -> None:
        """Read the whole corpus into memory: worth it where many subsets are written."""
        self._samples = corpora.read(self.corpus)

    def take(self, rows: Rows) -> pa.Table:
        """Return the samples of `rows`, in that order."""
        if self._samples is not None:
            return self._samples.take(pa.array(rows))
        return corpora.take(self.corpus, rows)

    def points(self, component: Component) -> Vectors:
        """Return the unit vectors of a component, in corpus order."""
        place = self.embeddings[component]
        return self._once(
            ("points", component), lambda: vectors.read_component(place, component)[1]
        )

    def eligible(self, config: SelectConfig) -> Eligible | None:
        """Return which samples may be picked; None where no option restricts them."""
        key = ("eligible", *_eligibility(config))
        if key[1:] == (None, None, None, None):
            return None
        return self._once(key, lambda: constraints.eligible(self.source, config))

    def peeling(self, config: SelectConfig, *, free: bool = False) -> Peeling:
        """Return the peeling of the eligible samples, or (`free`) of all."""
        eligible = None if free else self.eligible(config)
        if eligible is None:
            key: Hashable = ("peeling", config.strategy)
            return self._once(key, lambda: peel(self.incidences[config.strategy]))
        return self._once(
            ("peeling", config.strategy, *_eligibility(config)),
            lambda: peel(self.incidences[config.strategy].only(eligible.mask)),
        )

    def limits(self, config: SelectConfig, rows: Rows) -> tuple[Limits, dict[str, Any]]:
        """Return what subsets of the eligible `rows` keep to."""
        eligible = self.eligible(config)
        kept = NO_ROWS if eligible is None else eligible.kept
        rows = np.union1d(rows, kept)
        return constraints.limits(self.source, config, rows, kept)

    def dial(self, config: SelectConfig) -> tuple[Dial, dict[str, Any]]:
        """Return the range of the dial and how its limits read, made once for equal options."""

        def free() -> Dial:
            return self._once(
                ("dial", config.strategy, config.size),
                lambda: make_dial(self.peeling(config, free=True), config.size),
            )

        names = ("strategy", "size", "max_per_kind", *_LIMITS)
        asked = tuple(getattr(config, name) for name in names)
        if self.eligible(config) is None and not any(asked[2:]):
            return free(), {}

        def limited() -> tuple[Dial, dict[str, Any]]:
            peeling = self.peeling(config)
            limits, said = self.limits(config, peeling.pool(0))
            if limits.quotas is not None:  # peeled so that every pool can serve them
                made = Incidence(peeling.indptr, peeling.indices, peeling.indices, peeling.n_kinds)
                peeling = peel(made, limits.quotas, limits.kept)
            return make_dial(peeling, config.size, limits=limits, free=free()), said

        return self._once(("dial", *asked, *_eligibility(config)), limited)

    def _once(self, key: Hashable, make: Callable[[], T]) -> T:
        if key not in self._kept:
            self._kept[key] = make()
        made: T = self._kept[key]
        return made

    def entropy_dial(self, config: SelectConfig) -> EntropyDial:
        """Return the range of the entropy dial, made once for equal options."""
        eligible = self.eligible(config)
        counted = self.tokens[config.component].incidence
        mask = None if eligible is None else eligible.mask
        return self._once(
            ("entropy", config.component, config.size, config.min_tokens, *_eligibility(config)),
            lambda: make_entropy_dial(
                counted if mask is None else counted.only(mask),
                config.size,
                min_tokens=config.min_tokens,
            ),
        )


def open_pool(
    corpus: Path,
    tokens: Mapping[Component, Path],
    indexes: Mapping[str, Path],
    embeddings: Mapping[Component, Path] | None = None,
) -> Pool:
    """Open a corpus with its token passes, any incidences by strategy, and embeddings if needed.

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
    for component, path in (embeddings or {}).items():
        _checked(path, "embed", key)
        keys[f"embeddings-{component}"] = vectors.key(path, component)
    return Pool(corpus, passes, keys, index_keys, found, embeddings=dict(embeddings or {}))


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
    elif config.needs_embeddings:
        rows, made = _by_embedding(pool, config)
    elif config.objective == "entropy":
        rows, made = _by_entropy(pool, config)
    else:
        rows, made = _baseline(pool, config)
    return rows, made | figures.describe(rows, pool.tokens, config.component)


def _by_kinds(pool: Pool, config: SelectConfig) -> tuple[Rows, dict[str, Any]]:
    dial, said = pool.dial(config)
    chosen = choose_at(dial, config.diversity, fill=config.fill, seed=config.seed)
    names = (
        "kinds_total", "k_min", "k_max", "free_k_min", "free_k_max", "k_min_bound", "k_max_bound",
        "kinds_target", "kinds_covered", "coverage_bound", "share_of_optimum", "pool", "eligible",
        "no_kind",
    )  # fmt: skip
    made = {name: getattr(chosen, name) for name in names} | {"evenness": round(chosen.evenness, 6)}
    eligible = pool.eligible(config)
    if eligible is not None:  # those that may not be picked stand apart
        made["no_kind"] = int(eligible.mask.sum()) - chosen.eligible
    if chosen.objective is not None:
        made |= {"objective_value": chosen.objective, "objective_bound": chosen.objective_bound}
    return chosen.rows, made | _limited(pool, config, dial.limits, said, chosen.rows)


def _limited(
    pool: Pool, config: SelectConfig, limits: Limits, said: dict[str, Any], rows: Rows
) -> dict[str, Any]:
    """Return how the constraints were met; nothing where there were none."""
    eligible = pool.eligible(config)
    told = dict(said) | constraints.achieved(pool.source, limits, config, rows, eligible)
    return {"limits": told} if told else {}


def _by_entropy(pool: Pool, config: SelectConfig) -> tuple[Rows, dict[str, Any]]:
    dial = pool.entropy_dial(config)
    chosen = choose_by_entropy(dial, config.diversity, seed=config.seed)
    made = {
        "target_bits": round(chosen.target_bits, 6),
        "low_bits": round(chosen.low_bits, 6),
        "tilt_bits": round(chosen.tilt_bits, 6),
        "high_bits": round(chosen.high_bits, 6),
        "entropy_bound": round(dial.bound_bits, 6),
        "target_missed": chosen.missed,
        "beta": round(chosen.beta, 6),
        "greedy_picks": chosen.greedy_picks,
        "eligible": chosen.eligible,
        "too_short": chosen.too_short,
    }
    return chosen.rows, made


def _baseline(pool: Pool, config: SelectConfig) -> tuple[Rows, dict[str, Any]]:
    """Return random or the longest samples within the limits; no kind plays a part."""
    eligible = pool.eligible(config)
    rows = np.arange(pool.n_samples) if eligible is None else np.flatnonzero(eligible.mask)
    limits, said = pool.limits(config, rows)
    if config.strategy == "longest":
        lengths = np.asarray(pool.tokens["response"].lengths)
        order = baselines.longest_first(rows, lengths)
    else:
        order = baselines.random_order(rows, config.seed)
    picks = baselines.first_within(order, config.size, limits, config.seed)
    return picks, {"eligible": len(rows)} | _limited(pool, config, limits, said, picks)


def _by_embedding(pool: Pool, config: SelectConfig) -> tuple[Rows, dict[str, Any]]:
    """Return what a baseline on embeddings picks of the eligible samples."""
    free = config if config.strategy != "deita" else config.model_copy(update={"quality": None})
    eligible = pool.eligible(free)
    rows = np.arange(pool.n_samples) if eligible is None else np.flatnonzero(eligible.mask)
    if config.size > len(rows):
        raise DataError(
            f"select: size is {config.size:,} but only {len(rows):,} samples are eligible; "
            "lower the size"
        )
    points = pool.points(config.component)[rows]
    made: dict[str, Any] = {"eligible": len(rows), "embedded": config.component}
    if config.strategy == "k-center":
        centres = k_center(points, config.size)
        return rows[centres.rows], made | {"radius": round(centres.radius, 6)}
    if config.strategy == "facility-location":
        graph = neighbour_graph(points)
        found = facility_location(graph, config.size)
        bound = facility_bound(graph, found)
        made |= {"objective_value": round(found.value, 6), "objective_bound": round(bound, 6)}
        return rows[found.rows], made
    scores = constraints.quality_of(pool.source, config.quality or "length")[rows]
    order = np.argsort(-np.where(np.isfinite(scores), scores, -np.inf), kind="stable")
    picks = repr_filter.repr_filter(points, order, config.size, threshold=config.threshold)
    if len(picks) < config.size:
        raise DataError(
            f"select: only {len(picks):,} samples are below cosine {config.threshold:g} to every "
            f"better one, size is {config.size:,}; raise --threshold or lower the size"
        )
    return rows[picks], made | {"threshold": config.threshold}


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


def rows_of(pool: Pool, subset: Path) -> Rows:
    """Return the corpus rows of a subset, in pick order."""
    ids = pa.concat_tables([pq.read_table(path, columns=["id"]) for path in files_of(subset)])["id"]
    rows: Rows = pc.index_in(ids, value_set=pool.ids).to_numpy().astype(np.int64)
    return rows


def _eligibility(config: SelectConfig) -> tuple[Hashable, ...]:
    """The options that decide which samples may be picked."""
    floor = None if config.quality is None else config.quality_floor
    return config.exclude, config.must_include, config.quality, floor


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
        if given is not None and given != constraints.CORPUS:
            inputs[name] = constraints.content_of(given)
            options[name] = "given"  # a path is no content
    if config.quality in pool.scores:
        inputs["quality"] = content_key(pool.scores[config.quality].tobytes().hex())
    return Work(STAGE, VERSION, inputs, options)
