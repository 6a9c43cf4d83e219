"""Meso level: kinds are instruction units, short phrases that say what a sample is about."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from sft_diversity.core import folder, parts, progress, stopping
from sft_diversity.core.config import Config
from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.core.incidence import Incidence
from sft_diversity.endpoint.config import EndpointConfig
from sft_diversity.levels.base import PARTS, VERSION, Encode, Made, Sources
from sft_diversity.levels.merging import merge_to_leaders
from sft_diversity.levels.tag_prompt import PROMPT
from sft_diversity.levels.tag_units import EncodeNames, make_from_tags
from sft_diversity.levels.tagging import TagOptions

if TYPE_CHECKING:
    from sft_diversity.levels.units import Held, Units

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
            return make_from_tags(sources, options, draft, _encoder(sources))
        from sft_diversity.levels.passes import (  # numba takes its time to load
            count_ngrams,
            hold_units,
            part_work,
            read_shards,
            survey,
            unit_names,
        )
        from sft_diversity.levels.units import choose_units

        wanted = part_work(sources.corpus, sources.component, VERSION)
        rows = parts.gather(sources.corpus, sources.ready, wanted)
        shards, ids = read_shards(draft, rows, sources.component)
        bounds = options.bounds(len(ids))
        ground = survey(shards, len(ids), bounds, options.language)
        counted = count_ngrams(shards, ground)
        units = choose_units(
            counted.table, ground.normal_samples, ground.normal_bits, len(ids), bounds
        )
        if not len(units.keys):
            raise DataError(
                f"index: meso finds no unit that {bounds[0]} to {bounds[1]} of {len(ids):,} "
                "samples hold; lower meso.min_samples or ingest more data"
            )
        names = unit_names(counted, ground, units.keys)
        held = hold_units(shards, ground, units.keys)
        del shards
        chooser = Chooser(units, held, len(ids), options)
        standing = chooser.standing()
        figures = {
            "units_raw": len(counted.raw),
            "units_normalised": int((counted.table.candidate > 0).sum()),
            "units_frequent": len(units.keys),
            "units_chosen": int(standing.sum()),
            "min_samples": bounds[0],
            "max_samples": bounds[1],
        }
        kind_of = _kinds(sources, options, draft, names, chooser.usage(), standing)
        figures["units_merged"] = len(np.unique(kind_of[standing]))
        picked = chooser.final(kind_of)
        return _made(ids, names, held, kind_of, picked, figures)


def _prompt(options: MesoOptions) -> dict[str, str]:
    return {"prompt": PROMPT} if options.extractor == "llm" else {}


class Chooser:
    """Chooses the units of every sample, again and again as units leave or become one kind."""

    def __init__(self, units: Units, held: Held, n_samples: int, options: MesoOptions) -> None:
        self._units, self._held, self._n = units, held, n_samples
        self._options, self._least = options, options.bounds(n_samples)[0]

    def _pick(self, kind_of: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
        """Return which pairs are chosen; units of kind -1 take no part."""
        from sft_diversity.levels.units import pick_per_sample, scores

        held, units = self._held, self._units
        alive = kind_of >= 0
        samples = np.maximum(units.samples, units.samples[np.maximum(kind_of, 0)])
        worth = scores(held, units.quality, samples, self._n)
        worth[~alive[held.units]] = 0.0
        chosen: npt.NDArray[np.bool_] = pick_per_sample(
            held.rows,
            held.units,
            worth,
            units.words,
            kind_of,
            self._options.max_units,
            self._options.least_score,
        )
        return chosen

    def usage(self, kind_of: npt.NDArray[np.int32] | None = None) -> npt.NDArray[np.int64]:
        """Return how many samples choose each unit."""
        many = len(self._units.keys)
        if kind_of is None:
            kind_of = np.arange(many, dtype=np.int32)
        return np.bincount(self._held.units[self._pick(kind_of)], minlength=many)

    def standing(self) -> npt.NDArray[np.bool_]:
        """Return the units that enough samples choose."""
        return self.usage() >= self._least

    def final(self, kind_of: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
        """Return the chosen pairs of the kinds that enough samples hold in the end.

        A kind that too few samples chose leaves `kind_of`, and its samples choose once more.
        """
        for _ in range(2):
            picked = self._pick(kind_of)
            kinds = kind_of[self._held.units[picked]]
            rare = np.bincount(kinds, minlength=len(kind_of)) < self._least
            kind_of[rare[np.maximum(kind_of, 0)]] = -1
        return picked & (kind_of[self._held.units] >= 0)


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
        assert sources.encode is not None
        places = np.flatnonzero(standing)
        vectors = encode_units(draft, [names[i] for i in places.tolist()], sources.encode)
        kind_of[places] = places[merge_to_leaders(vectors, usage[places], options.threshold)]
    return kind_of


def _encoder(sources: Sources) -> EncodeNames:
    def encode(draft: folder.Draft, names: list[str]) -> npt.NDArray[np.float32]:
        assert sources.encode is not None
        return encode_units(draft, names, sources.encode)

    return encode


def encode_units(
    draft: folder.Draft, names: Sequence[str], encode: Encode
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
                with draft.writing(name) as path, path.open("wb") as handle:
                    np.save(handle, block)
            blocks.append(np.load(draft.path / name, allow_pickle=False))
            bar.advance(len(part))
    vectors: npt.NDArray[np.float32] = np.concatenate(blocks)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return vectors


def _made(
    ids: pa.Array,
    names: Sequence[str],
    held: Held,
    kind_of: npt.NDArray[np.int32],
    picked: npt.NDArray[np.bool_],
    figures: dict[str, Any],
) -> Made:
    """Return the incidence of the chosen pairs, kinds in alphabetical order."""
    rows, leaders = held.rows[picked], kind_of[held.units[picked]]
    used = np.unique(leaders)
    alphabetical = sorted(used.tolist(), key=lambda unit: names[unit])
    number = np.zeros(len(kind_of), dtype=np.int32)
    number[alphabetical] = np.arange(len(alphabetical), dtype=np.int32)
    kinds = number[leaders]
    order = np.lexsort((kinds, rows))
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(ids)))])
    members: list[list[str]] = [[] for _ in alphabetical]
    for unit in np.flatnonzero(kind_of >= 0).tolist():
        members[number[kind_of[unit]]].append(names[unit])
    table = pa.table(
        {
            "kind": pa.array([names[unit] for unit in alphabetical], pa.string()),
            "samples": np.bincount(kinds, minlength=len(alphabetical)),
            "members": pa.array(members, pa.list_(pa.string())),
        }
    )
    incidence = Incidence(
        indptr.astype(np.int64), kinds[order], held.counts[picked][order], len(alphabetical)
    )
    return Made(incidence, ids, table, figures | {"units_kept": len(alphabetical)})
