"""Meso level: kinds are instruction units, short phrases that say what a sample is about."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from sft_diversity.core import drafts, extras, neighbours, numbers, progress, stopping
from sft_diversity.core.config import Config
from sft_diversity.core.errors import DataError
from sft_diversity.core.stage import Ask, Job
from sft_diversity.endpoint.config import EndpointConfig, check_endpoint
from sft_diversity.levels.base import PARTS, Encode, Indexed, of_named_kinds
from sft_diversity.levels.merging import merge_to_leaders
from sft_diversity.levels.reading import shards_of
from sft_diversity.levels.tag_prompt import PROMPT
from sft_diversity.levels.tag_units import make_from_tags
from sft_diversity.levels.tagging import TagOptions

if TYPE_CHECKING:
    from sft_diversity.levels.stage import IndexConfig

_STAGE = "index"
_ENCODE_BLOCK = 4_096
_OF_PHRASES = frozenset({"max_share", "least_score"})
_OF_TAGS = frozenset({"extractor", "endpoint", "tags"})


def _merge_here() -> Literal["encoder", "none"]:
    """Return how near-synonyms merge where nobody says: it counts in keys as it comes out."""
    return "encoder" if extras.has("sentence_transformers") else "none"


class MesoOptions(Config):
    """How units are found, how many a sample holds, and which are one kind."""

    extractor: Literal["phrases", "llm"] = Field(
        default="phrases", description="units are key phrases of the text, or tags a model gives it"
    )
    endpoint: EndpointConfig | None = Field(
        default=None, description="extractor llm: the model that tags"
    )
    tags: TagOptions = Field(
        default_factory=TagOptions, description="extractor llm: how it tags and how tags merge"
    )
    language: str = Field(
        default="en",
        description="whose lemmas: a language code of simplemma, or none; "
        "the lists of function words are English",
    )
    min_samples: int | None = Field(
        default=None,
        ge=1,
        description="fewest samples that hold a unit; "
        "none: the decimal logarithm of the corpus size, 2 to 5",
    )
    max_share: float = Field(
        default=0.02, gt=0, le=1, description="largest share of samples that hold a unit"
    )
    max_units: int = Field(default=7, ge=1, le=64, description="most units of a sample")
    least_score: float = Field(
        default=0.25,
        ge=0,
        le=1,
        description="least score of a unit, as a share of its sample's best",
    )
    merge: Literal["encoder", "none"] = Field(
        default_factory=_merge_here,
        description="merge near-synonyms by the encoder's cosine, or not; "
        "default: encoder, none where the extra `embed` is not installed",
    )
    threshold: float = Field(
        default=0.88, gt=0, le=1, description="least cosine at which two units are one kind"
    )

    @model_validator(mode="after")
    def _tagger_is_named(self) -> MesoOptions:
        if self.extractor == "llm" and self.endpoint is None:
            raise ValueError("extractor llm needs a block `endpoint` with url and model")
        return self

    @model_serializer(mode="wrap")
    def _of_the_extractor(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what the other extractor reads: it is part of no key."""
        others = _OF_PHRASES if self.extractor == "llm" else _OF_TAGS
        return {name: value for name, value in dump(self).items() if name not in others}

    def bounds(self, n_samples: int) -> tuple[int, int]:
        """Return the fewest and the most samples of a unit, for a corpus of `n_samples`.

        Small corpora keep units that few samples hold, and drop none below 100 as too common.
        """
        least = self.min_samples or max(2, min(5, round(math.log10(max(n_samples, 1)))))
        return least, max(int(self.max_share * n_samples), min(n_samples, 100))


class Meso:
    """Level over the text alone; an encoder merges near-synonyms."""

    def needs(self, config: IndexConfig, ask: Ask) -> None:
        """Read the word pass or a model's tags, and an encoder if units are to be merged."""
        options = config.meso
        if options.extractor == "llm":
            assert options.endpoint is not None  # the options check it
            check_endpoint(options.endpoint, _STAGE)
            ask.key("prompt", PROMPT)
        else:
            ask.stage("words", "words", {"component": config.component})
        if options.merge == "encoder":
            ask.tool("encoder", "encoder", config.encoding)
            neighbours.count_engine(ask)

    def make(self, job: Job[IndexConfig]) -> Indexed:
        """Return the incidence of units."""
        options = job.config.meso

        def encode(names: Sequence[str]) -> npt.NDArray[np.float32]:
            return encode_units(job.draft, names, job.tools["encoder"])

        if "none" == options.merge == _merge_here():
            job.say(
                f"{job.label}: near-synonyms stay kinds of their own (meso.merge: none); with "
                f"{extras.install('embed')} they merge"
            )
        if options.extractor == "llm":
            return make_from_tags(job, encode)
        from sft_diversity.levels import passes  # numba takes its time to load
        from sft_diversity.levels.choosing import Chooser
        from sft_diversity.levels.units import choose_units

        shards, ids = shards_of(job.inputs["words"].path)
        bounds = options.bounds(len(ids))
        ground = passes.survey(shards, bounds, options.language)
        counted = passes.count_ngrams(shards, ground)
        units = choose_units(
            counted.table, ground.normal_samples, ground.normal_bits, len(ids), bounds
        )
        if not len(units.keys):
            raise DataError(
                f"index: meso finds no unit that {bounds[0]} to {bounds[1]} of {len(ids):,} "
                "samples hold; lower meso.min_samples or ingest more data"
            )
        names = passes.unit_names(counted, ground, units.keys)
        held = passes.hold_units(shards, ground, units.keys)
        chooser = Chooser(
            units,
            held,
            len(ids),
            min_samples=bounds[0],
            max_units=options.max_units,
            least_score=options.least_score,
        )
        usage = chooser.usage()
        standing = usage >= bounds[0]
        figures = {
            "units_raw": len(counted.raw),
            "units_normalised": int((counted.table.candidate > 0).sum()),
            "units_frequent": len(units.keys),
            "units_chosen": int(standing.sum()),
            "min_samples": bounds[0],
            "max_samples": bounds[1],
        }
        kind_of = _kinds(options, encode, names, usage, standing)
        figures["units_merged"] = len(np.unique(kind_of[standing]))
        picked = chooser.final(kind_of)
        leaders, kinds = np.unique(kind_of[held.units[picked]], return_inverse=True)
        place = np.full(len(names) + 1, -1)  # the last is that of -1, a unit that fell out
        place[leaders] = np.arange(len(leaders))
        incidence, table = of_named_kinds(
            [names[unit] for unit in leaders.tolist()],
            (held.rows[picked], kinds, held.counts[picked]),
            len(ids),
            (names, place[kind_of]),
        )
        return Indexed(incidence, ids, table, figures | {"units_kept": len(leaders)})


def _kinds(
    options: MesoOptions,
    encode: Encode,
    names: Sequence[str],
    usage: npt.NDArray[np.int64],
    standing: npt.NDArray[np.bool_],
) -> npt.NDArray[np.int32]:
    """Return the kind of each unit: its leader after merging, -1 for a unit that fell out."""
    kind_of = np.where(standing, np.arange(len(standing)), -1).astype(np.int32)
    if options.merge == "encoder":
        places = np.flatnonzero(standing)
        vectors, on = encode([names[i] for i in places.tolist()]), neighbours.engine()
        kind_of[places] = places[merge_to_leaders(vectors, usage[places], options.threshold, on)]
    return kind_of


def encode_units(
    draft: drafts.Draft, names: Sequence[str], encode: Encode
) -> npt.NDArray[np.float32]:
    """Return the unit vectors of the units' names; finished blocks are kept in the draft."""
    blocks = []
    with progress.progress("index meso: unit vectors", len(names), "units") as bar:
        for start in range(0, len(names), _ENCODE_BLOCK):
            stopping.safe_point(_STAGE)
            part = names[start : start + _ENCODE_BLOCK]
            name = f"{PARTS}/vectors-{start:08d}.npy"
            if not draft.has(name):
                block = np.asarray(encode(part), dtype=np.float32)
                with draft.writing(name) as path:
                    numbers.save_array(path, block)
            blocks.append(np.load(draft.path / name, allow_pickle=False))
            bar.advance(len(part))
    vectors: npt.NDArray[np.float32] = np.concatenate(blocks)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return vectors
