"""The options of `study`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from sft_diversity.core import config as configs
from sft_diversity.core.config import Config
from sft_diversity.core.errors import SftdivError
from sft_diversity.scoring.generate.config import GenerateConfig
from sft_diversity.scoring.stage import ScoreConfig
from sft_diversity.selection import grid as grids
from sft_diversity.training.config import FinetuneConfig
from sft_diversity.verbs.measuring import MeasureOptions

STAGE = "study"
Regime = Literal["A", "B"]
Quantity = Literal["steps", "tokens"]
AXES = ("strategy", "size", "diversity", "seed")
COMMON = "common"
_BLOCKS = ("ingest", "select", "finetune", "score", "generate", "measure")


class Baselines(Config):
    """What the strategies are compared with."""

    base: bool = Field(True, description="the model itself, not fine-tuned; scored once")
    random: int = Field(3, ge=0, description="draws over all samples")
    random_common: int = Field(
        3, ge=0, description="draws over the samples that every strategy of the grid may pick"
    )
    longest: bool = Field(True, description="the longest responses; regime A only")

    @model_validator(mode="before")
    @classmethod
    def _no_key_of_old(cls, given: Any) -> Any:
        if isinstance(given, dict) and "random_eligible" in given:
            raise ValueError("random_eligible is random_common now")
        return given


class Noise(Config):
    """One cell that is trained with further seeds, to size the noise of training."""

    strategy: str = Field(description="strategy of the cell")
    diversity: float = Field(description="its diversity")
    size: int | None = Field(None, description="its size; default: the grid's first")
    seed: int | None = Field(None, description="its draw seed; default: the grid's first")
    train_seeds: int = Field(5, ge=2, description="training seeds in all")
    regimes: tuple[Regime, ...] | None = Field(None, description="default: all of the study's")


class StudyConfig(Config):
    """Which cells, how each is trained and scored.

    In the blocks `ingest`, `select`, `finetune`, `score`, `generate` and `measure` the key `config`
    names a YAML file of that stage, relative to the study's; the other keys override it.
    """

    corpus: str | None = Field(
        None, description="corpus folder; default: made by the block `ingest` in the study"
    )
    ingest: dict[str, Any] = Field({}, description="options of `ingest`")
    grid: dict[str, list[Any]] = Field(
        description="strategy, diversity, size and seed (of the draw): each a list of values"
    )
    train_seeds: tuple[int, ...] = Field((0,), min_length=1, description="seeds of training")
    regimes: tuple[Regime, ...] = Field(
        ("A", "B"),
        min_length=1,
        description="A: equal samples × epochs; B: response lengths held as well",
    )
    match: str = Field(
        COMMON,
        description="whose response lengths regime B holds: those of the samples that every "
        "strategy of the grid may pick (common), of those that each may pick (eligible), of the "
        "corpus (corpus), or of a subset (its folder)",
    )
    whole_samples: tuple[Regime, ...] = Field(
        ("B",),
        description="regimes that leave out samples longer than finetune.max_length: what is cut "
        "off follows the dial, and lengths held in a subset are then not those that are trained on",
    )
    baselines: Baselines = Field(Baselines(), description="base, random, random_common, longest")
    noise: Noise | None = Field(None, description="a cell with further training seeds")
    select: dict[str, Any] = Field({}, description="options of `select` for all subsets")
    finetune: dict[str, Any] = Field({}, description="options of `finetune` for all runs")
    score: dict[str, Any] = Field({}, description="options of `score` for all runs")
    generate: dict[str, Any] | None = Field(
        None,
        description="options of `score --suite generate`: every run is also scored by what its "
        "answers do, and fits read that",
    )
    measure: dict[str, Any] = Field({}, description="options of `measure` for all subsets")
    metrics: bool = Field(True, description="measure every subset")
    allow_unequal: dict[Regime, tuple[Quantity, ...]] = Field(
        {"A": ("tokens",)},
        description="in which regime cells may differ by more than 5 % in steps or tokens; "
        "equal samples differ in tokens by nature",
    )
    budget: float | None = Field(
        None,
        gt=0,
        description="hours of runs: a race spends them where the answer is open; default: the "
        "whole grid",
    )
    sure: float = Field(
        0.95, ge=0.5, le=0.999, description="how sure an answer must be for a race to leave it"
    )
    keep_models: bool = Field(False, description="keep the weights once a model is scored")
    jobs: int | None = Field(
        None,
        ge=1,
        description="runs at a time, shared out over GPUs; default: one a GPU, else "
        "cores / threads",
    )
    threads: int = Field(1, ge=1, description="threads of a run; results depend on them slightly")

    @field_validator("grid", mode="before")
    @classmethod
    def _grid(cls, given: Any) -> Any:
        if not isinstance(given, str | dict):
            raise ValueError("must be axes with lists of values, or text as select's --grid")
        try:
            axes = grids.parse_grid(given)
        except SftdivError as fault:
            raise ValueError(str(fault)) from None
        axes.setdefault("seed", [0])
        if set(axes) != set(AXES):
            raise ValueError(f"must have the axes {', '.join(AXES)}, it has {', '.join(axes)}")
        known = (*grids.STRATEGIES, *grids.FURTHER)
        unknown = [one for one in axes["strategy"] if one not in known]
        if unknown:
            raise ValueError(f"strategy {unknown[0]!r} has no dial; known: {', '.join(known)}")
        return axes

    @field_validator("train_seeds", "regimes", "whole_samples")
    @classmethod
    def _distinct(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        if len(set(values)) < len(values):
            raise ValueError("a value is there twice")
        return values

    @model_validator(mode="after")
    def _blocks_fit(self) -> StudyConfig:
        if (self.corpus is None) == (not self.ingest):
            raise ValueError("give one of corpus and ingest")
        for block, taken in (
            ("select", {"grid", "match_length", "exclude", *AXES}),
            ("finetune", {"train_seed"}),
        ):
            both = taken & set(getattr(self, block))
            if both:
                raise ValueError(f"{block}.{min(both)} is the study's own; take it out")
        unequal = {"eval_share", "early_stopping", "sets", "weights"} & set(self.finetune)
        if unequal:
            raise ValueError(
                f"finetune.{min(unequal)} would let runs read unlike amounts; take it out "
                "(eval_data may be given)"
            )
        if self.noise is not None:
            for axis, value in (
                ("strategy", self.noise.strategy),
                ("size", self.noise.size),
                ("diversity", self.noise.diversity),
                ("seed", self.noise.seed),
            ):
                if value is not None and value not in self.grid[axis]:
                    raise ValueError(f"noise: {axis} {value} is not in the grid")
        return self

    @property
    def finetuning(self) -> FinetuneConfig:
        """The options of all runs but for the seed."""
        return configs.build(FinetuneConfig, self.finetune, "study, block `finetune`")

    @property
    def scoring(self) -> ScoreConfig:
        """The options of all scores: in float32 where nothing else is said, on a GPU too.

        Differences between the models of a study are small.
        """
        options = {"dtype": "float32"} | self.score
        if options["dtype"] == "auto":
            options["dtype"] = "float32"
        return configs.build(ScoreConfig, options, "study, block `score`")

    @property
    def generating(self) -> GenerateConfig | None:
        """The options of all scores by generation, None where there are none."""
        if self.generate is None:
            return None
        return configs.build(GenerateConfig, self.generate, "study, block `generate`")


def load_study(path: Path, overrides: Mapping[str, Any]) -> StudyConfig:
    """Return the study of a YAML file, the files that it names read and paths resolved.

    Raises
    ------
    UsageError
        If a file is missing, or an option of any block is unknown or wrong.
    """
    asked = {name: value for name, value in overrides.items() if value is not None}
    given = configs.read_yaml(path) | asked
    for block in _BLOCKS:  # of an override too: `--set finetune.lr=1` has the whole block
        options = given.get(block)
        if isinstance(options, dict) and isinstance(options.get("config"), str):
            named = configs.read_yaml(path.parent / options["config"])
            given[block] = named | {k: v for k, v in options.items() if k != "config"}
    if "corpus" in asked:
        given.pop("ingest", None)
    elif isinstance(given.get("corpus"), str):
        given["corpus"] = str(path.parent / given["corpus"])
    study = configs.build(StudyConfig, given, f"config {path}")
    _ = study.finetuning, study.scoring, study.generating
    configs.build(MeasureOptions, study.measure, "study, block `measure`")
    return study
