"""Micro level: kinds are the token types of the mid-frequency band."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from pydantic import Field, field_validator, model_validator

from sft_diversity.core import arrow
from sft_diversity.core.config import Config
from sft_diversity.core.errors import DataError
from sft_diversity.core.incidence import Incidence
from sft_diversity.core.stage import Ask, Job
from sft_diversity.core.tokens import TokenPass
from sft_diversity.levels import band as bands
from sft_diversity.levels.base import Indexed

if TYPE_CHECKING:
    from sft_diversity.levels.stage import IndexConfig


class MicroOptions(Config):
    """The band of document frequencies."""

    band: str = Field(
        default=bands.AUTO,
        description="samples that may hold a token type, LOW:HIGH, both ends in; auto: "
        f"{bands.PUBLISHED}, widened until four fifths of the samples hold a kind",
    )

    @model_validator(mode="before")
    @classmethod
    def _no_key_of_old(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        if "tokenizer" in given:
            raise ValueError(
                "the tokenizer is named by the option `tokenizer`, beside `micro` and not in it"
            )
        old = {"band_min": 10, "band_max": 500}
        if old.keys() & given.keys():
            ends = {**old, **given}
            raise ValueError(
                "band_min and band_max are one key now; "
                f'give micro.band: "{ends["band_min"]}:{ends["band_max"]}"'
            )
        return given

    @field_validator("band", mode="before")
    @classmethod
    def _two_ends(cls, given: Any) -> str:
        return str(bands.parse(given) or bands.AUTO)


class Micro:
    """Level over a token pass of the component."""

    def needs(self, config: IndexConfig, ask: Ask) -> None:
        """Read the token pass."""
        options = {"component": config.component, "tokenizer": config.tokenizer}
        ask.stage("tokens", "tokens", options)

    def make(self, job: Job[IndexConfig]) -> Indexed:
        """Return the incidence of the token types in the band."""
        tokens, options = TokenPass(job.inputs["tokens"].path), job.config.micro
        samples = arrow.joined([tokens.kinds["samples"]], np.int64)
        band = bands.parse(options.band) or bands.widened(tokens.blocks, samples)
        keep = bands.within(samples, band)
        if not keep.any():
            raise DataError(
                f"index: no token type is held by {band.low:,} to {band.high:,} of "
                f"{len(tokens.lengths):,} samples; widen the band, --band LOW:HIGH"
            )
        banded = keep_kinds(tokens.blocks(), keep)
        with_token = int(np.count_nonzero(tokens.lengths))
        share = int(np.count_nonzero(np.diff(banded.indptr))) / with_token
        result: dict[str, Any] = {
            "token_types": len(keep),
            "below_band": int((samples < band.low).sum()),
            "above_band": int((samples > band.high).sum()),
            "band": str(band),
            "share_with_kind": round(share, 6),
        }
        auto = " (auto)" if options.band == bands.AUTO else ""
        line = f"band {band}{auto}, {share:.1%} of the samples with a token hold a kind"
        kinds = tokens.kinds.filter(arrow.truths(keep))
        return Indexed(banded, tokens.ids, kinds, result, lines=(line,))


def keep_kinds(blocks: Iterable[Incidence], keep: npt.NDArray[np.bool_]) -> Incidence:
    """Return the incidence over the kinds in `keep` alone, renumbered in their order.

    `blocks` are the whole incidence, some rows at a time. Time O(nnz); memory the result twice,
    and one block.
    """
    number = np.cumsum(keep, dtype=np.int32) - 1
    sizes, indices, counts = [np.zeros(1, np.int64)], [], []
    for block in blocks:
        stays = keep[block.indices]
        before = np.concatenate([[0], np.cumsum(stays, dtype=np.int64)])
        sizes.append(np.diff(before[block.indptr]))
        indices.append(number[block.indices[stays]].astype(np.int32))
        counts.append(block.counts[stays])
    indptr = np.cumsum(np.concatenate(sizes))
    return Incidence(indptr, _joined(indices), _joined(counts), int(keep.sum()))


def _joined(parts: list[npt.NDArray[np.int32]]) -> npt.NDArray[np.int32]:
    return np.concatenate(parts) if parts else np.zeros(0, np.int32)
