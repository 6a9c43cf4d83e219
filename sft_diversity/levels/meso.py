"""Meso level: kinds are instruction units, short phrases that say what a sample is about."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from sft_diversity.core import folder, parts, progress, stopping
from sft_diversity.core.config import Config
from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.endpoint.config import EndpointConfig
from sft_diversity.levels.base import PARTS, VERSION, Made, Sources, of_named_kinds
from sft_diversity.levels.merging import merge_to_leaders
from sft_diversity.levels.tag_prompt import PROMPT
from sft_diversity.levels.tag_units import make_from_tags
from sft_diversity.levels.tagging import TagOptions

_STAGE = "index"
_ENCODE_BLOCK = 4_096
_OF_PHRASES = frozenset({"max_share", "least_score"})
_OF_TAGS = frozenset({"extractor", "endpoint", "tags"})


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
        default="encoder", description="merge near-synonyms by the encoder's cosine, or not"
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

    def inputs(self, sources: Sources, options: MesoOptions) -> dict[str, str]:
        """Return the encoder's revision, if units are to be merged, and the prompt's, if tagged."""
        if options.merge == "none":
            return _prompt(options)
        if sources.encoder is None:
            raise UsageError(
                "index: meso merges near-synonyms with an encoder and none was given; "
                "set meso.merge: none to do without"
            )
        return {"encoder": sources.encoder} | _prompt(options)

    def make(self, sources: Sources, options: MesoOptions, draft: folder.Draft) -> Made:
        """Return the incidence of units."""
        if options.extractor == "llm":
            return make_from_tags(
                sources, options, draft, lambda names: encode_units(draft, names, sources)
            )
        from sft_diversity.levels import passes  # numba takes its time to load
        from sft_diversity.levels.choosing import Chooser
        from sft_diversity.levels.units import choose_units

        wanted = passes.part_work(sources.corpus, sources.component, VERSION)
        rows = parts.gather(sources.corpus, sources.ready, wanted)
        shards, ids = passes.read_shards(draft, rows, sources.component)
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
        kind_of = _kinds(sources, options, draft, names, usage, standing)
        figures["units_merged"] = len(np.unique(kind_of[standing]))
        picked = chooser.final(kind_of)
        leaders, kinds = np.unique(kind_of[held.units[picked]], return_inverse=True)
        pairs = held.rows[picked], kinds, held.counts[picked]
        place = np.full(len(names) + 1, -1)  # the last is that of -1, a unit that fell out
        place[leaders] = np.arange(len(leaders))
        named = [names[unit] for unit in leaders.tolist()]
        incidence, table = of_named_kinds(named, pairs, len(ids), (names, place[kind_of]))
        return Made(incidence, ids, table, figures | {"units_kept": len(leaders)})


def _prompt(options: MesoOptions) -> dict[str, str]:
    return {"prompt": PROMPT} if options.extractor == "llm" else {}


def _kinds(
    sources: Sources,
    options: MesoOptions,
    draft: folder.Draft,
    names: Sequence[str],
    usage: npt.NDArray[np.int64],
    standing: npt.NDArray[np.bool_],
) -> npt.NDArray[np.int32]:
    """Return the kind of each unit: its leader after merging, -1 for a unit that fell out."""
    kind_of = np.where(standing, np.arange(len(standing)), -1).astype(np.int32)
    if options.merge == "encoder":
        places = np.flatnonzero(standing)
        vectors = encode_units(draft, [names[i] for i in places.tolist()], sources)
        kind_of[places] = places[merge_to_leaders(vectors, usage[places], options.threshold)]
    return kind_of


def encode_units(
    draft: folder.Draft, names: Sequence[str], sources: Sources
) -> npt.NDArray[np.float32]:
    """Return the unit vectors of the units' names; finished blocks are kept in the draft."""
    assert sources.encode is not None  # `Meso.inputs` checks it
    blocks = []
    with progress.progress("index meso: unit vectors", len(names), "units") as bar:
        for start in range(0, len(names), _ENCODE_BLOCK):
            stopping.safe_point(_STAGE)
            part = names[start : start + _ENCODE_BLOCK]
            name = f"{PARTS}/vectors-{start:08d}.npy"
            if not draft.has(name):
                block = np.asarray(sources.encode(part), dtype=np.float32)
                with draft.writing(name) as path, path.open("wb") as handle:
                    np.save(handle, block)
            blocks.append(np.load(draft.path / name, allow_pickle=False))
            bar.advance(len(part))
    vectors: npt.NDArray[np.float32] = np.concatenate(blocks)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return vectors
